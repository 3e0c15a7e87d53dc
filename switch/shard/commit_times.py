"""How long commits took and how much was in each, whatever they were written to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from switch.journal.port import ShardRecord
from switch.observe.metrics import SECONDS_BOUNDS, SIZE_BOUNDS, Sample
from switch.observe.tally import Tally


class CommitTimes:
    def __init__(self) -> None:
        self.seconds = Tally(SECONDS_BOUNDS)
        self.entries = Tally(SIZE_BOUNDS)

    def count(self, seconds: float, records: Sequence[ShardRecord]) -> None:
        self.seconds.add(seconds)
        self.entries.add(sum(record.count for record in records))

    def samples(self) -> Iterator[Sample]:
        yield Sample("commit_seconds", self.seconds.histogram())
        yield Sample("commit_entries", self.entries.histogram())
