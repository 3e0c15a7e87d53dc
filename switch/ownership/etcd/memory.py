"""etcd in memory, for tests and simulations: leases on whatever clock there is, faults
on cue. `MemoryEtcd` is the cluster, and a `MemoryStore` is what one node has of it.

Nothing happens by itself: `tick` lets leases run out whose time is over, and so does
every call; when what befalls a call is decided by whoever made the store.
"""

from __future__ import annotations

import asyncio
import contextvars
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

import msgspec

from switch.ownership.etcd.errors import (
    EtcdError,
    EtcdLeaseGone,
    EtcdNoSpace,
    EtcdUnavailable,
    EtcdUnknown,
)
from switch.ownership.etcd.store import (
    Change,
    Delete,
    Get,
    IsAt,
    KeyValue,
    Lease,
    Listing,
    Oldest,
    Operation,
    Outcome,
    Put,
)

T = TypeVar("T")


class Fate(msgspec.Struct, frozen=True):
    """What becomes of a call: `unsent` is known not to have happened; `lost` never
    happens; `unanswered` has happened; `late` happens so many seconds after it was
    given up. With these three nobody knows, after `seconds`, of which `way_there` is
    the part that it takes to get to etcd."""

    becomes: Literal["answered", "unsent", "lost", "unanswered", "late"] = "answered"
    seconds: float = 0.0
    late_seconds: float = 0.0
    way_there: float = 0.5


# By the name of the method.
Fates = Callable[[str], Fate]
GOOD = Fate()


class _Lease(msgspec.Struct):
    ttl_s: int
    ends_at: float


class MemoryEtcd:
    def __init__(self, now: Callable[[], float]) -> None:
        self.revision = 1
        self.has_space = True
        self.now = now
        self.items: dict[str, KeyValue] = {}
        self.leases: dict[int, _Lease] = {}
        self._changes: list[Change] = []
        self._compacted = 0
        self._lease = 0
        self._stores: list[MemoryStore] = []

    def tick(self) -> None:
        for lease in [*self.leases]:
            if self.now() >= self.leases[lease].ends_at:
                self.expire(lease)

    def expire(self, lease: int) -> None:
        """Now, whatever its time."""
        if self.leases.pop(lease, None) is None:
            return
        gone = [item.key for item in self.items.values() if item.lease == lease]
        if gone:
            self._write(tuple(Delete(key) for key in sorted(gone)))

    def elect(self) -> None:
        """Another leader: all leases begin anew."""
        self.tick()
        for lease in self.leases.values():
            lease.ends_at = self.now() + lease.ttl_s

    def compact(self) -> None:
        """Nothing before now is kept."""
        self._compacted = self.revision
        self._changes.clear()

    def restore(self, items: dict[str, KeyValue], revision: int) -> None:
        """As from a copy of `items`: with those leases, and a history of its own."""
        self.items = dict(items)
        self.revision = revision
        self.compact()
        wanted = {item.lease for item in items.values()}
        for lease in [*self.leases]:
            if lease not in wanted:
                del self.leases[lease]
        self.cut()

    def cut(self) -> None:
        """All watches end."""
        for store in self._stores:
            store.cut()

    # -- what stores ask

    def listing(self, prefix: str) -> Listing:
        found = (self.items[key] for key in sorted(self.items))
        items = tuple(item for item in found if item.key.startswith(prefix))
        return Listing(self.revision, items)

    def transaction(
        self,
        condition: IsAt,
        then: tuple[Operation, ...],
        otherwise: tuple[Operation, ...],
    ) -> Outcome:
        item = self.items.get(condition.key)
        is_at = 0 if item is None else item.create_revision
        is_met = is_at == condition.create_revision
        return self._go_through(is_met, then if is_met else otherwise)

    def _go_through(self, is_met: bool, operations: tuple[Operation, ...]) -> Outcome:
        for each in operations:
            if isinstance(each, Put):
                if not self.has_space:
                    raise EtcdNoSpace("no space, as scripted")
                if each.lease and each.lease not in self.leases:
                    raise EtcdLeaseGone(f"no lease {each.lease:x}")
        self._write(
            tuple(each for each in operations if isinstance(each, Put | Delete))
        )
        found: list[KeyValue | None] = []
        for each in operations:
            if isinstance(each, Get):
                found.append(self.items.get(each.key))
            elif isinstance(each, Oldest):
                line = self.listing(each.prefix).items
                found.append(
                    min(line, key=lambda item: item.create_revision, default=None)
                )
        return Outcome(is_met, self.revision, tuple(found))

    def grant(self, ttl_s: int) -> Lease:
        if not self.has_space:
            raise EtcdNoSpace("no space, as scripted")
        self._lease += 1
        self.leases[self._lease] = _Lease(ttl_s, self.now() + ttl_s)
        return Lease(self._lease, ttl_s)

    def keep_alive(self, lease: int) -> int:
        found = self.leases.get(lease)
        if found is None:
            raise EtcdLeaseGone(f"no lease {lease:x}")
        found.ends_at = self.now() + found.ttl_s
        return found.ttl_s

    def _write(self, operations: tuple[Put | Delete, ...]) -> None:
        """All of them at one revision; at none, if nothing changes."""
        revision = self.revision + 1
        changes: list[Change] = []
        for each in operations:
            old = self.items.get(each.key)
            after = None
            if isinstance(each, Put):
                created = revision if old is None else old.create_revision
                after = KeyValue(each.key, each.value, created, revision, each.lease)
                self.items[each.key] = after
            elif old is None:
                continue
            else:
                del self.items[each.key]
            changes.append(Change(each.key, revision, after))
        if changes:
            self.revision = revision
            self._changes += changes
            for store in self._stores:
                store.wake()

    # -- watching

    def add(self, store: MemoryStore) -> None:
        self._stores.append(store)

    def changes_from(self, revision: int, prefix: str) -> tuple[Change, ...]:
        if revision <= self._compacted:
            raise EtcdUnavailable(f"watch: compacted at {self._compacted}")
        at = bisect_left(self._changes, revision, key=lambda change: change.revision)
        found = self._changes[at:]
        return tuple(change for change in found if change.key.startswith(prefix))


