"""A log is walked over parts and segments, and ends at the first gap."""

from __future__ import annotations

import pytest

from switch.journal.cassandra import log
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.store import (
    BEGINNING,
    COMMIT_BYTES_MAX,
    PART_BYTES_MAX,
    Part,
    Position,
)
from switch.journal.errors import JournalError
from tests.unit.journal.cassandra.build import run_scripted


async def put(store: MemoryStore, segment: int, *parts: Part) -> None:
    for part in parts:
        await store.insert_part("s", segment, part)


def one(number: int) -> Part:
    return Part(number, 0, 1, bytes([number]))


async def walk(store: MemoryStore, position: Position = BEGINNING) -> list[int]:
    numbers = []
    while batch := await log.read_batch(store, "s", position):
        numbers += [stored.position.number for stored in batch]
        position = batch[-1].position
    return numbers


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ({}, []),
        ({0: [1, 2, 3]}, [1, 2, 3]),
        ({0: [1, 2], 1: [3], 2: [4, 5]}, [1, 2, 3, 4, 5]),
        ({0: [1, 3]}, [1]),
        ({0: [2, 3]}, []),
        ({0: [1, 2], 1: [4], 2: [5]}, [1, 2]),
        ({0: [1], 2: [2]}, [1]),
    ],
)
def test_it_ends_at_the_first_gap(segments, expected):
    async def go():
        store = MemoryStore()
        for segment, numbers in segments.items():
            await put(store, segment, *map(one, numbers))
        assert await walk(store) == expected

    run_scripted(go())


def test_it_may_begin_anywhere():
    async def go():
        store = MemoryStore()
        await put(store, 3, one(7), one(8))
        await put(store, 4, one(9))
        assert await walk(store, Position(3, 6)) == [7, 8, 9]
        assert await walk(store, Position(2, 6)) == [7, 8, 9]
        assert await walk(store, Position(3, 8)) == [9]
        assert await walk(store, Position(4, 9)) == []

    run_scripted(go())


def test_a_commit_of_several_parts_is_there_when_all_of_it_is():
    data = bytes(2 * PART_BYTES_MAX) + b"end"
    parts = log.split(2, data)
    assert [(part.index, part.count) for part in parts] == [(0, 3), (1, 3), (2, 3)]

    async def go():
        store = MemoryStore()
        await put(store, 0, one(1), parts[0], parts[2])
        assert await walk(store) == [1]
        await put(store, 0, parts[1])
        (first, second) = await log.read_batch(store, "s", BEGINNING)
        assert second.data == data
        assert first.position == Position(0, 1)

    run_scripted(go())


def test_a_commit_that_is_too_large_is_refused():
    with pytest.raises(JournalError, match="commit too large"):
        log.split(1, bytes(COMMIT_BYTES_MAX + 1))
