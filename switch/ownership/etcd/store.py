"""What is asked of etcd: a port, and the values that go through it.

Rule 1: a call returns what happened, or raises what `switch.ownership.etcd.errors` says
        about it. What only reads, and what may be done twice, is tried at every
        endpoint until its time is over; anything else is sent once.
Rule 2: revisions number the changes of the whole store, and a key is created at one: no
        two owners of a key, one after the other, have the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


class Change(msgspec.Struct, frozen=True):
    """`after` is None when the key was deleted."""

    key: str
    revision: int
    after: KeyValue | None


class Listing(msgspec.Struct, frozen=True):
    """Every key below a prefix, in order, as of a revision."""

    revision: int
    items: tuple[KeyValue, ...]


class Lease(msgspec.Struct, frozen=True, gc=False):
    id: int
    ttl_s: int


class IsAt(msgspec.Struct, frozen=True, gc=False):
    """The key was created at this revision; at 0: there is no such key."""

    key: str
    create_revision: int


class Put(msgspec.Struct, frozen=True, gc=False):
    key: str
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True, gc=False):
    key: str


class Get(msgspec.Struct, frozen=True, gc=False):
    key: str


class Oldest(msgspec.Struct, frozen=True, gc=False):
    """The one key below the prefix that was created first."""

    prefix: str


Operation = Put | Delete | Get | Oldest


class Outcome(msgspec.Struct, frozen=True):
    """Which of its two lists a transaction went through with, at which revision, and
    what each `Get` and `Oldest` of it found."""

    is_met: bool
    revision: int
    found: tuple[KeyValue | None, ...]


class Store(Protocol):
    async def listing(self, prefix: str) -> Listing:
        """As all members agree it is now, not as one remembers it."""

    async def transaction(
        self,
        condition: IsAt,
        then: tuple[Operation, ...],
        otherwise: tuple[Operation, ...] = (),
    ) -> Outcome:
        """All of one list or nothing. EtcdUnknown: do not ask again the same way, but
        find out."""

    async def grant(self, ttl_s: int) -> Lease:
        """May have another time than asked for. One that nobody heard of runs out."""

    async def keep_alive(self, lease: int, seconds: float) -> int:
        """Within that time. How many seconds it lives from some moment after the
        call, or EtcdLeaseGone."""

    async def revoke(self, lease: int) -> None:
        """It is gone, and so are its keys, whether it was there or not."""

    def watch(
        self, prefix: str
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[Change, ...]]]:
        """What changes below the prefix, in order and without a gap: everything that a
        listing does not have which is asked for inside, and perhaps some of what it
        has. What one revision changed comes together. Ends by an EtcdError only."""
