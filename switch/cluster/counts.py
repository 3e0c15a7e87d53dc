"""What a node counts of its sessions, one after the other, for a scrape."""

from __future__ import annotations

from collections.abc import Iterator

from switch.observe.metrics import SECONDS_BOUNDS, Sample
from switch.observe.tally import Tally
from switch.shard.commit_times import CommitTimes


class NodeCounts:
    def __init__(self) -> None:
        self.commits = CommitTimes()
        # The two halves of a commit; the second is also that of what needs none.
        self.appends = Tally(SECONDS_BOUNDS)
        self.fence_reads = Tally(SECONDS_BOUNDS)
        # From the first of some shards that was to be taken until all of them answer;
        # from the last decision of a shard until it is another node's to take.
        self.takeovers = Tally(SECONDS_BOUNDS)
        self.moves = Tally(SECONDS_BOUNDS)
        self.shards_taken = 0
        self.shards_given_up = 0
        self.sessions_lost = 0

    def samples(self) -> Iterator[Sample]:
        yield from self.commits.samples()
        yield Sample("log_append_seconds", self.appends.histogram())
        yield Sample("fence_read_seconds", self.fence_reads.histogram())
        yield Sample("cluster_takeover_seconds", self.takeovers.histogram())
        yield Sample("cluster_move_seconds", self.moves.histogram())
        yield Sample("cluster_shards_taken", self.shards_taken)
        yield Sample("cluster_shards_given_up", self.shards_given_up)
        yield Sample("cluster_sessions_lost", self.sessions_lost)
