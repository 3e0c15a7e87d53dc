"""A segment goes when nobody can need it any more, and never before it is named."""

from __future__ import annotations

from switch.journal.cassandra import log, publishers, retention
from switch.journal.cassandra.following import ShardReader
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.store import Epoch, EpochId, Position
from switch.ledger import Limits, dump
from tests.unit.journal.cassandra.build import (
    NOW,
    PATIENCE,
    SHARD_COUNT,
    accounts,
    append,
    run_scripted,
    taken,
)

LATER = NOW + 1


async def tidy(store, before=LATER, names=()):
    found = await retention.tidy(
        store, list(store.sessions), range(SHARD_COUNT), names, before, PATIENCE
    )
    return found.dropped


async def checkpoint_all(session, states):
    for shard, state in states.items():
        position = session.writer.released
        if not await session.renew_checkpoint(shard, state.sequence, position):
            data = dump(state)
            await session.checkpoint(shard, state.sequence, position, data)


def segments(store, session="s1"):
    return sorted(segment for name, segment in store.rows if name == session)


def run(test):
    async def go():
        store = MemoryStore()
        session, states = await taken(store, "s1")
        await append(session, [states[0], states[1]], 10)
        assert segments(store) == [0, 1, 2, 3]
        await test(store, session, states)

    run_scripted(go())


def test_without_checkpoints_all_is_needed():
    async def test(store, session, states):
        assert await tidy(store) == 0
        assert segments(store) == [0, 1, 2, 3]

    run(test)


def test_what_is_behind_the_checkpoints_of_all_shards_goes():
    async def test(store, session, states):
        await checkpoint_all(session, states)
        # Up to where the log is marked as released; the rest, the next time.
        assert await tidy(store) == 2
        assert segments(store) == [2, 3]
        assert store.marks["s1", log.FLOOR] == Position(2, 6)
        assert await tidy(store) == 0
        _, found = await taken(store, "s2")
        assert len(accounts(found[0])) == 10

    run(test)


def test_a_quiet_shard_does_not_keep_the_log():
    async def test(store, session, states):
        await checkpoint_all(session, states)
        await append(session, [states[0]], 9)
        await checkpoint_all(session, states)
        assert await tidy(store) == 5

    run(test)


def test_what_is_not_old_enough_stays():
    async def test(store, session, states):
        await checkpoint_all(session, states)
        assert await tidy(store, before=NOW) == 0

    run(test)


def test_a_publisher_that_is_behind_keeps_it():
    async def test(store, session, states):
        await checkpoint_all(session, states)
        assert await tidy(store, names=["out"]) == 0
        for shard in range(SHARD_COUNT):
            await publish(store, session, shard)
        assert await tidy(store, names=["out"]) == 2

    run(test)


def test_a_publisher_that_was_moved_keeps_what_it_reads_now():
    """Its former positions keep nothing, whoever lists them."""

    async def test(store, session, states):
        await checkpoint_all(session, states)
        name = await publishers.move(store, "out", {}, PATIENCE)
        names = ["out", "out.moves", name]
        assert await tidy(store, names=names) == 0
        for shard in range(SHARD_COUNT):
            await publish(store, session, shard, name)
        assert await tidy(store, names=names) == 2

    run(test)


async def publish(store, session, shard, name="out"):
    """All there is; the sequences of what went out."""
    reader = ShardReader(store, name, session.name, PATIENCE)
    await reader.add(shard, session.epochs[shard].id.number)
    out: list[int] = []
    has_more = True
    while has_more:
        reading = await reader.read(session.writer.released, 1)
        has_more = reading.has_more
        for commit in reading.commits:
            out += [record.first_sequence for record in commit.records]
        for position in reading.positions.values():
            await publishers.write_published(store, name, shard, position, PATIENCE)
    return out


def test_a_publisher_goes_on_where_it_was_from_session_to_session():
    async def test(store, session, states):
        assert await publish(store, session, 0) == list(range(1, 11))
        assert await publish(store, session, 0) == []
        await append(session, [states[0]], 2)
        second, found = await taken(store, "s2")
        await append(second, [found[0]], 2)
        assert await publish(store, second, 0) == [11, 12, 13, 14]

    run(test)


def test_the_log_of_a_session_that_nobody_needs_goes_whole():
    async def test(store, session, states):
        second, found = await taken(store, "s2")
        await append(second, [found[0]], 1)
        await checkpoint_all(second, found)
        assert await tidy(store) == 4
        assert segments(store) == []
        assert store.marks["s1", log.FLOOR] == Position(4, 10)
        _, found = await taken(store, "s3")
        assert len(accounts(found[0])) == 11

    run(test)


def test_an_epoch_that_begins_below_the_floor_has_nothing_there():
    async def test(store, session, states):
        await checkpoint_all(session, states)
        await session.give_up(3)
        await append(session, [states[0]], 8)
        for shard in (0, 1, 2):
            state, position = states[shard], session.writer.released
            if not await session.renew_checkpoint(shard, state.sequence, position):
                data = dump(state)
                await session.checkpoint(shard, state.sequence, position, data)
        late = Epoch(3, EpochId(2, "s1"), EpochId(1, "s1"), Position(3, 10))
        assert await tidy(store) > 3
        assert await store.open_epoch(late)
        assert store.marks["s1", log.FLOOR] > late.begins_after
        _, found = await taken(store, "s2")
        assert found[3].sequence == 0

    run(test)


def test_what_is_dropped_is_named_first_and_what_is_useless_is_so_for_all():
    """A checkpoint that was read may be on one replica: it is written back first."""

    async def test(store, session, states):
        await checkpoint_all(session, states)
        store.calls.clear()
        await tidy(store)
        order = ["read_checkpoint", "write_checkpoint", "write_mark", "drop_segment"]
        assert [call for call in store.calls if call in order] == (
            order[:2] * SHARD_COUNT + order[2:] * 2
        )

    run(test)


def test_a_shard_that_comes_into_the_log_meanwhile_finds_its_entries():
    async def test(store, session, states):
        await checkpoint_all(session, states)
        await session.give_up(0)
        second, found = await taken(store, "s2", {0: 0})
        await second.give_up(0)
        read_epochs = store.read_epochs

        async def comes_back(shard):
            epochs = await read_epochs(shard)
            if shard == 0 and store.read_epochs is not read_epochs:
                store.read_epochs = read_epochs
                back = await session.take({0: 0}, Limits())
                await append(session, [back[0], states[1]], 9)
            elif shard == 1:
                # late enough to know the end, as it were
                state, position = states[1], session.writer.released
                data = dump(state)
                await session.checkpoint(1, state.sequence, position, data)
            return epochs

        store.read_epochs = comes_back
        await tidy(store)
        _, found = await taken(store, "s3")
        assert found[0].sequence == 19

    run(test)


def test_a_shard_that_never_had_an_entry_keeps_nothing():
    """Nobody who reads it has a position there."""

    async def test(store, session, states):
        await checkpoint_all(session, states)
        assert states[3].sequence == 0
        for shard in (0, 1):
            await publish(store, session, shard)
        assert await tidy(store, names=["out"]) == 2

    run(test)
