"""Shards go from session to session, by force and as planned, with all entries."""

from __future__ import annotations

import asyncio

import pytest

from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.store import Epoch, EpochId, Position
from switch.journal.errors import JournalError, JournalFenced, JournalUnknown
from switch.ledger import Limits, dump
from tests.unit.journal.cassandra.build import (
    ALL,
    SHARD_COUNT,
    accounts,
    append,
    begun,
    run_scripted,
    taken,
)


def names(count: int) -> list[str]:
    return [f"account-{number}" for number in range(1, count + 1)]


def run(test):
    run_scripted(test(MemoryStore()))


def test_the_first_session_finds_empty_shards():
    async def test(store):
        session, states = await taken(store, "s1")
        assert [states[shard].sequence for shard in range(SHARD_COUNT)] == [0] * 4
        assert session.epochs[2] == Epoch(2, EpochId(1, "s1"), None, Position(0, 0))
        assert store.current[2] == EpochId(1, "s1")

    run(test)


def test_a_successor_has_all_entries_and_the_predecessor_is_fenced():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, list(states.values()), 8)
        _, states = await taken(store, "s2")
        assert accounts(states[3]) == names(8)
        assert store.sessions["s1"].sealed_at == 8
        assert store.fences == {"s1": "s2"}
        with pytest.raises(JournalFenced):
            await append(first, [(await taken(store, "s3"))[1][0]])

    run(test)


def test_what_a_fenced_session_appends_beyond_the_end_is_not_there():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        await taken(store, "s2")
        with pytest.raises(JournalFenced):
            await append(first, [states[0]])
        assert ("s1", 0) in store.rows
        _, found = await taken(store, "s3")
        assert accounts(found[0]) == names(2)

    run(test)


def test_the_number_of_an_epoch_is_not_below_the_revision_of_its_key():
    async def test(store):
        await taken(store, "s1", {0: 100, 1: 0})
        second, _ = await taken(store, "s2", {0: 7, 1: 300})
        assert second.epochs[0].id == EpochId(101, "s2")
        assert second.epochs[1].id == EpochId(300, "s2")
        assert second.epochs[1].parent == EpochId(1, "s1")

    run(test)


def test_one_shard_is_given_away_while_the_log_goes_on():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0], states[1]], 3)
        await first.give_up(1)
        await append(first, [states[0]], 2)
        second, moved = await taken(store, "s2", {1: 0})
        assert store.fences == {}
        assert accounts(moved[1]) == names(3)
        await append(second, [moved[1]], 2)
        assert await append(first, [states[0]]) == 6
        _, found = await taken(store, "s3")
        assert accounts(found[0]) == names(6)
        assert accounts(found[1]) == names(5)
        assert store.epochs[1][EpochId(1, "s1")].sealed_at == 3

    run(test)


def test_a_shard_that_comes_back_is_in_another_epoch_of_the_same_log():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        await first.give_up(0)
        await append(first, [states[1]], 1)
        second, moved = await taken(store, "s2", {0: 0})
        await append(second, [moved[0]], 1)
        await second.give_up(0)
        back = await first.take({0: 0}, Limits())
        assert accounts(back[0]) == names(3)
        await append(first, [back[0]], 1)
        _, found = await taken(store, "s3")
        assert accounts(found[0]) == names(4)
        epoch = store.epochs[0][EpochId(3, "s1")]
        assert epoch.begins_after.number == 3

    run(test)


def test_giving_up_waits_for_what_is_in_flight():
    class Slow(MemoryStore):
        async def read_fence(self, session):
            await asyncio.sleep(0.001)
            return await super().read_fence(session)

    async def test():
        store = Slow()
        first, states = await taken(store, "s1")
        appending = asyncio.create_task(append(first, [states[0]]))
        await asyncio.sleep(0)
        await first.give_up(0)
        assert first.writer.released.number == 1
        assert store.epochs[0][EpochId(1, "s1")].sealed_at == 1
        await appending

    run_scripted(test())


