"""Owners and journals in memory, for several nodes of one process.

They keep what their ports promise and nothing beyond: a lease runs out though its node
is only paused, and an append takes effect at some moment between call and return.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from switch.journal.errors import JournalError, JournalStopped, JournalUnknown
from switch.journal.port import ShardRecord
from switch.ledger import Limits, State, apply_payload
from switch.ownership.port import OwnershipError

TTL_S = 2.0
KEEP_ALIVE_S = TTL_S / 3
# How long the journal waits for an answer.
PATIENCE_S = 1.5


class Member(NamedTuple):
    node: str
    session: str
    address: str


class Grant(NamedTuple):
    session: str
    create_revision: int


class Owner(NamedTuple):
    member: Member
    create_revision: int


class Registry:
    """What etcd would know."""

    def __init__(self) -> None:
        self.sessions: dict[str, MemoryShards] = {}
        self.keys: dict[int, Grant] = {}
        self.unreachable: set[str] = set()  # nodes
        self.locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._revisions = itertools.count(1)

    def revision(self) -> int:
        return next(self._revisions)

    def reach(self, node: str) -> None:
        if node in self.unreachable:
            raise OwnershipError("expected an answer of etcd, got none")

    def end(self, session: str) -> None:
        if self.sessions.pop(session, None) is not None:
            for shard, grant in tuple(self.keys.items()):
                if grant.session == session:
                    del self.keys[shard]
            self.tell()

    def tell(self) -> None:
        for each in self.sessions.values():
            if each.member.node not in self.unreachable:
                each.news.set()


class MemoryShards:
    """`switch.cluster.port.ShardOwnership`."""

    def __init__(self, registry: Registry, node: str, session: str) -> None:
        self.member = Member(node, session, node)
        self.news = asyncio.Event()
        self._registry = registry
        self._valid_until = 0.0
        self._lease: asyncio.TimerHandle | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._is_over = False
        self._seen: tuple[Member, ...] = ()

    async def join(self) -> None:
        await asyncio.sleep(0.001)
        self._registry.reach(self.member.node)
        self._registry.sessions[self.member.session] = self
        self._renew()
        self._keeping = asyncio.create_task(self._keep())
        self._registry.tell()

    async def leave(self) -> None:
        self._finish()
        if self.member.node not in self._registry.unreachable:
            await asyncio.sleep(0.001)
            if self._lease is not None:
                self._lease.cancel()
            self._registry.end(self.member.session)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def is_valid_until(self) -> float:
        return self._valid_until

    def members(self) -> Sequence[Member]:
        if self.member.node not in self._registry.unreachable:
            self._seen = tuple(each.member for each in self._registry.sessions.values())
        return self._seen

    def owner(self, shard: int) -> Owner | None:
        grant = self._registry.keys.get(shard)
        if grant is None or self.member.node in self._registry.unreachable:
            return None
        return Owner(
            self._registry.sessions[grant.session].member, grant.create_revision
        )

    def wanted(self, shard: int) -> Member | None:
        members = sorted(self.members())
        return members[shard % len(members)] if members else None

    def held(self, shard: int) -> Grant | None:
        grant = self._registry.keys.get(shard)
        is_mine = grant is not None and grant.session == self.member.session
        return grant if is_mine else None

    async def acquire(self, shard: int) -> Grant:
        await asyncio.sleep(0.001)
        self._registry.reach(self.member.node)
        if self.member.session not in self._registry.sessions:
            raise OwnershipError("the session is over")
        grant = self._registry.keys.get(shard)
        if grant is None:
            grant = Grant(self.member.session, self._registry.revision())
            self._registry.keys[shard] = grant
            self._registry.tell()
        if grant.session != self.member.session:
            raise OwnershipError(f"shard {shard} is taken")
        return grant

    async def release(self, shard: int) -> None:
        await asyncio.sleep(0.001)
        self._registry.reach(self.member.node)
        if self.held(shard):
            del self._registry.keys[shard]
            self._registry.tell()

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        async with self._registry.locks[name]:
            yield

    async def events(self) -> AsyncIterator[object]:
        while not self._is_over:
            await self.news.wait()
            self.news.clear()
            yield None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            if self.member.node not in self._registry.unreachable:
                self._renew()

    def _renew(self) -> None:
        if self.member.session not in self._registry.sessions:
            return
        if self._lease is not None:
            self._lease.cancel()
        self._valid_until = self.now() + TTL_S
        self._lease = asyncio.get_running_loop().call_later(
            TTL_S + 0.05, self._registry.end, self.member.session
        )

    def _finish(self) -> None:
        self._is_over = True
        self.news.set()
        if self._keeping is not None:
            self._keeping.cancel()


class Store:
    """What Cassandra would know: each shard's entries that count, and whose it is."""

    def __init__(
        self, chance: random.Random, shard_count: int, records: Sequence[ShardRecord]
    ) -> None:
        self.entries: dict[int, list[ShardRecord]] = {
            shard: [] for shard in range(shard_count)
        }
        self.current: dict[int, str] = {}  # shard -> session
        self.fenced: set[str] = set()
        self.frozen: set[str] = set()  # nodes of which nothing is heard any more
        self.chance = chance
        for record in records:
            self.entries[record.shard].append(record)
        self.checkpoints = {
            shard: sum(record.count for record in records)
            for shard, records in self.entries.items()
        }

    def state(self, shard: int, limits: Limits) -> State:
        state = State(shard, limits)
        for record in self.entries[shard]:
            apply_payload(state, record.payload, record.first_sequence)
        return state


