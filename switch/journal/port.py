"""The journal port: the one place that has to be right about durability.

Rule 1: what `append` returned for is there after any crash; what it raised for
        is either not there, or (JournalUnknown) settled by opening again.
Rule 2: commits are numbered 1, 2, 3 … without a gap, and each shard's entries too.
Rule 3: nothing damaged is ever handed out: a reader gets what was written, or
        JournalDamaged. Nothing is repaired or skipped in silence.

All calls block. One thread appends; any thread, and any other process, may read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from switch.journal.errors import (
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalFenced,
    JournalFull,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
    JournalStopped,
    JournalUnknown,
    JournalVersion,
)

__all__ = [
    "SHARD_COUNT_DEFAULT",
    "SHARD_COUNT_MAX",
    "Commit",
    "Journal",
    "JournalBusy",
    "JournalDamaged",
    "JournalError",
    "JournalFenced",
    "JournalFull",
    "JournalMismatch",
    "JournalMissing",
    "JournalReadOnly",
    "JournalStopped",
    "JournalUnknown",
    "JournalVersion",
    "ShardRecord",
    "Snapshot",
    "SnapshotStore",
]

SHARD_COUNT_DEFAULT = 64
SHARD_COUNT_MAX = 65_536  # a shard is stored in 16 bits


class ShardRecord(msgspec.Struct, frozen=True, gc=False):
    """The entries of one shard in one commit, packed one after the other."""

    shard: int
    first_sequence: int
    count: int
    payload: bytes


class Commit(msgspec.Struct, frozen=True):
    number: int
    at: int  # ms since 1970
    records: tuple[ShardRecord, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """A shard's state after entry `sequence`, taken at or after `commit`."""

    shard: int
    sequence: int
    commit: int
    data: bytes


class Journal(Protocol):
    @property
    def identity(self) -> bytes:
        """16 random bytes of this journal: files derived from it carry them too."""

    @property
    def shard_count(self) -> int: ...

    @property
    def head(self) -> int:
        """The last durable commit; 0 when there is none."""

    def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        """Durable on return. The commit's number."""

    def append_many(self, at: int, batches: Iterable[Sequence[ShardRecord]]) -> int:
        """A commit per batch, all of them or none. The last commit's number."""

    def tend(self) -> None:
        """Housekeeping that may take milliseconds: to be called by the thread that
        appends when nobody waits for it. Never needed for correctness."""

    def read(self, after: int, limit: int | None = None) -> Iterator[Commit]:
        """The durable commits behind `after`, in order, each verified."""

    def close(self) -> None: ...


class SnapshotStore(Protocol):
    def write(self, shard: int, sequence: int, commit: int, data: bytes) -> None:
        """Durable on return; replaces the shard's last but one, atomically."""

    def mark_complete(self, commit: int) -> None:
        """Every entry up to `commit` is in the newest snapshots, and a shard without
        one has none. Durable on return."""

    def read_all(self) -> Iterator[Snapshot]:
        """The newest sound snapshot of each shard that has one, by shard. Replay goes
        on behind its `commit`, which is that of the mark if that is later."""

    @property
    def complete_to(self) -> int:
        """Behind which commit a shard without a snapshot is replayed. To be asked when
        all have been read."""

    def close(self) -> None: ...