def test_nothing_is_appended_once_it_is_given_up_whatever_comes_of_it():
    async def test(store):
        first, states = await taken(store, "s1")
        store.faults["seal_epoch"] = [False] * 1000
        with pytest.raises(JournalUnknown):
            await first.give_up(0)
        with pytest.raises(JournalError, match="shards that this session has not"):
            await append(first, [states[0]])
        assert 0 not in first.epochs
        # Taken again it is sealed first.
        store.faults.clear()
        await first.take({0: 0}, Limits())
        assert store.epochs[0][EpochId(1, "s1")].sealed_at == 0
        assert first.epochs[0].id == EpochId(2, "s1")

    run(test)


@pytest.mark.parametrize("call", ["open_epoch", "seal_session", "write_fence"])
@pytest.mark.parametrize("is_done", [False, True])
def test_unknown_outcomes_are_settled(call, is_done):
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        store.faults[call] = [is_done, is_done]
        _, found = await taken(store, "s2")
        assert accounts(found[0]) == names(2)
        assert store.current[0] == EpochId(2, "s2")

    run(test)


@pytest.mark.parametrize("is_done", [False, True])
def test_an_epoch_that_was_opened_unbeknown_is_gone_on_with(is_done):
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        second = await begun(store, "s2")
        store.faults["open_epoch"] = [is_done] * 1000
        with pytest.raises(JournalUnknown):
            await second.take({0: 5}, Limits())
        assert second.epochs == {}
        assert (store.current[0].session == "s2") is is_done
        store.faults.clear()
        await append(second, [(await second.take({1: 0}, Limits()))[1]])
        found = await second.take({0: 9}, Limits())
        assert accounts(found[0]) == names(2)
        # The same again: it might have been applied in between.
        assert store.current[0] == EpochId(5, "s2")
        await append(second, [found[0]])
        _, found = await taken(store, "s3")
        assert accounts(found[0]) == names(3)

    run(test)


def test_who_was_overtaken_begins_again_from_the_real_current_one():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        second = await begun(store, "s2")
        open_epoch = store.open_epoch

        async def overtaken(epoch):
            store.open_epoch = open_epoch
            third, found = await taken(store, "s3")
            await append(third, [found[0]], 2)
            return await open_epoch(epoch)

        store.open_epoch = overtaken
        found = await second.take({0: 0}, Limits())
        assert accounts(found[0]) == names(4)
        assert store.sessions["s3"].sealed_at == 2
        assert store.epochs[0][store.current[0]].parent == EpochId(2, "s3")

    run(test)


def test_a_session_that_is_over_takes_nothing():
    async def test(store):
        first, states = await taken(store, "s1", {0: 0})
        await taken(store, "s2", {0: 0})
        with pytest.raises(JournalFenced):
            await append(first, [states[0]])
        with pytest.raises(JournalFenced):
            await first.take({1: 0}, Limits())
        with pytest.raises(JournalFenced):
            await first.checkpoint(0, 0, Position(0, 0), b"")

    run(test)


def test_what_it_has_is_not_taken_again():
    async def test(store):
        first, _ = await taken(store, "s1", {0: 0})
        with pytest.raises(JournalError, match="is this session's already"):
            await first.take({0: 0}, Limits())

    run(test)


def test_only_what_came_behind_a_checkpoint_is_read():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, list(states.values()), 7)
        for shard in ALL:
            position = first.writer.released
            data = dump(states[shard])
            await first.checkpoint(shard, 7, position, data)
        await append(first, [states[0]], 2)
        second = await begun(store, "s2")
        store.calls.clear()
        del store.rows[("s1", 0)]
        del store.rows[("s1", 1)]
        found = await second.take(ALL, Limits())
        assert accounts(found[0]) == names(9)
        assert accounts(found[1]) == names(7)

    run(test)


