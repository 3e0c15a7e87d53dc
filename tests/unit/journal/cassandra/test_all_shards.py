"""Following all shards of a cluster, whoever owns them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from switch.journal.cassandra import all_shards
from switch.journal.cassandra.all_shards import AllShardsReader, Reached
from switch.journal.cassandra.chains import Moved
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.publishers import Published
from switch.journal.cassandra.retention import tidy
from switch.journal.cassandra.takeover import end_session
from switch.journal.errors import JournalDamaged, JournalMismatch
from switch.ledger import Limits, State, dump
from tests.unit.journal.cassandra.build import (
    NOW,
    PATIENCE,
    SHARD_COUNT,
    append,
    begun,
    run_scripted,
    taken,
)

ONCE = 50


class Follower:
    """Reads on, a second each time."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.now = 1000.0
        self.reached: dict[int, Reached] = {}
        self.states: list[State] = []
        self.taken: list[tuple[int, int]] = []
        self.begun = 0
        self.begin()

    def begin(self) -> None:
        self.begun += 1
        self.reader = AllShardsReader(
            self.store,
            SHARD_COUNT,
            self.reached,
            self._begin_from,
            PATIENCE,
            lambda: self.now,
        )

    def _begin_from(self, state: State) -> None:
        published = self.reached.get(state.shard, Reached()).published
        self.reached[state.shard] = Reached(published, state.sequence)
        self.states.append(state)

    async def look(self, entries_max: int = ONCE) -> list[tuple[int, int]]:
        """The entries that a look brings, by shard and number."""
        self.now += 1.0
        found: list[tuple[int, int]] = []
        has_more = True
        while has_more:
            try:
                reading = await self.reader.read(entries_max)
            except Moved:
                self.begin()
                continue
            has_more = reading.has_more
            for commit in reading.commits:
                for record in commit.records:
                    numbers = range(record.count)
                    first = record.first_sequence
                    found += [(record.shard, first + number) for number in numbers]
            for shard, position in reading.positions.items():
                base = self.reached.get(shard, Reached()).base
                self.reached[shard] = Reached(position, base)
        self.taken += found
        return found

    async def look_until_known(self) -> list[tuple[int, int]]:
        """And again, for what has come last; and for who has come."""
        found = []
        for _ in range(2 + int(all_shards.LOOK_SECONDS)):
            found += await self.look()
        return found

    def of(self, shard: int) -> list[int]:
        return [number for each, number in self.taken if each == shard]


def numbers(last: int, first: int = 1) -> list[int]:
    return list(range(first, last + 1))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def follower(store: MemoryStore) -> Follower:
    return Follower(store)


def test_all_but_the_last_commit_is_known_to_count(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, [states[0], states[2]], 5)
        assert await follower.look() == [
            (shard, number) for number in numbers(4) for shard in (0, 2)
        ]
        assert follower.reader.waits_since == follower.now
        # Nobody wrote behind it for a second: it is looked at itself.
        assert await follower.look() == [(0, 5), (2, 5)]
        assert follower.reader.waits_since is None
        assert await follower.look() == []

    run_scripted(test())


def test_the_last_commit_is_at_a_quorum_before_the_fence_is_looked_at(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, [states[0]])
        await follower.look()
        store.calls.clear()
        await follower.look()
        writes = [each for each in store.calls if each in ("insert_part", "read_fence")]
        assert writes == ["insert_part", "read_fence"]

    run_scripted(test())


def test_of_a_fenced_session_the_last_commit_waits_for_its_end(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, [states[0]], 3)
        await store.write_fence("a", "b")
        assert await follower.look_until_known() == [(0, 1), (0, 2)]
        assert follower.reader.waits_since is not None
        await end_session(store, "a", "b", PATIENCE)
        assert await follower.look_until_known() == [(0, 3)]
        assert follower.reader.waits_since is None

    run_scripted(test())


def test_of_a_fenced_session_what_was_given_away_counts(store, follower):
    """Though nobody ends the session: all of its shards are elsewhere."""

    async def test():
        a, states = await taken(store, "a", {0: 0})
        await append(a, [states[0]])
        await a.give_up(0)
        await store.write_fence("a", "b")
        b, states = await taken(store, "b", {0: 0})
        await append(b, [states[0]])
        await follower.look_until_known()
        assert follower.of(0) == [1, 2]

    run_scripted(test())


def test_what_is_beyond_the_end_is_never_taken(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, [states[0]], 2)
        await follower.look()
        await store.write_fence("a", "b")
        assert await store.seal_session("a", 1)
        await follower.look_until_known()
        assert follower.of(0) == [1]

    run_scripted(test())


def test_a_shard_that_moves_is_followed_along_its_epochs(store, follower):
    """Back and forth, also when nobody looked meanwhile."""

    async def test():
        a, states = await taken(store, "a")
        b, _ = await taken(store, "b", {})
        at, to = a, b
        for round_ in range(6):
            await append(at, [states[0]], 3)
            if round_ % 3:
                await follower.look_until_known()
            await at.give_up(0)
            states[0] = (await to.take({0: 0}, Limits()))[0]
            at, to = to, at
        await append(a, [states[1]], 2)
        await follower.look_until_known()
        assert follower.begun > 1, "it was back before anybody looked"
        assert follower.of(0) == numbers(18)
        assert follower.of(1) == numbers(2)

    run_scripted(test())


