"""One session of a node: what it takes, gives up, and what ends it."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from switch.cluster.errors import SessionLost
from switch.cluster.session import RECONCILE_S, RETRY_FIRST_S, NodeSession
from switch.journal.errors import JournalError, JournalUnknown
from switch.ledger import Limits
from switch.ownership.port import OwnershipError
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup
from tests.simulation.cluster.fakes import (
    TTL_S,
    MemorySession,
    MemoryShards,
    Registry,
    Store,
)
from tests.simulation.cluster.nodes import SHARD_COUNT, opening_records, wall_clock
from tests.simulation.cluster.virtual import run, until
from tests.unit.shard.node import request

ALL = set(range(SHARD_COUNT))


class At:
    """A node's session on its own, and what it stands on."""

    def __init__(self, world=None, name="a"):
        chance = random.Random(1)
        self.name = name
        self.registry = world.registry if world else Registry()
        self.store = (
            world.store if world else Store(chance, SHARD_COUNT, opening_records())
        )
        loop = asyncio.get_running_loop()
        self.directory = CardDirectory([], shard_count=SHARD_COUNT)
        self.group = CommitGroup(
            [],
            submit=lambda at, records: self.session.submit(at, records),
            schedule=loop.call_soon,
            released=lambda number: None,
            clock=wall_clock,
            monotonic=loop.time,
            shard_count=SHARD_COUNT,
            confirms=True,
        )
        self.ownership = MemoryShards(self.registry, name, f"{name}1")
        self.journal = MemorySession(self.store, name, f"{name}1")
        self.changes = 0
        self.begin()

    def begin(self):
        self.session = NodeSession(
            self.name, self.group, self.directory, self.ownership, self.journal,
            Limits(), changed=self._changed, every_entries=5,
        )  # fmt: skip
        self.task = asyncio.create_task(self.session.run())

    async def begin_another(self):
        await asyncio.gather(self.task, return_exceptions=True)
        self.ownership = MemoryShards(self.registry, self.name, f"{self.name}2")
        self.journal = MemorySession(self.store, self.name, f"{self.name}2")
        self.begin()

    def _changed(self):
        self.changes += 1

    def open_shards(self):
        return {shard.state.shard for shard in self.group.shards}

    async def taken(self):
        await until(lambda: self.session.opened == ALL)

    def ask(self, shard, stan=1):
        decision = self.group.shard(shard).decide(request(stan=stan), wall_clock())
        self.group.flush()
        return decision

    async def told(self):
        future = asyncio.get_running_loop().create_future()
        self.group.wait(future)
        await future


def simulate(scenario):
    async def main():
        at = At()
        try:
            await scenario(at)
        finally:
            at.task.cancel()
            await asyncio.gather(at.task, return_exceptions=True)

    run(main())


def test_alone_it_takes_all_shards_and_opens_each_in_group_and_directory():
    async def scenario(at):
        await at.taken()
        assert at.open_shards() == ALL
        assert at.directory.count == 12
        assert {at.session.owner_of(shard) for shard in ALL} == {"a"}
        assert at.changes

    simulate(scenario)


def test_what_is_left_is_settled_given_up_and_released():
    async def scenario(at):
        await at.taken()
        for shard in ALL:
            at.ask(shard)
        at.session.leave()
        await at.task
        assert at.registry.keys == {}
        assert at.store.current == {}
        assert at.store.fenced == set()
        assert at.open_shards() == set()
        # what was decided counts
        assert all(len(records) >= 2 for records in at.store.entries.values())

    simulate(scenario)


def test_a_shard_that_is_wanted_elsewhere_moves_there_with_all_its_entries():
    async def scenario(at):
        await at.taken()
        for shard in ALL:
            at.ask(shard)
        other = At(at, "b")
        try:
            await until(lambda: other.session.opened and len(at.session.opened) == 3)
            await until(lambda: len(other.session.opened) == 3)
            assert at.session.opened | other.session.opened == ALL
            assert at.store.fenced == set()
            for shard in other.session.opened:
                state = other.group.shard(shard).state
                assert state.sequence == at.store.state(shard, Limits()).sequence
                assert at.session.owner_of(shard) == "b"
        finally:
            other.task.cancel()
            await asyncio.gather(other.task, return_exceptions=True)

    simulate(scenario)


def test_shards_that_cannot_be_acquired_are_tried_again():
    async def scenario(at):
        failed: list[int] = []
        acquire = at.ownership.acquire

        async def fails_at_first(shard):
            if len(failed) < 8:
                failed.append(shard)
                raise OwnershipError("no answer")
            return await acquire(shard)

        at.ownership.acquire = fails_at_first
        await at.taken()
        assert len(failed) == 8

    simulate(scenario)


def test_shards_that_cannot_be_taken_over_yet_are_tried_again():
    async def scenario(at):
        failed: list[object] = []
        take = at.journal.take

        async def fails_at_first(shards, limits):
            if len(failed) < 2:
                failed.append(shards)
                raise JournalError("no answer")
            return await take(shards, limits)

        at.journal.take = fails_at_first
        await until(lambda: failed)
        assert at.open_shards() == set()
        await at.taken()

    simulate(scenario)


