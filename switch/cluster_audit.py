"""`switch.audit` of a cluster's journal: the same, along the chains of epochs.

What it is compared with is what replay gives, and what the next owners would begin
from: checkpoints and the replay behind them. Nodes may run meanwhile. A shard whose
first entries were dropped is begun from its checkpoint, and that is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from switch.audit import Advance, Audit, Verdict
from switch.cluster import history
from switch.cluster_store import Cluster, open_cluster
from switch.config import Config
from switch.journal.cassandra import checkpoints, recovery
from switch.journal.cassandra.chains import Chain, Moved
from switch.journal.cassandra.retrying import PATIENCE
from switch.journal.errors import JournalDamaged

# To read it while shards move.
ATTEMPTS_MAX = 5

Heads = list[checkpoints.Checkpoint | None]


def verify_cluster(config: Config, advance: Advance) -> Verdict:
    """Reads all of the journal. Raises JournalError if it cannot be read; damage is in
    the verdict."""
    return asyncio.run(_verify(config, advance))


async def _verify(config: Config, advance: Advance) -> Verdict:
    async with open_cluster(config) as cluster:
        for _ in range(ATTEMPTS_MAX):
            audit = Audit()
            try:
                heads = await _heads(cluster)
                chains = await history.chains(cluster.store, cluster.shard_count)
                await _read(cluster, audit, chains, advance)
                await _compare_checkpoints(cluster, audit, chains, heads)
            except JournalDamaged as error:
                audit.report(str(error))
            except Moved:
                continue  # nodes may run, and write checkpoints
            return audit.verdict()
        audit = Audit()
        audit.report("shards or logs moved each time that it was read: try again")
        return audit.verdict()


async def _read(
    cluster: Cluster, audit: Audit, chains: Sequence[Chain], advance: Advance
) -> None:
    audit.begin(cluster.shard_count)
    chains = [await _what_is_there(cluster, audit, chain) for chain in chains]
    total = sum(span.end - span.start.number for c in chains for span in c.spans)
    done = 0
    async for commit in history.commits(cluster.store, chains):
        audit.take(commit)
        done += len(commit.records)
        advance(min(done / max(total, 1), 1.0), f"{audit.entries:,} entries")
    audit.compare_replay()


async def _what_is_there(cluster: Cluster, audit: Audit, chain: Chain) -> Chain:
    """Of a shard whose beginning was dropped, what is behind its checkpoint. Raises
    Moved."""
    if not await history.is_cut(cluster.store, chain):
        return chain
    rest, state = await recovery.rest_of(cluster.store, chain, audit.limits)
    audit.begin_behind(state)
    return rest


async def _compare_checkpoints(
    cluster: Cluster, audit: Audit, chains: Sequence[Chain], heads: Heads
) -> None:
    """Unless there are newer ones by now: they have entries that were not added up."""
    states = await recovery.recover(cluster.store, chains, audit.limits)
    if heads == await _heads(cluster):
        in_order = [states[shard] for shard in sorted(states)]
        audit.compare("checkpoints and replay", in_order)


async def _heads(cluster: Cluster) -> Heads:
    return [
        await checkpoints.read_head(cluster.store, shard, PATIENCE)
        for shard in range(cluster.shard_count)
    ]