def test_what_was_read_ahead_is_not_read_again():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 5)
        for shard in (0, 1):
            await first.give_up(shard)
        second = await begun(store, "s2")
        await second.read_ahead([0, 1], Limits())
        await asyncio.sleep(1.0)
        store.calls.clear()
        found = await second.take({0: 40, 1: 0}, Limits())
        assert store.calls == ["open_epoch"] * 2
        assert accounts(found[0]) == names(5)
        assert second.epochs[0].id == EpochId(40, "s2")
        await append(second, [found[0]])
        _, found = await taken(store, "s3")
        assert accounts(found[0]) == names(6)

    run(test)


def test_what_moved_since_it_was_read_ahead_is_read_again():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        await first.give_up(0)
        second = await begun(store, "s2")
        await second.read_ahead([0], Limits())
        third, moved = await taken(store, "s3", {0: 0})
        await append(third, [moved[0]], 3)
        await third.give_up(0)
        found = await second.take({0: 0}, Limits())
        assert accounts(found[0]) == names(5)
        assert second.epochs[0].parent == third_epoch(store)
        assert store.fences == {}

    def third_epoch(store):
        return next(epoch for epoch in store.epochs[0] if epoch.session == "s3")

    run(test)


def test_reading_ahead_fences_nobody_and_leaves_what_may_still_be_written():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        second = await begun(store, "s2")
        await second.read_ahead([0, 1], Limits())
        assert store.fences == {}
        await append(first, [states[0]], 1)
        found = await second.take({0: 0, 1: 0}, Limits())
        assert accounts(found[0]) == names(3)
        assert store.fences == {"s1": "s2"}

    run(test)


def test_of_a_session_that_was_ended_all_is_read_ahead():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0], states[1]], 2)
        await taken(store, "s2", {1: 0})
        third = await begun(store, "s3")
        await third.read_ahead([0], Limits())
        await asyncio.sleep(1.0)
        store.calls.clear()
        found = await third.take({0: 0}, Limits())
        assert store.calls == ["open_epoch"]
        assert accounts(found[0]) == names(2)

    run(test)


def test_a_reading_ahead_that_fails_is_as_if_it_had_not_been():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        await first.give_up(0)
        second = await begun(store, "s2")
        store.faults["read_parts"] = [False] * 100
        await second.read_ahead([0], Limits())
        await asyncio.sleep(1.0)
        store.faults.clear()
        found = await second.take({0: 0}, Limits())
        assert accounts(found[0]) == names(2)

    run(test)


def test_one_that_was_stopped_takes_nothing_that_it_has_read():
    async def test(store):
        first, _ = await taken(store, "s1")
        await first.give_up(0)
        second = await begun(store, "s2")
        await second.read_ahead([0], Limits())
        second.stop(JournalError("its lease is over"))
        with pytest.raises(JournalError, match="lease"):
            await second.take({0: 0}, Limits())
        assert store.current[0].session == "s1"

    run(test)


def test_a_session_that_several_shards_need_ended_is_ended_once():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, list(states.values()), 2)
        store.calls.clear()
        second = await begun(store, "s2")
        store.calls.clear()
        await second.read_ahead(list(ALL), Limits())
        assert store.calls.count("read_session") == 1
        await second.take(ALL, Limits())
        assert store.calls.count("write_fence") == 1
        assert store.calls.count("seal_session") == 1

    run(test)


def test_what_is_not_read_yet_when_its_epoch_opens_is_read_again():
    async def test(store):
        first, states = await taken(store, "s1")
        await append(first, [states[0]], 2)
        await first.give_up(0)
        second = await begun(store, "s2")
        store.faults["read_parts"] = [False] * 100
        await second.read_ahead([0], Limits())
        asyncio.get_running_loop().call_later(0.03, store.faults.clear)
        found = await second.take({0: 0}, Limits())
        assert store.current[0] == EpochId(2, "s2")
        assert accounts(found[0]) == names(2)
        await append(second, [found[0]])
        _, found = await taken(store, "s3")
        assert accounts(found[0]) == names(3)

    run(test)
