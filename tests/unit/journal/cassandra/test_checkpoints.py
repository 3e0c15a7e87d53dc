"""The checkpoint that stands furthest is the one, and its chunks stay while it is."""

from __future__ import annotations

import pytest

from switch.journal.cassandra import checkpoints
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.store import EpochId, Position
from switch.journal.errors import JournalDamaged, JournalVersion
from tests.unit.journal.cassandra.build import PATIENCE, run_scripted

SMALL = b"a state"
LARGE = bytes(range(256)) * 5000  # three chunks


async def write(store, sequence, data, *, epoch=1, session="s1", commit=0):
    commit = commit or sequence
    await checkpoints.write(
        store,
        0,
        sequence,
        EpochId(epoch, session),
        Position(0, commit),
        data,
        PATIENCE,
    )


async def read(store):
    return await checkpoints.read(store, 0, PATIENCE)


def run(test):
    run_scripted(test(MemoryStore()))


@pytest.mark.parametrize("data", [SMALL, LARGE, b""], ids=["one", "three", "none"])
def test_what_is_read_is_what_was_written(data):
    async def test(store):
        assert await read(store) is None
        await write(store, 7, data)
        head, got = await read(store)
        assert got == data
        assert (head.sequence, head.start) == (7, (EpochId(1, "s1"), Position(0, 7)))

    run(test)


def test_a_newer_one_replaces_it_and_its_chunks():
    async def test(store):
        await write(store, 7, SMALL)
        await write(store, 9, LARGE)
        assert (await read(store))[1] == LARGE
        assert list(store.chunks) == [(0, "9-s1-9")]

    run(test)


def test_an_older_one_that_comes_late_changes_nothing():
    async def test(store):
        await write(store, 9, LARGE, epoch=2, session="s2")
        await write(store, 7, SMALL)
        assert (await read(store))[1] == LARGE
        assert list(store.chunks) == [(0, "9-s2-9")]

    run(test)


def test_of_two_with_one_sequence_the_later_epoch_is_kept():
    async def test(store):
        await write(store, 7, SMALL, epoch=300, session="a", commit=1)
        await write(store, 7, LARGE, epoch=2, session="z", commit=9)
        assert (await read(store))[1] == SMALL

    run(test)


def test_a_quiet_shard_s_goes_along_without_its_data():
    async def test(store):
        await write(store, 7, SMALL)
        at = (EpochId(1, "s1"), Position(3, 50))
        assert await checkpoints.renew(store, 0, 7, *at, PATIENCE)
        head, got = await read(store)
        assert (head.start, got) == (at, SMALL)
        assert not await checkpoints.renew(store, 0, 8, *at, PATIENCE)
        assert not await checkpoints.renew(store, 1, 0, *at, PATIENCE)

    run(test)


def test_chunks_that_go_while_they_are_read_lead_to_the_newer_one():
    async def test(store):
        await write(store, 7, LARGE)
        read_chunk = store.read_chunk

        async def meanwhile(shard, name, index):
            if index == 1 and name == "7-s1-7":
                await write(store, 9, SMALL)
            return await read_chunk(shard, name, index)

        store.read_chunk = meanwhile
        assert (await read(store))[1] == SMALL

    run(test)


def test_what_is_missing_or_changed_is_damage():
    async def test(store):
        await write(store, 7, LARGE)
        store.chunks[0, "7-s1-7"][1] = bytes(checkpoints.CHUNK_BYTES_MAX)
        with pytest.raises(JournalDamaged, match="changed since it was written"):
            await read(store)
        del store.chunks[0, "7-s1-7"][1]
        with pytest.raises(JournalDamaged, match="chunks of the checkpoint of shard 0"):
            await read(store)

    run(test)


def test_one_of_another_format_is_refused(monkeypatch):
    async def test(store):
        monkeypatch.setattr(checkpoints, "FORMAT_VERSION", 2)
        await write(store, 7, SMALL)
        monkeypatch.undo()
        with pytest.raises(JournalVersion, match="expected 1, got 2"):
            await read(store)

    run(test)
