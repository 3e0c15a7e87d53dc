"""Keys of a session, created and deleted with an outcome that is known in the end.

Rule 1: a key is created by a transaction, if there is none, and hangs on the session's
        lease. With no answer, another one with the same condition is put, which makes
        it harmless; what that finds tells what became of the first.
Rule 2: one that was not answered may still happen, long after another was. So the
        caller is told, and looks at the key again later.
Rule 3: while the session lasts, what is to be deleted is tried until it is; behind its
        end the lease does it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from switch.ownership.etcd.errors import EtcdError, EtcdLeaseGone, EtcdUnknown
from switch.ownership.etcd.session import Session
from switch.ownership.etcd.store import (
    Delete,
    Get,
    IsAt,
    KeyValue,
    Oldest,
    Operation,
    Put,
    Store,
)
from switch.ownership.port import OwnershipUnavailable

# Between two attempts to find out what happened.
PAUSE_SECONDS: Final = 0.1


class Claim(msgspec.Struct, frozen=True):
    """What is at the key now: this session's, or another's, which was there before.
    `first` is the oldest below the prefix that was asked for."""

    item: KeyValue
    first: KeyValue | None
    is_doubtful: bool  # one more transaction may come


class Claims:
    def __init__(self, store: Store, session: Session, value: bytes) -> None:
        self._store = store
        self._session = session
        self._value = value

    async def create(self, key: str, oldest_of: str | None = None) -> Claim:
        """Raises OwnershipUnavailable when nothing was done, and SessionOver."""
        reads: tuple[Operation, ...] = (Get(key),)
        if oldest_of is not None:
            reads = (*reads, Oldest(oldest_of))
        is_doubtful = False
        while True:
            self._session.check()
            put = Put(key, self._value, self._session.lease)
            try:
                outcome = await self._store.transaction(
                    IsAt(key, 0), (put, *reads), reads
                )
            except EtcdUnknown:
                is_doubtful = True
            except EtcdLeaseGone as error:
                self._session.end(str(error))
            except EtcdError as error:
                if not is_doubtful:
                    raise OwnershipUnavailable(str(error)) from error
            else:
                self._session.check()
                item, *others = outcome.found
                assert item is not None, f"neither created nor found: {key}"
                return Claim(item, others[0] if others else None, is_doubtful)
            await self._pause()

    async def delete(self, key: str, create_revision: int) -> None:
        """The very one that was created then. Raises SessionOver, and nothing else."""
        await self._until_done(IsAt(key, create_revision), (Delete(key),), ())

    async def delete_any(self, key: str) -> None:
        """Whenever it was created."""
        await self._until_done(IsAt(key, 0), (), (Delete(key),))

    async def _until_done(
        self,
        condition: IsAt,
        then: tuple[Operation, ...],
        otherwise: tuple[Operation, ...],
    ) -> None:
        while True:
            self._session.check()
            try:
                await self._store.transaction(condition, then, otherwise)
            except EtcdError:
                await self._pause()
            else:
                return

    async def _pause(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