class MemorySession:
    """`switch.cluster.port.JournalSession`."""

    def __init__(self, store: Store, node: str, name: str) -> None:
        self.name = name
        self._store = store
        self._node = node
        self._number = 0
        self._stopped: Exception | None = None
        self._in_flight = False

    @property
    def position(self) -> int:
        return self._number

    async def begin(self) -> None:
        await self._way()

    async def read_ahead(self, shards: Sequence[int], limits: Limits) -> None:
        with suppress(JournalUnknown):
            await self._way()

    def forget_ahead(self) -> None:
        pass

    async def take(self, shards: Mapping[int, int], limits: Limits) -> dict[int, State]:
        await self._way()
        for shard in shards:
            former = self._store.current.get(shard)
            if former is not None:
                self._store.fenced.add(former)
        # Appends that have begun may still take effect up to here.
        await self._way()
        self._check()
        states = {}
        for shard in shards:
            self._store.current[shard] = self.name
            states[shard] = self._store.state(shard, limits)
        return states

    async def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        assert not self._in_flight, "two appends in flight"
        self._in_flight = True
        await self._way()
        for record in records:
            if self._store.current.get(record.shard) == self.name:
                self._store.entries[record.shard].append(record)
            else:
                assert self.name in self._store.fenced, "an entry of a shard given up"
        await self._way()
        self._check()
        self._number += 1
        self._in_flight = False
        return self._number

    async def confirm(self) -> None:
        await self._way()
        self._check()

    async def checkpoint(
        self, shard: int, sequence: int, position: object, data: bytes
    ) -> None:
        await self._way()
        self._check()
        self._store.checkpoints[shard] = sequence

    async def renew_checkpoint(
        self, shard: int, sequence: int, position: object
    ) -> bool:
        await self._way()
        self._check()
        return self._store.checkpoints[shard] == sequence

    async def give_up(self, shard: int) -> None:
        await self._way()
        self._check()
        if self._store.current.get(shard) == self.name:
            del self._store.current[shard]

    def stop(self, error: Exception) -> None:
        self._stopped = error

    def _check(self) -> None:
        if self._stopped is not None:
            raise JournalStopped(f"stopped: {self._stopped}")
        if self.name in self._store.fenced:
            raise JournalError("another session has taken over")

    async def _way(self) -> None:
        await asyncio.sleep(self._store.chance.uniform(0.000_2, 0.003))
        if self._node in self._store.frozen:
            await asyncio.sleep(PATIENCE_S)
            raise JournalUnknown("expected an answer of Cassandra, got none")
