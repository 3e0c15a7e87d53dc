"""What goes on with the shards of a process beside its requests, whatever their journal
is: holds end, and a scrape looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from switch.ledger import Limits
from switch.observe.metrics import Sample
from switch.shard._group import CommitGroup

SWEEP_INTERVAL_S = 1.0
MS_PER_S = 1000


async def end_holds(group: CommitGroup, clock: Callable[[], int]) -> None:
    """For ever: ends those whose time is over."""
    while True:
        await asyncio.sleep(SWEEP_INTERVAL_S)
        now = clock()
        for shard in group.shards:
            # It may have gone while others had their turn.
            is_here = group.slots[shard.state.shard] is shard
            if is_here and shard.end_holds(now):
                group.flush()
                # Many may end at once: messages come in between.
                await asyncio.sleep(0)


def samples(group: CommitGroup, limits: Limits) -> Iterator[Sample]:
    states = [shard.state for shard in group.shards]
    yield Sample("commits", group.commits)
    yield Sample("entries", group.entries)
    yield Sample("journal_head", group.head)
    yield Sample("commit_in_flight_seconds", group.in_flight_ms / MS_PER_S)
    yield Sample("accounts", sum(state.account_count for state in states))
    yield Sample("cards", sum(state.card_count for state in states))
    yield Sample("transactions_remembered", limits.transactions)
    yield Sample("transactions_forgotten_early", limits.evicted_early)
