"""Keys and states of shards that are taken, at the same time."""

from __future__ import annotations

import asyncio

from switch.cluster.taking import take
from switch.journal.errors import JournalError
from switch.ledger import Limits, State
from switch.ownership.port import OwnershipError
from tests.simulation.cluster.fakes import Grant
from tests.simulation.cluster.virtual import run


class Keys:
    """`go` lets the grants go; those of `refused` are others'."""

    def __init__(self, refused=()):
        self.asked: list[int] = []
        self.go = asyncio.Event()
        self._refused = refused

    async def acquire(self, shard):
        self.asked.append(shard)
        await self.go.wait()
        if shard in self._refused:
            raise OwnershipError("it is another's")
        return Grant("s", 100 + shard)


class Journal:
    def __init__(self, lacking=(), error=None, unreadable=range(100)):
        self._unreadable = set(unreadable)
        self.read: list[int] = []
        self.taken: dict[int, int] | None = None
        self._lacking = lacking
        self._error = error

    async def read_ahead(self, shards, limits):
        self.read += shards

    def forget_ahead(self):
        self.read.clear()

    async def take(self, shards, limits):
        self.taken = dict(shards)
        if self._error is not None and self._unreadable.intersection(shards):
            raise self._error
        return {
            shard: State(shard, limits)
            for shard in shards
            if shard not in self._lacking
        }


def test_all_keys_are_asked_for_while_the_journal_is_read():
    async def scenario():
        keys, journal = Keys(), Journal()
        taking = asyncio.create_task(take(keys, journal, [3, 5], Limits()))
        await asyncio.sleep(1)
        assert (keys.asked, journal.read, journal.taken) == ([3, 5], [3, 5], None)
        keys.go.set()
        states = await taking
        assert journal.taken == {3: 103, 5: 105}
        assert [state and state.shard for state in states.values()] == [3, 5]

    run(scenario())


def test_what_is_not_granted_is_not_taken():
    async def scenario():
        keys, journal = Keys(refused={3}), Journal()
        keys.go.set()
        assert list(await take(keys, journal, [3, 5], Limits())) == [5]
        assert journal.taken == {5: 105}
        keys, journal = Keys(refused={3}), Journal()
        keys.go.set()
        assert await take(keys, journal, [3], Limits()) == {}
        assert journal.taken is None

    run(scenario())


def test_what_the_journal_gave_to_others_is_told_apart_from_what_it_did_not_do():
    async def scenario():
        keys = Keys()
        keys.go.set()
        states = await take(keys, Journal(lacking={3}), [3, 5], Limits())
        assert [shard for shard, state in states.items() if state is None] == [3]
        journal = Journal(error=JournalError("no answer"))
        assert await take(keys, journal, [3, 5], Limits()) == {}

    run(scenario())


def test_a_shard_that_cannot_be_read_does_not_keep_the_others():
    async def scenario():
        keys = Keys()
        keys.go.set()
        journal = Journal(error=JournalError("damaged"), unreadable=[5])
        states = await take(keys, journal, [3, 5, 7], Limits())
        assert set(states) == {3, 7}

    run(scenario())


def test_what_was_read_ahead_of_keys_that_others_have_is_forgotten():
    async def scenario():
        keys, journal = Keys(refused=[3, 5]), Journal()
        keys.go.set()
        assert await take(keys, journal, [3, 5], Limits()) == {}
        assert (journal.read, journal.taken) == ([], None)

    run(scenario())
