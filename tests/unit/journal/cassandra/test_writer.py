"""A commit is released when it is acknowledged and a fence read afterwards is empty."""

from __future__ import annotations

import asyncio

import pytest

from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.store import Position
from switch.journal.cassandra.writer import SessionWriter, Timed
from switch.journal.errors import (
    JournalError,
    JournalFenced,
    JournalStopped,
    JournalUnknown,
)
from tests.unit.journal.build import batch
from tests.unit.journal.cassandra.build import run_scripted, writer_of

FIRST = {0: 0, 1: 0, 2: 0, 3: 0}


def run(faults=None, *, count=1, fenced=False):
    """Appends; returns the store, the writer, and what was raised."""

    async def go():
        store = MemoryStore()
        store.faults = dict(faults or {})
        if fenced:
            store.fences["s1"] = "s2"
        writer = writer_of(store)
        writer.admit(FIRST)
        try:
            for number in range(1, count + 1):
                assert await writer.append(number, batch(number)) == number
                await asyncio.sleep(0)  # for the mark
        except JournalError as error:
            return store, writer, error
        return store, writer, None

    return run_scripted(go())


def test_the_fence_is_read_after_the_acknowledgement():
    store, writer, error = run()
    assert error is None
    assert store.calls == ["insert_part", "read_fence"]
    assert writer.released == Position(0, 1)


@pytest.mark.parametrize("is_done", [False, True])
def test_an_unknown_append_is_repeated_unchanged(is_done):
    # the store in memory refuses other bytes under the same key
    store, _, error = run({"insert_part": [is_done, is_done]})
    assert error is None
    assert store.calls == ["insert_part"] * 3 + ["read_fence"]


def test_an_append_that_stays_unknown_ends_the_session():
    store, writer, error = run({"insert_part": [True] * 1000})
    assert isinstance(error, JournalUnknown)
    assert "read_fence" not in store.calls
    assert writer.stopped is error
    assert writer.released == Position(0, 0)
    with pytest.raises(JournalUnknown):
        run_scripted(writer.append(2, batch(2)))


def test_a_fence_that_cannot_be_read_ends_the_session():
    _, writer, error = run({"read_fence": [False] * 1000})
    assert isinstance(error, JournalUnknown)
    assert writer.released == Position(0, 0)


def test_a_fenced_session_releases_nothing():
    _, writer, error = run(fenced=True)
    assert isinstance(error, JournalFenced)
    assert writer.released == Position(0, 0)
    assert writer.issued == Position(0, 1)


def test_what_is_in_flight_when_it_is_stopped_is_not_released():
    async def go():
        store = MemoryStore()
        writer = writer_of(store)
        writer.admit(FIRST)
        store.faults["insert_part"] = [False]
        appending = asyncio.create_task(writer.append(1, batch(1)))
        await asyncio.sleep(0)
        writer.stop(JournalStopped("the lease is over"))
        with pytest.raises(JournalStopped, match="the lease is over"):
            await appending
        with pytest.raises(JournalStopped):
            await writer.settle()
        return writer

    assert run_scripted(go()).released == Position(0, 0)


def test_a_cancelled_append_ends_the_session():
    async def go():
        store = MemoryStore()
        writer = writer_of(store)
        writer.admit(FIRST)
        store.faults["insert_part"] = [True]
        appending = asyncio.create_task(writer.append(1, batch(1)))
        await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
        with pytest.raises(JournalStopped, match="given up"):
            await writer.append(2, batch(2))

    run_scripted(go())


def test_one_append_at_a_time():
    class Slow(MemoryStore):
        async def insert_part(self, *arguments):
            await asyncio.sleep(0)
            await super().insert_part(*arguments)

    async def go_slow():
        writer = writer_of(Slow())
        writer.admit(FIRST)
        first = asyncio.create_task(writer.append(1, batch(1)))
        await asyncio.sleep(0)
        with pytest.raises(JournalError, match="another one is in flight"):
            await writer.append(2, batch(2))
        assert await first == 1

    run_scripted(go_slow())


def test_only_shards_that_it_has_in_their_order():
    async def go():
        writer = writer_of(MemoryStore())
        writer.admit({0: 0, 1: 4})
        with pytest.raises(JournalError, match="gap in the sequence of shard 1"):
            await writer.append(1, batch(1))
        writer.admit({1: 0})
        assert await writer.append(1, batch(1)) == 1
        with pytest.raises(JournalError, match="shards that this session has not"):
            await writer.append(1, batch(2))
        writer.forget(1)
        with pytest.raises(JournalError, match="shards that this session has not"):
            await writer.append(1, batch(3))

    run_scripted(go())


def test_a_full_segment_is_followed_by_another_and_a_mark():
    store, writer, error = run(count=7)
    assert error is None
    assert {key: len(rows) for key, rows in store.rows.items()} == {
        ("s1", 0): 3,
        ("s1", 1): 3,
        ("s1", 2): 1,
    }
    assert writer.released == Position(2, 7)
    assert store.marks == {("s1", "released"): Position(1, 6)}


def test_a_mark_that_fails_is_no_harm():
    _, writer, error = run({"write_mark": [False, False]}, count=7)
    assert error is None
    assert writer.released == Position(2, 7)


def test_it_is_confirmed_by_its_fence():
    async def go():
        store = MemoryStore()
        writer = writer_of(store)
        writer.admit(FIRST)
        await writer.confirm()
        assert store.calls == ["read_fence"]
        store.faults["read_fence"] = [False] * 1000
        with pytest.raises(JournalUnknown):
            await writer.confirm()
        store.faults.clear()
        assert await writer.append(1, batch(1)) == 1
        store.fences["s1"] = "s2"
        with pytest.raises(JournalFenced):
            await writer.confirm()
        with pytest.raises(JournalFenced):
            await writer.append(2, batch(2))

    run_scripted(go())


def test_both_halves_of_a_commit_are_timed():
    async def go():
        appends: list[float] = []
        looks: list[float] = []
        writer = SessionWriter(
            MemoryStore(), "s1", 4, timed=Timed(appends.append, looks.append)
        )
        writer.admit(FIRST)
        await writer.append(1, batch(1))
        await writer.confirm()
        assert (len(appends), len(looks)) == (1, 2)
        assert min(appends + looks) >= 0

    run_scripted(go())
