"""A cluster in one process: shards that move, nodes that vanish, lines that break.

The auditor below reads the journal as it counts in the end, and what the schemes were
answered, and shares no code with what decides, forwards or takes over.

Invariant: no request has two holds; one whose last answer is 00 has one, any other one
has none. All answers of one are alike, but for 91 before it was decided by anybody, and
nothing but 91 follows when it was taken back.
"""

from __future__ import annotations

import asyncio
from itertools import dropwhile

import pytest

from switch.cluster.session import NodeSession
from switch.peer.forwarder import Forwarder
from tests.simulation.cluster.fakes import MemorySession
from tests.simulation.cluster.nodes import (
    DEADLINE_MS,
    PANS,
    SHARD_COUNT,
    UNKNOWN_PAN,
    World,
)
from tests.simulation.cluster.virtual import run, until
from tests.simulation.seeds import seeds

NODES = ("a", "b", "c")
# An answer is on its way for a few milliseconds.
TRAVEL_S = 0.05


def audit(world: World, *, unanswered: bool) -> None:
    """`unanswered`: whether a request may have got no answer at all."""
    entries = world.entries()
    for stan, (_, pan, _, asked_at) in world.asked.items():
        codes = [reply.code for reply in world.replies[stan]]
        names = [entry.name for entry in entries[stan]]
        where = f"request {stan} of {asked_at:.3f}: {codes}, {names}"
        assert codes or unanswered, where
        decided = list(dropwhile(lambda code: code == "91", codes))
        assert len(set(decided)) <= 1, where
        held = names.count("held") + names.count("posted")
        assert held <= 1, where
        left = held - names.count("withdrawn")
        if decided and "withdrawn" in names:
            raise AssertionError(where)
        if codes and codes[-1] == "00":
            assert left == 1, where
        elif codes:
            assert left == 0, where
        if pan == UNKNOWN_PAN:
            assert set(codes) <= {"14", "91"}, where


def audit_in_time(world: World) -> None:
    for stan, replies in world.replies.items():
        late_s = replies[0].at - world.asked[stan][3] - DEADLINE_MS / 1000
        assert late_s <= TRAVEL_S, f"request {stan}: {late_s:.3f} s late"


class Traffic:
    """Requests to all that live, one after the other, until it is told to stop."""

    def __init__(self, world: World, pause_s: float = 0.004) -> None:
        self.world = world
        self.names = list(world.nodes)
        self._pause_s = pause_s
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        chance = self.world.chance
        while True:
            pan = chance.choice([*PANS, UNKNOWN_PAN])
            mti = chance.choice(["0100", "0100", "0200"])
            self.world.ask(chance.choice(self.names), pan, chance.randint(1, 50), mti)
            await asyncio.sleep(chance.expovariate(1 / self._pause_s))

    async def stop(self, wait_s: float = DEADLINE_MS / 1000 + 1.0) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.sleep(wait_s)


async def voids_made(world: World) -> None:
    await until(
        lambda: (
            not any(
                node.forwarder.pending
                for name, node in world.nodes.items()
                if world.lives(name)
            )
        )
    )


def simulate(seed, scenario):
    async def main():
        world = World(seed)
        try:
            await world.start(*NODES)
            await world.until_settled()
            await scenario(world)
        finally:
            await world.stop()

    run(main())


def test_any_node_answers_for_any_card():
    async def scenario(world):
        for name in NODES:
            for pan in [*PANS, UNKNOWN_PAN]:
                world.ask(name, pan)
        await asyncio.sleep(0.2)
        assert all(len(node.node.opened) == 2 for node in world.nodes.values())
        forwarded = sum(node.counters.forwarded for node in world.nodes.values())
        assert forwarded > len(PANS)
        audit(world, unanswered=False)
        audit_in_time(world)
        codes = [reply.code for replies in world.replies.values() for reply in replies]
        assert sorted(set(codes)) == ["00", "14"]
        assert world.cards.asked  # it was looked for, at first
        looked_up = len(world.cards.asked)
        for name in NODES:
            for pan in PANS:
                world.ask(name, pan)
        await asyncio.sleep(0.2)
        assert len(world.cards.asked) == looked_up
        audit(world, unanswered=False)

    simulate(1, scenario)


async def joining_and_leaving(world):
    traffic = Traffic(world)
    await asyncio.sleep(0.3)
    await world.start("d")
    await world.until_settled()
    await asyncio.sleep(0.3)
    assert world.nodes["d"].node.opened
    traffic.names.remove("b")
    await asyncio.sleep(0.3)
    await world.leave("b")
    await world.until_settled()
    await asyncio.sleep(0.3)
    await traffic.stop()
    await voids_made(world)
    audit(world, unanswered=False)
    audit_in_time(world)
    codes = {r.code for replies in world.replies.values() for r in replies}
    assert codes == {"00", "14"}
    assert not world.store.fenced


@pytest.mark.parametrize("seed", seeds(3))
def test_nodes_join_and_leave_and_no_request_is_lost_or_late(seed):
    simulate(seed, joining_and_leaving)


async def moving_under_load(world):
    traffic = Traffic(world, pause_s=0.0005)
    await asyncio.sleep(0.05)
    await world.start("d")
    await world.until_settled()
    await traffic.stop()
    await voids_made(world)
    audit(world, unanswered=False)
    assert {r.code for rs in world.replies.values() for r in rs} <= {"00", "14", "51"}
    assert not world.store.fenced


