"""What a node says of itself at a scrape."""

from __future__ import annotations

import asyncio

from switch.observe.metrics import METRICS
from tests.simulation.cluster.nodes import PANS, SHARD_COUNT, World
from tests.simulation.cluster.virtual import run, until


def samples_of(world, name):
    return {sample.name: sample.value for sample in world.nodes[name].node.samples()}


def count_of(histogram):
    return sum(histogram.counts)


def simulate(scenario):
    async def main():
        world = World(1)
        try:
            await world.start("a")
            await world.until_settled()
            await scenario(world)
        finally:
            await world.stop()

    run(main())


def test_a_node_tells_what_it_has_and_how_it_got_it():
    async def scenario(world):
        found = samples_of(world, "a")
        assert found.keys() <= METRICS.keys()
        assert found["cluster_session_up"] == 1
        assert found["cluster_members"] == 1
        assert 0 < found["cluster_lease_seconds"] <= 2
        assert found["cluster_shards"] == SHARD_COUNT
        assert found["cluster_shards_unowned"] == 0
        assert found["cluster_shards_taken"] == SHARD_COUNT
        assert count_of(found["cluster_takeover_seconds"]) > 0
        stan = world.ask("a", PANS[0])
        await until(lambda: world.replies[stan])
        found = samples_of(world, "a")
        assert count_of(found["commit_seconds"]) == 1
        assert found["commit_entries"].sum == 1

        await world.start("b")
        await world.until_settled()
        found = samples_of(world, "a")
        assert found["cluster_members"] == 2
        assert found["cluster_shards_given_up"] == SHARD_COUNT // 2
        assert count_of(found["cluster_move_seconds"]) == SHARD_COUNT // 2
        assert found["cluster_shards"] == SHARD_COUNT // 2

    simulate(scenario)


def test_a_lost_session_is_seen_and_what_was_counted_goes_on():
    async def scenario(world):
        world.cut_off("a")
        await until(lambda: not samples_of(world, "a")["cluster_session_up"])
        found = samples_of(world, "a")
        assert found["cluster_lease_seconds"] == 0
        assert found["cluster_shards_unowned"] == SHARD_COUNT
        world.mend("a")
        await world.until_settled()
        await asyncio.sleep(0.1)
        found = samples_of(world, "a")
        assert found["cluster_sessions_lost"] >= 1
        assert found["cluster_shards_taken"] >= 2 * SHARD_COUNT

    simulate(scenario)
