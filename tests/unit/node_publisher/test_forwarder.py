"""One engine's way through the shards of a node, which come and go."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from switch.journal.cassandra import publishers
from switch.journal.cassandra.store import Position
from switch.node_publisher import forwarder as shard_forwarder
from switch.node_publisher import places
from switch.publisher import forwarder
from tests.unit.follower.running import until_it_is_so
from tests.unit.journal.cassandra.build import PATIENCE, SHARD_COUNT, taken
from tests.unit.node_publisher.lab import ENGINE, Lab, Publishing, numbered

FIRST = {0: 0, 1: 0}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(forwarder, "RETRY_SECONDS_MIN", 0.001)
    monkeypatch.setattr(forwarder, "RETRY_SECONDS_MAX", 0.002)
    monkeypatch.setattr(places, "POSITION_SECONDS", 0.0)
    monkeypatch.setattr(places, "POSITIONS_PER_SECOND", 1e9)
    monkeypatch.setattr(shard_forwarder, "LOOK_AGAIN_SECONDS", 0.001)


@pytest.fixture
def lab(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    return Lab(tmp_path)


def run(test):
    asyncio.run(test())


def test_what_the_node_says_is_released_goes_out_and_nothing_else(lab):
    async def test():
        session, states = await taken(lab.store, "a")
        async with lab.publishing(session, states) as a:
            await a.append(0, 1, count=7)
            await a.until_done()
            assert lab.ids(0) == numbered(0, 7)
            # Acknowledged, as far as Cassandra goes, and not told.
            before = session.writer.released
            await a.append(0, count=3)
            a.tell(before)
            await asyncio.sleep(0.02)
            assert lab.ids(0) == numbered(0, 7)
            a.tell(Position(before.segment, before.number + 1))
            await until_it_is_so(lambda: lab.ids(0) == numbered(0, 8))
            a.tell()
            await a.until_done()
        assert lab.ids(0) == numbered(0, 10)
        assert lab.ids(1) == numbered(1, 7)
        assert a.forwarder.status.published == a.forwarder.status.entries == 17
        assert [lab.position(shard) for shard in (0, 1)] == [10, 7]

    run(test)


def test_a_shard_that_moves_goes_on_where_it_was(lab):
    """Back and forth: along the chain of its epochs, each event once."""

    async def test():
        a, states_a = await taken(lab.store, "a")
        b, states_b = await taken(lab.store, "b", {})
        async with (
            lab.publishing(a, states_a) as publishing_a,
            lab.publishing(b, states_b) as publishing_b,
        ):
            await publishing_a.append(0, 1, count=5)
            await publishing_a.until_done()
            at, to = publishing_a, publishing_b
            for _ in range(3):
                await at.give_up(0)
                await at.until_done()
                to.states.update(await to.session.take({0: 0}, states_a[0].limits))
                await to.append(0, count=4)
                await to.until_done()
                at, to = to, at
        assert lab.ids(0) == numbered(0, 17)
        assert lab.ids(1) == numbered(1, 5)
        assert lab.position(0) == 17

    run(test)


def test_the_next_owner_sends_what_a_killed_one_had_not_stored(lab, monkeypatch):
    async def test():
        a, states = await taken(lab.store, "a")
        async with lab.publishing(a, states) as publishing_a:
            await publishing_a.append(*range(SHARD_COUNT), count=4)
            await publishing_a.until_done()
            await until_it_is_so(lambda: lab.position(0) == 4)
            monkeypatch.setattr(places.ShardPlaces, "store", lambda self: None)
            monkeypatch.setattr(places.ShardPlaces, "close", _nothing)
            await publishing_a.append(0, count=4)
            await publishing_a.until_done()
        monkeypatch.undo()
        # Released, and not published at all.
        await publishing_a.append(0, count=2)
        b, states = await taken(lab.store, "b")
        async with lab.publishing(b, states) as publishing_b:
            await publishing_b.append(0)
            await publishing_b.until_done()
        assert lab.ids(0) == [*numbered(0, 8), *numbered(0, 11, first=5)]
        assert lab.ids(3) == numbered(3, 4)

    run(test)


async def _nothing(_self: object) -> None:
    pass


def test_a_deposed_publisher_moves_nobody_back(lab):
    """It goes on with what it was told, late; what is newer stays what it is."""

    async def test():
        a, states = await taken(lab.store, "a")
        async with AsyncExitStack() as stack:
            old = await stack.enter_async_context(lab.publishing(a, states))
            await old.append(0, count=3)
            await old.until_done()
            late = old.released
            await old.append(0, count=3)
            old.tell(late)
            b, states = await taken(lab.store, "b")
            new = await stack.enter_async_context(lab.publishing(b, states))
            await new.append(0, count=5)
            await new.until_done()
            await until_it_is_so(lambda: lab.position(0) == 11)
            old.tell()
            await old.until_done()
            await until_it_is_so(lambda: len(lab.taken) == 14)
        assert lab.ids(0) == [*numbered(0, 11), *numbered(0, 6, first=4)]
        assert lab.position(0) == 11

    run(test)


def test_a_shard_is_looked_at_again_until_it_is_where_the_node_says(lab):
    async def test():
        a, states = await taken(lab.store, "a", FIRST)
        async with lab.publishing(a, states) as publishing:
            await publishing.append(0)
            epochs, lab.store.epochs[1] = lab.store.epochs[1], {}
            publishing.waker.wake()
            await until_it_is_so(lambda: lab.ids() == numbered(0, 1))
            lab.store.epochs[1] = epochs
            await publishing.append(1)
            await publishing.until_done()
        assert lab.ids(1) == numbered(1, 1)

    run(test)


def test_a_quiet_shard_does_not_keep_old_segments(lab):
    async def test():
        a, states = await taken(lab.store, "a", FIRST)
        async with lab.publishing(a, states) as publishing:
            await publishing.append(0, count=10)
            await publishing.until_done()
        found = await publishers.read_published(lab.store, ENGINE, 1, PATIENCE)
        assert found is not None
        assert (found.sequence, found.segment) == (0, 3)

    run(test)


def test_what_an_engine_still_owes_is_not_written_as_out(lab):
    lab.prepare = lambda engine: setattr(engine, "settles", 2)
    lab.entries_max = 1

    async def test():
        a, states = await taken(lab.store, "a", {0: 0})
        # One commit to a reading: so few are in a segment.
        a.writer._segment_commits = 1
        async with lab.publishing(a, states) as publishing:
            await publishing.append(0, count=5)
            await publishing.until_done()
        assert lab.ids() == numbered(0, 5)
        assert lab.position(0) == 2

    run(test)


def test_an_operator_moves_it(lab):
    """Back to the beginning, and then beyond what is not out yet."""

    async def test():
        a, states = await taken(lab.store, "a", {0: 0})
        async with lab.publishing(a, states) as publishing:
            await publishing.append(0, count=4)
            await publishing.until_done()
            await until_it_is_so(lambda: lab.position(0) == 4)
            place = await publishers.read_published(lab.store, ENGINE, 0, PATIENCE)
            await publishers.move(lab.store, ENGINE, {}, PATIENCE)
            await until_it_is_so(lambda: lab.ids() == 2 * numbered(0, 4))
            name = await publishers.move(
                lab.store, ENGINE, {0: place_behind(place, 6)}, PATIENCE
            )
            await until_it_is_so(lambda: publishing.forwarder._places.name == name)
            await publishing.append(0, count=4)
            await publishing.until_done()
        assert lab.ids() == [*2 * numbered(0, 4), *numbered(0, 8, first=7)]
        assert lab.position(0, name) == 8
        assert await publishers.current_name(lab.store, ENGINE, PATIENCE) == name

    run(test)


def place_behind(place, sequence):
    return publishers.Published(
        sequence, place.epoch, place.session, place.segment, place.commit
    )


def test_entries_that_are_missing_are_a_fault_that_says_which(lab):
    async def test():
        a, states = await taken(lab.store, "a", {0: 0})
        async with lab.publishing(a, states) as publishing:
            await publishing.append(0, count=2)
            await publishing.until_done()
            await until_it_is_so(lambda: lab.position(0) == 2)
        place = await publishers.read_published(lab.store, ENGINE, 0, PATIENCE)
        await publishers.move(lab.store, ENGINE, {0: place_behind(place, 1)}, PATIENCE)
        await publishing.append(0)
        async with lab.publishing(a, states) as publishing:
            await until_it_is_so(lambda: publishing.forwarder.status.fault is not None)
            assert "expected entry 2" in publishing.forwarder.status.fault
        assert lab.ids() == numbered(0, 2)

    run(test)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_first_occurrences_come_in_order(lab, seed):
    """Engines fail, Cassandra is away, shards move and are taken over."""
    chance = random.Random(seed)
    lab.entries_max = chance.choice((1, 5, 50))
    lab.batches_max = chance.choice((1, 2, 3))
    is_bad = True

    def prepare(engine):
        if is_bad and chance.random() < 0.5:
            engine.is_unreachable = chance.random() < 0.3
            engine.fails_after = chance.randrange(6)

    lab.prepare = prepare

    async def test():
        nonlocal is_bad
        (lab.folder / "last").mkdir()
        async with AsyncExitStack() as stack:
            for name in ("a", "b", "c", "last"):
                is_bad = name != "last"
                session, states = await taken(lab.store, name)
                last = await stack.enter_async_context(lab.publishing(session, states))
                for _ in range(10):
                    await last.append(*chance.sample(range(SHARD_COUNT), 2))
                    if is_bad and chance.random() < 0.2:
                        lab.store.faults["write_published"] = [False] * 8
                    await asyncio.sleep(chance.choice((0, 0, 0.003)))
            await last.until_done()
            for shard, state in last.states.items():
                ids = list(dict.fromkeys(lab.ids(shard)))
                assert ids == numbered(shard, state.sequence)
        # What was written last is right: the publishers have ended.
        for shard, state in last.states.items():
            assert lab.position(shard) == state.sequence

    run(test)


def test_a_shard_that_was_away_is_read_along_its_epochs(lab):
    """What the log has of it now is behind what others wrote meanwhile."""

    async def test():
        a, states_a = await taken(lab.store, "a")
        b, states_b = await taken(lab.store, "b", {})
        at, other = Publishing(lab, a, states_a), Publishing(lab, b, states_b)
        await at.append(0, count=2)
        await at.forwarder._begin()
        assert await numbers_read(at) == [1, 2]
        await at.give_up(0)
        other.states.update(await b.take({0: 0}, states_a[0].limits))
        await other.append(0, count=2)
        await other.give_up(0)
        at.states.update(await a.take({0: 0}, states_a[0].limits))
        await at.append(0, count=2)
        assert await numbers_read(at) == []
        await at.forwarder._move()
        assert await numbers_read(at) == [1, 2, 3, 4, 5, 6]
        await at.forwarder._end()
        at.waker.close()
        other.waker.close()

    async def numbers_read(at):
        batch = await at.forwarder._read(None)
        records = [record for commit in batch.commits for record in commit.records]
        return [record.first_sequence for record in records]

    run(test)