@pytest.mark.parametrize("seed", seeds(2))
def test_shards_move_under_load(seed):
    simulate(seed, moving_under_load)


async def vanishing(world):
    traffic = Traffic(world)
    await asyncio.sleep(world.chance.uniform(0.3, 0.6))
    traffic.names.remove("c")
    await asyncio.sleep(0.05)
    world.vanish("c")
    await asyncio.sleep(world.chance.uniform(3.0, 8.0))
    await world.until_settled()
    await traffic.stop()
    await voids_made(world)
    for stan in [each for each in world.asked if not world.replies[each]]:
        world.repeat("a", stan)
    await asyncio.sleep(1.0)
    audit(world, unanswered=False)


@pytest.mark.parametrize("seed", seeds(4))
def test_a_node_vanishes_and_its_requests_are_settled_or_declined_in_time(seed):
    simulate(seed, vanishing)


@pytest.mark.parametrize("seed", seeds(4))
def test_a_node_that_is_cut_off_answers_nothing_that_does_not_count(seed):
    async def scenario(world):
        traffic = Traffic(world)
        await asyncio.sleep(world.chance.uniform(0.3, 0.6))
        world.cut_off("b")
        await asyncio.sleep(world.chance.uniform(4.0, 8.0))
        traffic.names.remove("b")
        await asyncio.sleep(0.1)
        node = world.nodes["b"]
        assert node.node.opened == frozenset()
        assert node.node.counts.sessions_lost >= 1
        world.mend("b")
        await traffic.stop()
        await world.until_settled()
        assert node.node.opened
        await voids_made(world)
        audit(world, unanswered=True)

    simulate(seed, scenario)


async def without_etcd(world):
    """A node whose lease runs out while it reaches everything else."""
    traffic = Traffic(world)
    await asyncio.sleep(world.chance.uniform(0.3, 0.6))
    world.registry.unreachable.add("b")
    await asyncio.sleep(world.chance.uniform(3.0, 4.0))
    world.mend("b")
    await traffic.stop()
    await world.until_settled()
    await voids_made(world)
    audit(world, unanswered=True)
    assert world.nodes["b"].node.counts.sessions_lost >= 1


@pytest.mark.parametrize("seed", seeds(3))
def test_a_node_that_etcd_does_not_hear_answers_nothing_that_does_not_count(seed):
    simulate(seed, without_etcd)


@pytest.mark.parametrize("seed", seeds(3))
def test_lines_between_nodes_break_and_nothing_is_decided_twice(seed):
    async def scenario(world):
        traffic = Traffic(world)
        for _ in range(12):
            one, other = world.chance.sample(NODES, 2)
            await asyncio.sleep(world.chance.uniform(0.05, 0.3))
            world.network.break_connections(one, other)
        await traffic.stop()
        await voids_made(world)
        audit(world, unanswered=False)
        audit_in_time(world)
        assert {r.code for rs in world.replies.values() for r in rs} == {"00", "14"}

    simulate(seed, scenario)


async def parted(world):
    """Two nodes that do not reach each other for longer than a request has time."""
    traffic = Traffic(world)
    await asyncio.sleep(0.3)
    world.network.cut("a", "b")
    await asyncio.sleep(3.0)
    await traffic.stop()
    declined = [
        stan
        for stan, replies in world.replies.items()
        if replies and replies[0].code == "91"
    ]
    assert declined
    audit_in_time(world)
    world.network.mend("a", "b")
    await voids_made(world)
    audit(world, unanswered=False)
    for stan in declined:
        world.repeat("c", stan)
    await asyncio.sleep(1.0)
    audit(world, unanswered=False)


@pytest.mark.parametrize("seed", seeds(3))
def test_two_nodes_that_do_not_reach_each_other_decline_in_time(seed):
    simulate(seed, parted)


# --- broken on purpose


def makes_no_91_true(patch):
    patch.setattr(Forwarder, "_may_be_approved", staticmethod(lambda pending: False))


def moves_before_it_has_settled(patch):
    async def at_once(self, *shard):
        pass

    patch.setattr(NodeSession, "_settle", at_once)
    patch.setattr(NodeSession, "_told", at_once)


def believes_neither_lease_nor_fence(patch):
    patch.setattr(NodeSession, "_check_lease", lambda self: None)
    patch.setattr(MemorySession, "_check", lambda self: None)


@pytest.mark.parametrize(
    ("breaks", "scenario"),
    [
        (makes_no_91_true, parted),
        (moves_before_it_has_settled, moving_under_load),
        (believes_neither_lease_nor_fence, without_etcd),
    ],
)
def test_what_is_broken_is_found_within_forty_seeds(breaks, scenario, monkeypatch):
    breaks(monkeypatch)
    for seed in range(1, 41):
        try:
            simulate(seed, scenario)
        except (AssertionError, TimeoutError):
            return
    pytest.fail("forty seeds found nothing wrong")


def test_every_shard_has_one_owner_when_all_begin_at_once():
    async def scenario(world):
        opened = [node.node.opened for node in world.nodes.values()]
        assert sorted(shard for each in opened for shard in each) == list(
            range(SHARD_COUNT)
        )

    simulate(7, scenario)
