"""What one session of a node holds: see `switch.ownership.port.ClusterOwnership`.

Rule 1: keys of this session that nobody here holds or asks for are deleted when they
        are seen: a transaction that was given up may still happen.
Rule 2: what a watch tells of the time before a grant says nothing about the grant.
Rule 3: when what a session has in etcd is touched by somebody else, or is gone as if it
        had never been, it ends. A new one begins with nothing, and is right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final

from switch.observe.log import event
from switch.ownership import rendezvous
from switch.ownership.etcd.claims import PAUSE_SECONDS, Claims
from switch.ownership.etcd.errors import EtcdError
from switch.ownership.etcd.keys import Keys, member_of, value_of
from switch.ownership.etcd.locks import Locks
from switch.ownership.etcd.mirror import Mirror
from switch.ownership.etcd.session import Session, boot_seconds
from switch.ownership.etcd.store import Change, KeyValue, Store
from switch.ownership.port import (
    Gained,
    Grant,
    Lost,
    Member,
    MembersChanged,
    NodeNameTaken,
    Owner,
    OwnerChanged,
    OwnershipError,
    OwnershipEvent,
    OwnershipUnavailable,
    SessionEnded,
    SessionOver,
    ShardTaken,
)

# For so long a run of this node that was killed may seem to be there: a change of
# etcd's leader lets leases begin anew.
TTLS_WAITED_MAX: Final = 3

_log = logging.getLogger("switch.ownership")


class EtcdOwnership:
    """Of one session: made, joined, left. `clock` counts seconds while the machine
    sleeps, too."""

    def __init__(
        self,
        store: Store,
        cluster: str,
        member: Member,
        *,
        ttl_s: int,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self._member = member
        self._keys = Keys(cluster)
        self._session = Session(store, member.session, ttl_s, self._ended, clock)
        self._claims = Claims(store, self._session, value_of(member))
        self._locks = Locks(store, self._claims, self._session, self._start)
        self._mirror = Mirror(store, self._keys.live, self)
        self._tasks: list[asyncio.Task[None]] = []
        self._node_key = self._keys.node(member.node)
        self._node_revision = 0
        self._is_leaving = False
        self._members: dict[str, Member] = {}
        self._grants: dict[int, Grant] = {}
        self._owners: dict[int, tuple[KeyValue, Owner]] = {}  # as read from the mirror
        self._acquiring: list[int] = []
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._events: dict[tuple[type[OwnershipEvent], int], OwnershipEvent] = {}
        self._has_events = asyncio.Event()

    @property
    def member(self) -> Member:
        return self._member

    @property
    def lease(self) -> int:
        return self._session.lease

    @property
    def is_over(self) -> bool:
        return self._session.has_ended

    @property
    def is_current(self) -> bool:
        """Whether it is heard what others do; else all that is known is old."""
        return self._mirror.is_current

    def now(self) -> float:
        return self._session.clock()

    def is_valid_until(self) -> float:
        return self._session.valid_until

    # -- from beginning to end

    async def join(self) -> None:
        try:
            await self._session.open()
            self._node_revision = await self._enter()
            self._start(self._mirror.run())
            await self._session.unless_over(self._mirror.reached(self._node_revision))
        except EtcdError as error:
            await self.leave()
            raise OwnershipUnavailable(str(error)) from error
        except (OwnershipError, asyncio.CancelledError):
            await self.leave()
            raise

    async def _enter(self) -> int:
        """A run of this node that was killed is waited out."""
        until = self.now() + self._session.ttl_s * TTLS_WAITED_MAX
        while True:
            item = (await self._claims.create(self._node_key)).item
            other = member_of(item)
            if other == self._member:
                return item.create_revision
            if self.now() >= until:
                raise NodeNameTaken(
                    f"expected nobody else to be node {self._member.node}, got session "
                    f"{other.session} at {other.address}",
                    owner=other.session,
                )
            await asyncio.sleep(PAUSE_SECONDS)

    async def leave(self) -> None:
        self._is_leaving = True
        self._session.end("the node left")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close("the node left")

    def _ended(self, reason: str) -> None:
        self._grants.clear()
        self._events = {(SessionEnded, 0): SessionEnded(reason)}
        self._has_events.set()
        event(
            _log,
            logging.INFO if self._is_leaving else logging.WARNING,
            "a session of this node ended",
            node=self._member.node,
            session=self._member.session,
            reason=reason,
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)
        return task

    # -- what is known

    def members(self) -> tuple[Member, ...]:
        return tuple(self._members[node] for node in sorted(self._members))

    def owner(self, shard: int) -> Owner | None:
        item = self._mirror.items.get(self._keys.shard(shard))
        if item is None:
            return None
        known = self._owners.get(shard)
        # Asked for with each request that is passed on.
        if known is None or known[0] is not item:
            known = item, Owner(member_of(item), item.create_revision)
            self._owners[shard] = known
        return known[1]

    def wanted(self, shard: int) -> Member | None:
        node = rendezvous.wanted(shard, self._members)
        return None if node is None else self._members[node]

    def held(self, shard: int) -> Grant | None:
        return self._grants.get(shard) if self._session.is_valid else None

    # -- what is taken and given back

    async def acquire(self, shard: int) -> Grant:
        key = self._keys.shard(shard)
        self._acquiring.append(shard)
        try:
            while shard in self._leaving:
                await asyncio.wait({self._leaving[shard]})
            item = (await self._claims.create(key)).item
            owner = member_of(item)
            if owner != self._member:
                raise ShardTaken(
                    f"expected shard {shard} to be free, got {owner.node} as its owner",
                    owner=owner.session,
                )
            grant = Grant(self._member.session, item.create_revision)
            self._check_still_there(key, item)
            if self._grants.get(shard) != grant:
                self._grants[shard] = grant
                self._emit(shard, Gained(shard, grant))
            return grant
        finally:
            self._acquiring.remove(shard)
            now = self._mirror.items.get(key)
            if now is not None:
                self._delete_if_stray(shard, now)

    def _check_still_there(self, key: str, item: KeyValue) -> None:
        """The watch may have been quicker than the answer."""
        if self._mirror.revision < item.create_revision:
            return
        now = self._mirror.items.get(key)
        if now is None or now.create_revision != item.create_revision:
            raise OwnershipUnavailable(
                f"expected {key} to be kept, got another or none"
            )

    async def release(self, shard: int) -> None:
        grant = self._grants.pop(shard, None)
        if grant is not None:
            await asyncio.shield(self._leave(shard, grant.create_revision))

    def _leave(self, shard: int, create_revision: int) -> asyncio.Task[None]:
        assert shard not in self._leaving
        task = self._start(self._delete(shard, create_revision))
        self._leaving[shard] = task
        return task

    async def _delete(self, shard: int, create_revision: int) -> None:
        try:
            with suppress(SessionOver):
                await self._claims.delete(self._keys.shard(shard), create_revision)
        finally:
            del self._leaving[shard]

    def _delete_if_stray(self, shard: int, item: KeyValue) -> None:
        """One that a watch tells of, which is behind, may be gone already: that does no
        harm, for the next one of the shard is another."""
        if (
            member_of(item) != self._member
            or shard in self._acquiring
            or shard in self._leaving
        ):
            return
        grant = self._grants.get(shard)
        if grant is None and self._session.is_valid:
            self._leave(shard, item.create_revision)

    def lock(self, name: str) -> AbstractAsyncContextManager[Grant]:
        return self._locks.lock(self._keys.line(name))

    # -- what is told

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            node = self._keys.node_of(change.key)
            shard = self._keys.shard_of(change.key)
            if node is not None:
                self._node_changed(node, change)
            elif shard is not None:
                self._shard_changed(shard, change)

    def went_back(self) -> None:
        self._session.end("expected etcd to go on, got an earlier revision of it")

    def _node_changed(self, node: str, change: Change) -> None:
        member = None if change.after is None else member_of(change.after)
        if member is not None and member.node == node:
            self._members[node] = member
        else:
            self._members.pop(node, None)
        self._emit(0, MembersChanged(self.members()))
        is_news = change.revision > self._node_revision
        if change.key == self._node_key and is_news and member != self._member:
            self._session.end(f"expected {change.key} to be kept, got another or none")

    def _shard_changed(self, shard: int, change: Change) -> None:
        item = change.after
        owner = None if item is None else Owner(member_of(item), item.create_revision)
        self._emit(shard, OwnerChanged(shard, owner))
        grant = self._grants.get(shard)
        at = 0 if item is None else item.create_revision
        if grant is not None and at != grant.create_revision < change.revision:
            del self._grants[shard]
            reason = f"expected {change.key} to be kept, got another or none"
            self._emit(shard, Lost(shard, grant, reason))
        if item is not None:
            self._delete_if_stray(shard, item)

    def _emit(self, shard: int, news: OwnershipEvent) -> None:
        key = (type(news), shard)
        if not self._session.has_ended:
            self._events.pop(key, None)
            self._events[key] = news
            self._has_events.set()

    async def events(self) -> AsyncIterator[OwnershipEvent]:
        while True:
            while self._events:
                news = self._events.pop(next(iter(self._events)))
                yield news
                if isinstance(news, SessionEnded):
                    return
            self._has_events.clear()
            await self._has_events.wait()