class MemoryStore:
    """See `switch.ownership.etcd.store.Store`."""

    def __init__(self, etcd: MemoryEtcd, fates: Fates = lambda name: GOOD) -> None:
        self._etcd = etcd
        self._fates = fates
        self._cuts = 0
        # In order: a simulation is to be the same each time.
        self._watches: list[asyncio.Event] = []
        etcd.add(self)

    def wake(self) -> None:
        for watch in self._watches:
            watch.set()

    def cut(self) -> None:
        """Its watches end."""
        self._cuts += 1
        self.wake()

    async def listing(self, prefix: str) -> Listing:
        return await self._read("listing", lambda: self._etcd.listing(prefix))

    async def transaction(
        self,
        condition: IsAt,
        then: tuple[Operation, ...],
        otherwise: tuple[Operation, ...] = (),
    ) -> Outcome:
        return await self._call(
            "transaction", lambda: self._etcd.transaction(condition, then, otherwise)
        )

    async def grant(self, ttl_s: int) -> Lease:
        return await self._read("grant", lambda: self._etcd.grant(ttl_s))

    async def keep_alive(self, lease: int, seconds: float) -> int:
        try:
            async with asyncio.timeout(seconds):
                return await self._read(
                    "keep_alive", lambda: self._etcd.keep_alive(lease)
                )
        except TimeoutError:
            raise EtcdUnavailable(f"nothing within {seconds:g} s") from None

    async def revoke(self, lease: int) -> None:
        await self._read("revoke", lambda: self._etcd.expire(lease))

    async def _read(self, name: str, work: Callable[[], T]) -> T:
        try:
            return await self._call(name, work)
        except EtcdUnknown as error:
            raise EtcdUnavailable(str(error)) from None

    async def _call(self, name: str, work: Callable[[], T]) -> T:
        fate = self._fates(name)
        if fate.becomes == "unsent":
            await asyncio.sleep(fate.seconds)
            raise EtcdUnavailable(f"{name}: unsent, as scripted")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        there = fate.seconds * fate.way_there
        if fate.becomes == "answered":
            _elsewhere(there, self._happen, work, answer, fate.seconds - there)
            return await answer
        if fate.becomes == "unanswered":
            _elsewhere(there, self._happen, work)
        elif fate.becomes == "late":
            _elsewhere(fate.seconds + fate.late_seconds, self._happen, work)
        await asyncio.sleep(fate.seconds)
        raise EtcdUnknown(f"{name}: {fate.becomes}, as scripted")

    def _happen(
        self,
        work: Callable[[], T],
        answer: asyncio.Future[T] | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._etcd.tick()
        try:
            result = work()
        except EtcdError as error:
            if answer is not None:
                _elsewhere(seconds, _tell, answer.set_exception, answer, error)
        else:
            if answer is not None:
                _elsewhere(seconds, _tell, answer.set_result, answer, result)

    @asynccontextmanager
    async def watch(
        self, prefix: str
    ) -> AsyncIterator[AsyncIterator[tuple[Change, ...]]]:
        fate = self._fates("watch")
        await asyncio.sleep(fate.seconds)
        if fate.becomes != "answered":
            raise EtcdUnavailable("watch: not begun, as scripted")
        news = asyncio.Event()
        from_revision = self._etcd.revision + 1
        self._watches.append(news)
        try:
            yield self._watched(news, prefix, from_revision)
        finally:
            self._watches.remove(news)

    async def _watched(
        self, news: asyncio.Event, prefix: str, from_revision: int
    ) -> AsyncIterator[tuple[Change, ...]]:
        cuts = self._cuts
        while True:
            fate = self._fates("watch")
            await asyncio.sleep(fate.seconds)
            if fate.becomes != "answered" or self._cuts != cuts:
                raise EtcdUnavailable("watch: cut, as scripted")
            news.clear()
            for batch in self._batches(from_revision, prefix):
                from_revision = batch[0].revision + 1
                yield batch
            await news.wait()

    def _batches(self, from_revision: int, prefix: str) -> list[tuple[Change, ...]]:
        """What changed at one revision comes together."""
        by_revision: dict[int, list[Change]] = {}
        for change in self._etcd.changes_from(from_revision, prefix):
            by_revision.setdefault(change.revision, []).append(change)
        return [tuple(changes) for changes in by_revision.values()]


def _tell(
    tell: Callable[[Any], None], answer: asyncio.Future[Any], what: object
) -> None:
    if not answer.done():
        tell(what)


def _elsewhere(seconds: float, callback: Callable[..., object], *args: Any) -> None:
    """Whatever becomes of the process that has asked, in a simulation of several."""
    asyncio.get_running_loop().call_later(
        seconds, callback, *args, context=contextvars.Context()
    )
