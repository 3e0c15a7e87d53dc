"""Records of some shards, each along the chain of its epochs, out of the logs that they
are in: what those who follow the journal have in common.

Rule 1: a log is read once for all shards that go on in it. A shard's records come in
        their order: the sessions that had it one after the other.
Rule 2: no entry is passed over, and none comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from switch.journal.cassandra import log
from switch.journal.cassandra.chains import Span
from switch.journal.cassandra.publishers import Published
from switch.journal.cassandra.store import Position
from switch.journal.errors import JournalDamaged
from switch.journal.port import Commit, ShardRecord

OPEN: Final = 2**63 - 1  # the end of an epoch that goes on


class Reading(msgspec.Struct, frozen=True):
    """Some commits, of the shards' records alone; for each shard that got on, the
    position behind them; and whether there was more that may be read."""

    commits: list[Commit]
    positions: dict[int, Published]
    entries: int
    has_more: bool


class EntriesMissing(JournalDamaged):
    shard: int


class Way(msgspec.Struct):
    """A shard's: what is left of its spans, and the last entry that was read. Entries
    up to `base` may be missing, for they were dropped."""

    spans: list[Span]
    sequence: int
    base: int = 0

    def covers(self, session: str, number: int) -> bool:
        """Whether a commit is on it, now or later."""
        return any(
            span.session == session and span.start.number < number <= span.end
            for span in self.spans
        )


class Ways:
    def __init__(self) -> None:
        self.by_shard: dict[int, Way] = {}

    def groups(self, end_of: Callable[[Span], int]) -> dict[str, dict[int, int]]:
        """By session: the shards that go on in its log, and up to where."""
        groups: dict[str, dict[int, int]] = {}
        for shard, way in self.by_shard.items():
            while way.spans and way.spans[0].end <= way.spans[0].start.number:
                way.spans.pop(0)
            if not way.spans:
                continue
            span = way.spans[0]
            end = end_of(span)
            if span.start.number < end:
                groups.setdefault(span.session, {})[shard] = end
        return groups

    def start(self, shards: Iterable[int]) -> Position:
        """From where their log is to be read."""
        return min(self.by_shard[shard].spans[0].start for shard in shards)

    def cut(
        self, session: str, commit: Commit, ends: dict[int, int]
    ) -> Iterator[ShardRecord]:
        """The records of a commit that are next. Raises EntriesMissing."""
        for record in commit.records:
            end = ends.get(record.shard)
            if end is None:
                continue
            way = self.by_shard[record.shard]
            last = record.first_sequence + record.count - 1
            is_in_span = way.spans[0].start.number < commit.number <= end
            if not is_in_span or last <= way.sequence:
                continue
            known = max(way.sequence, way.base)
            if known and record.first_sequence > known + 1:
                raise _missing(session, commit, record, known + 1)
            way.sequence = last
            yield record

    def get_on(self, shard: int, at: Position, positions: dict[int, Published]) -> None:
        """All up to there was read."""
        way = self.by_shard[shard]
        span = way.spans[0]
        if at > span.start:
            way.spans[0] = Span(span.epoch, at, span.end)
            positions[shard] = Published(
                way.sequence, span.epoch.number, span.session, at.segment, at.number
            )


def _missing(
    session: str, commit: Commit, record: ShardRecord, expected: int
) -> EntriesMissing:
    error = EntriesMissing(
        f"entries of shard {record.shard} are missing",
        path=log.place(session),
        commit=commit.number,
        expected=f"entry {expected}",
        got=f"entry {record.first_sequence}: what was before it is dropped",
    )
    error.shard = record.shard
    return error