def test_who_waits_for_a_shard_waits_for_no_look_around():
    """What could not be taken is nobody's: it is tried again at once, then later and
    later."""

    async def scenario(at):
        attempts: list[float] = []
        take = at.journal.take

        async def fails_at_first(shards, limits):
            attempts.append(asyncio.get_running_loop().time())
            if len(attempts) < 8:
                raise JournalUnknown("no answer")
            return await take(shards, limits)

        at.journal.take = fails_at_first
        await at.taken()
        pauses = [b - a for a, b in itertools.pairwise(attempts)]
        assert pauses[1] < 3 * RETRY_FIRST_S
        assert max(pauses) > RECONCILE_S

    simulate(scenario)


def test_what_others_took_meanwhile_is_released():
    async def scenario(at):
        take, missing = at.journal.take, [True]

        async def takes_all_but_one(shards, limits):
            states = await take(shards, limits)
            if missing:
                missing.clear()
                del states[2]
                at.store.current[2] = "another"
            return states

        release, released = at.ownership.release, []

        async def releases(shard):
            released.append(shard)
            await release(shard)

        at.journal.take = takes_all_but_one
        at.ownership.release = releases
        await at.taken()
        assert released == [2]

    simulate(scenario)


def test_a_state_that_cannot_be_written_holds_up_no_move():
    async def scenario(at):
        async def fails(*arguments):
            raise JournalError("no answer")

        await at.taken()
        at.journal.checkpoint = at.journal.give_up = fails
        at.ask(0)
        at.session.leave()
        await at.task
        assert at.registry.keys == {}

    simulate(scenario)


def test_states_are_written_as_entries_come():
    async def scenario(at):
        written = []

        async def keeps(shard, sequence, position, data):
            written.append((shard, sequence, position))

        await at.taken()
        at.journal.checkpoint = keeps
        before = at.group.shard(0).state.sequence
        for stan in range(1, 7):
            at.ask(0, stan)
        await at.told()
        position = at.journal.position
        await asyncio.sleep(2.5)
        assert written == [(0, before + 6, position)]

    simulate(scenario)


def _expires(at):
    at.registry.unreachable.add("a")


def _is_fenced(at):
    at.store.fenced.add("a1")


def _loses_a_key(at):
    del at.registry.keys[3]


def _ends_with_the_owners(at):
    at.ownership._is_over = True
    at.ownership.news.set()


@pytest.mark.parametrize(
    ("ends", "error"),
    [
        (_expires, SessionLost),
        (_is_fenced, JournalError),
        (_loses_a_key, SessionLost),
        (_ends_with_the_owners, SessionLost),
    ],
)
def test_a_session_that_is_over_tells_nothing_that_it_has_not_told(ends, error):
    async def scenario(at):
        await at.taken()
        at.ask(0)
        await at.told()
        ends(at)
        at.ask(1)
        waiting = asyncio.get_running_loop().create_future()
        if ends is _expires:
            await asyncio.sleep(TTL_S - 0.3)
            at.store.frozen.add("a")
            at.ask(2)
        at.group.wait(waiting)
        with pytest.raises(error):
            await at.task
        with pytest.raises(error):
            await waiting
        assert at.open_shards() == at.session.opened == set()
        assert at.directory.states == [None] * SHARD_COUNT
        assert not at.group.stopped
        assert {at.session.owner_of(shard) for shard in ALL} <= {None, "a"}

    simulate(scenario)


def test_an_append_that_ends_after_the_lease_is_not_told():
    """The journal would have had it: the lease alone says no."""

    async def scenario(at):
        await at.taken()
        append = at.journal.append

        async def slow(when, records):
            number = await append(when, records)
            at.ownership._valid_until = 0.0
            return number

        at.journal.append = slow
        at.ask(0)
        with pytest.raises(SessionLost, match="lease"):
            await at.told()

    simulate(scenario)


def test_what_comes_between_two_sessions_keeps_nothing_waiting():
    """A refusal that needs no shard, say: it waits for a commit that nobody makes."""

    async def scenario(at):
        await at.taken()
        at.session.lost(SessionLost("it is over"))
        between = asyncio.create_task(at.told())
        await asyncio.sleep(0.1)
        await at.begin_another()
        await at.taken()
        with pytest.raises(SessionLost, match="another session begins"):
            await between
        at.ask(0)
        await at.told()

    simulate(scenario)


def test_shards_that_are_taken_as_the_session_is_lost_are_not_opened():
    async def scenario(at):
        take = at.journal.take

        async def taken_late(*arguments):
            states = await take(*arguments)
            at.session.lost(SessionLost("it is over"))
            return states

        at.journal.take = taken_late
        await until(at.task.done)
        assert isinstance(at.task.exception(), SessionLost)
        assert at.open_shards() == set()
        await at.begin_another()
        await at.taken()

    simulate(scenario)
