"""Named locks: whoever wants one stands in line, and the oldest in it has it.

Rule 1: the place in line is taken by the very transaction that tells who is first: a
        lock that nobody has costs one round trip.
Rule 2: whoever waits watches the line while he waits, and no longer.
Rule 3: a place that may come to be after it was given up is looked for again: it would
        keep all others waiting until the session ends.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from switch.ownership.etcd.claims import Claims
from switch.ownership.etcd.mirror import Mirror
from switch.ownership.etcd.session import Session
from switch.ownership.etcd.store import Change, Store
from switch.ownership.port import Grant, OwnershipUnavailable, SessionOver

# etcd answers what it was asked, or gives up, in seven seconds.
LATE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0


class Locks:
    """`start` runs what goes on behind the caller's back, until the session ends."""

    def __init__(
        self,
        store: Store,
        claims: Claims,
        session: Session,
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._store = store
        self._claims = claims
        self._session = session
        self._start = start
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def lock(self, line: str) -> AsyncIterator[Grant]:
        key = f"{line}{self._session.name}-{next(self._numbers)}"
        create_revision: int | None = None
        is_doubtful = True
        try:
            claim = await self._claims.create(key, line)
            is_doubtful = claim.is_doubtful
            create_revision = claim.item.create_revision
            assert claim.first is not None
            if claim.first.key != key:
                await self._session.unless_over(self._wait(line, key))
            yield Grant(self._session.name, create_revision)
        except OwnershipUnavailable:
            is_doubtful = is_doubtful and create_revision is not None
            raise
        finally:
            if create_revision is not None or is_doubtful:
                self._start(self._give_up(key, create_revision, is_doubtful))

    async def _wait(self, line: str, key: str) -> None:
        waiter = _Waiter(key)
        mirror = Mirror(self._store, line, waiter)
        waiter.mirror = mirror
        watching = asyncio.ensure_future(mirror.run())
        try:
            await waiter.first
        finally:
            watching.cancel()

    async def _give_up(
        self, key: str, create_revision: int | None, is_doubtful: bool
    ) -> None:
        with suppress(SessionOver):
            if create_revision is not None:
                await self._claims.delete(key, create_revision)
            if is_doubtful:
                until = self._session.clock() + LATE_SECONDS
                while True:
                    await self._claims.delete_any(key)
                    if self._session.clock() >= until:
                        break
                    await asyncio.sleep(LOOK_SECONDS)


class _Waiter:
    """`first` is done when the key is the oldest in its line."""

    mirror: Mirror

    def __init__(self, key: str) -> None:
        self._key = key
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def changed(self, changes: Sequence[Change]) -> None:
        items = self.mirror.items
        if self.first.done():
            return
        if self._key not in items:
            self.first.set_exception(
                OwnershipUnavailable(f"expected {self._key} to be kept, got none")
            )
        elif (
            min(items.values(), key=lambda item: item.create_revision).key == self._key
        ):
            self.first.set_result(None)

    def went_back(self) -> None:
        if not self.first.done():
            self.first.set_exception(
                OwnershipUnavailable("expected etcd to go on, got an earlier revision")
            )