def test_shards_that_were_taken_over_go_on(store, follower):
    async def test():
        for name in ("a", "b", "c"):
            session, states = await taken(store, name)
            await append(session, list(states.values()), 4)
            if name == "b":
                await follower.look()
        await follower.look_until_known()
        for shard in range(SHARD_COUNT):
            assert follower.of(shard) == numbers(12)

    run_scripted(test())


def test_it_goes_on_where_it_was(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, list(states.values()), 6)
        while await follower.look(1):
            follower.begin()
        session, states = await taken(store, "b")
        await append(session, [states[1]], 2)
        follower.begin()
        await follower.look_until_known()
        assert follower.of(0) == numbers(6)
        assert follower.of(1) == numbers(8)

    run_scripted(test())


def test_with_nothing_new_a_session_costs_two_readings_and_a_shard_none(
    store, follower
):
    async def test():
        session, states = await taken(store, "a")
        await append(session, list(states.values()), 2)
        await follower.look_until_known()
        await follower.look_until_known()
        store.calls.clear()
        for _ in range(int(all_shards.LOOK_SECONDS)):
            await follower.look()
        assert store.calls.count("read_parts") == 2 * all_shards.LOOK_SECONDS
        # And once in that time, whether it goes on.
        others = [each for each in store.calls if each != "read_parts"]
        assert others == ["list_sessions", "read_session", "read_mark"]

    run_scripted(test())


def test_a_session_that_came_when_nobody_looked_is_found(store, follower):
    async def test():
        a, states = await taken(store, "a")
        await append(a, [states[0]], 2)
        await follower.look_until_known()
        b = await begun(store, "b")
        await a.give_up(0)
        states[0] = (await b.take({0: 0}, Limits()))[0]
        await append(b, [states[0]], 2)
        assert await follower.look_until_known() == [(0, 3), (0, 4)]

    run_scripted(test())


async def checkpoint(session, states):
    for shard, state in states.items():
        await session.checkpoint(
            shard, state.sequence, session.writer.released, dump(state)
        )


async def drop(store, *sessions):
    """All that nobody needs."""
    return await tidy(store, sessions, range(SHARD_COUNT), [], NOW + 1, PATIENCE)


def test_what_was_dropped_before_it_was_read_is_in_a_state(store, follower):
    async def test():
        session, states = await taken(store, "a", {0: 0, 1: 0})
        await append(session, [states[0]], 10)
        await checkpoint(session, states)
        assert (await drop(store, "a")).dropped == 2
        await append(session, list(states.values()), 2)
        await follower.look_until_known()
        assert [state.sequence for state in follower.states] == [10]
        # As far as it was there still, below the state, too.
        assert follower.of(0) == numbers(12, first=7)
        assert follower.of(1) == numbers(2)
        assert follower.reached[0].base == 10

    run_scripted(test())


def test_who_fell_behind_goes_on_from_a_state(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, [states[0], states[1]], 4)
        await follower.look_until_known()
        await append(session, [states[0]], 9)
        await checkpoint(session, states)
        await drop(store, "a")
        await append(session, [states[0]])
        await follower.look_until_known()
        assert follower.begun == 2
        assert [state.shard for state in follower.states] == [0]
        assert follower.of(0) == [*numbers(4), *numbers(14, first=10)]
        assert follower.of(1) == numbers(4)

    run_scripted(test())


def test_who_has_all_that_was_dropped_needs_no_state(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, list(states.values()), 8)
        await follower.look_until_known()
        other, states = await taken(store, "b")
        await checkpoint(other, states)
        assert (await drop(store, "a")).dropped == 3
        await append(other, [states[3]])
        follower.begin()
        await follower.look_until_known()
        assert follower.states == []
        assert follower.of(3) == numbers(9)

    run_scripted(test())


def test_a_position_of_another_log_is_said(store, follower):
    async def test():
        await taken(store, "a")
        follower.reached[2] = Reached(Published(7, 9, "elsewhere", 0, 3))
        follower.begin()
        with pytest.raises(JournalMismatch, match="epoch 9 of session elsewhere"):
            await follower.look()

    run_scripted(test())


def test_entries_that_are_missing_are_damage(store, follower):
    async def test():
        session, states = await taken(store, "a")
        await append(session, [states[0]], 3)
        await follower.look_until_known()
        await append(session, [states[0]])
        await end_session(store, "a", "b", PATIENCE)
        reached = follower.reached[0].published
        follower.reached[0] = Reached(replace(reached, sequence=2))
        follower.begin()
        with pytest.raises(JournalDamaged, match="expected entry 3, got entry 4"):
            await follower.look_until_known()

    run_scripted(test())


def test_a_far_behind_shard_does_not_keep_others_waiting(store, follower):
    async def test():
        session, states = await taken(store, "a", {0: 0})
        await append(session, [states[0]], 40)
        other, states = await taken(store, "b", {1: 0})
        await append(other, [states[1]], 3)
        assert (await follower.reader.read(1)).positions.keys() == {0}
        assert (await follower.reader.read(1)).positions.keys() == {1}

    run_scripted(test())
