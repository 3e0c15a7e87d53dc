"""What the journal asks of Cassandra: a port below the journal's.

The protocol of docs/journal.md ("On many machines") stands on these calls and on
nothing else, so that it runs alike on a driver and on scripted replicas.

Rule 1: a plain call is done at a quorum, and any two quorums have a replica in common.
        Nothing more is promised: no order, no repair by reading, no clock.
Rule 2: a conditional call and the reading of what it decides are linearizable.
Rule 3: whatever may have been done, now or later, raises JournalUnknown. To repeat it
        unchanged does no harm: each call says the same however often it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

# Of one row: far below what a server takes in one piece, 4 MiB in the smallest
# sensible configuration.
PART_BYTES_MAX = 512 * 1024
# A commit of all entries that may wait for one, 65,536 of 512 bytes, and its table.
COMMIT_BYTES_MAX = 48 * 1024 * 1024
# A segment is a partition: it ends with the commit that reaches one of these.
SEGMENT_COMMITS_MAX = 1024
SEGMENT_BYTES_MAX = 16 * 1024 * 1024
# Rows of one reading: a commit must fit.
READ_PARTS_MAX = 128

assert COMMIT_BYTES_MAX <= READ_PARTS_MAX * PART_BYTES_MAX


class Position(msgspec.Struct, frozen=True, order=True):
    """Behind a commit of a session's log. The next one is in the same segment, or the
    first of the next segment."""

    segment: int
    number: int


BEGINNING = Position(0, 0)


class Part(msgspec.Struct, frozen=True):
    """One row of a log: a commit's record, or a piece of it. Its key is (number,
    index); what is stored under it never changes."""

    number: int
    index: int
    count: int  # of the commit's parts
    data: bytes


class SessionRow(msgspec.Struct, frozen=True):
    session: str
    node: str
    sealed_at: int | None  # the last commit that counts


class EpochId(msgspec.Struct, frozen=True, order=True):
    number: int
    session: str


class Epoch(msgspec.Struct, frozen=True):
    """A shard in the log of one session: from the position where it was opened, to
    `sealed_at` or the end of the session, whichever is first."""

    shard: int
    id: EpochId
    parent: EpochId | None
    begins_after: Position
    sealed_at: int | None = None


class ShardEpochs(msgspec.Struct, frozen=True):
    """All of a shard's epochs, in no order; `current` is the newest."""

    current: EpochId | None
    epochs: Sequence[Epoch]


class LogStore(Protocol):
    # -- a session's log, write-once rows

    async def insert_part(self, session: str, segment: int, part: Part) -> None: ...

    async def read_parts(
        self, session: str, segment: int, after: int, limit: int
    ) -> list[Part]:
        """In the order of their keys, the first `limit` behind commit `after`. Each
        row may be read at its own time."""

    async def drop_segment(self, session: str, segment: int) -> None: ...

    # -- fences: empty until somebody takes over, and never removed

    async def write_fence(self, session: str, fenced_by: str) -> None: ...

    async def read_fence(self, session: str) -> bool: ...

    # -- marks of a log: the highest position written wins, never the last one written

    async def write_mark(self, session: str, kind: str, position: Position) -> None: ...

    async def read_mark(self, session: str, kind: str) -> Position | None: ...

    # -- sessions: conditional

    async def create_session(self, session: str, node: str) -> None:
        """Nothing happens when it is there."""

    async def seal_session(self, session: str, end: int) -> bool:
        """False when it was sealed before, whatever the end."""

    async def read_session(self, session: str) -> SessionRow | None: ...

    async def list_sessions(self) -> list[str]:
        """All that there have been; one that is just being made may be missing."""

    # -- epochs: conditional

    async def open_epoch(self, epoch: Epoch) -> bool:
        """Makes it the current one if its parent is; False otherwise."""

    async def seal_epoch(self, shard: int, epoch: EpochId, end: int) -> bool:
        """False when it was sealed before."""

    async def read_epochs(self, shard: int) -> ShardEpochs: ...

    # -- checkpoints: chunks, then the head that names them; the head with the highest
    # sequence wins, never the last one written

    async def write_chunk(
        self, shard: int, name: str, index: int, data: bytes
    ) -> None: ...

    async def read_chunk(self, shard: int, name: str, index: int) -> bytes | None: ...

    async def drop_chunks(self, shard: int, name: str) -> None: ...

    async def write_checkpoint(
        self, shard: int, sequence: int, head: bytes
    ) -> None: ...

    async def read_checkpoint(self, shard: int) -> bytes | None: ...

    # -- how far publishers are: again, the highest sequence wins

    async def write_published(
        self, publisher: str, shard: int, sequence: int, position: bytes
    ) -> None: ...

    async def read_published(self, publisher: str, shard: int) -> bytes | None: ...

    async def list_publishers(self) -> list[str]:
        """All that have written a position, as above."""
