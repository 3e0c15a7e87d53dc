"""The end of a session: agreed, at a quorum, whoever asks and however often."""

from __future__ import annotations

import pytest

from switch.journal.cassandra import log, takeover
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.store import Part, Position
from switch.journal.errors import JournalMissing, JournalUnknown
from tests.unit.journal.cassandra.build import PATIENCE, append, run_scripted, taken


async def ended(store: MemoryStore, by: str = "s2") -> int:
    return await takeover.end_session(store, "s1", by, PATIENCE)


def after(count, then):
    """`then(store)` with a session that has appended `count` commits."""

    async def go():
        store = MemoryStore()
        session, states = await taken(store, "s1")
        await append(session, [states[0]], count)
        store.calls.clear()
        await then(store)

    run_scripted(go())


def test_it_is_fenced_then_read_then_written_back_then_sealed():
    async def then(store):
        assert await ended(store) == 2
        calls = [call for call in store.calls if not call.startswith("read_mark")]
        assert calls == [
            "read_session", "write_fence", "read_parts", "read_parts", "read_parts",
            "insert_part", "seal_session",
        ]  # fmt: skip

    after(2, then)


def test_the_end_that_is_there_is_the_end():
    async def then(store):
        assert await ended(store) == 2
        await store.insert_part("s1", 0, Part(3, 0, 1, b"late"))
        assert await ended(store, "s3") == 2

    after(2, then)


def test_who_comes_second_takes_the_other_end():
    async def then(store):
        seal = store.seal_session

        async def overtaken(session, end):
            store.seal_session = seal
            assert await seal(session, 1)
            return await seal(session, end)

        store.seal_session = overtaken
        assert await ended(store) == 1

    after(2, then)


def test_a_row_behind_a_gap_does_not_count():
    async def then(store):
        await store.insert_part("s1", 0, Part(4, 0, 1, b"after a gap"))
        assert await ended(store) == 2

    after(2, then)


def test_an_empty_session_ends_at_nothing():
    async def then(store):
        assert await ended(store) == 0

    after(0, then)


def test_the_tail_is_read_from_the_last_mark():
    async def then(store):
        await store.write_mark("s1", log.RELEASED, Position(2, 9))
        del store.rows["s1", 0]
        assert await ended(store) == 10

    after(10, then)


def test_a_tail_that_is_dropped_meanwhile_is_read_again():
    async def then(store):
        read_parts = store.read_parts

        async def dropped_first(*arguments):
            if store.read_parts is not read_parts:
                store.read_parts = read_parts
                await store.write_mark("s1", log.FLOOR, Position(1, 3))
                await store.drop_segment("s1", 0)
            return await read_parts(*arguments)

        store.read_parts = dropped_first
        assert await ended(store) == 7

    after(7, then)


def test_there_must_be_one():
    with pytest.raises(JournalMissing, match="no such session"):
        run_scripted(ended(MemoryStore()))


@pytest.mark.parametrize("call", ["write_fence", "read_parts", "seal_session"])
def test_when_nothing_answers_it_says_so_and_may_be_tried_again(call):
    async def then(store):
        store.faults[call] = [False] * 1000
        with pytest.raises(JournalUnknown):
            await ended(store)
        store.faults.clear()
        assert await ended(store) == 2

    after(2, then)
