"""What operators ask of a cluster's engines."""

from __future__ import annotations

import asyncio

import pytest

from switch.cluster.rows import NAME as ROWS
from switch.journal.cassandra.following import ShardReader
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.publishers import (
    current_name,
    read_published,
    write_published,
)
from switch.node_publisher.moves import (
    ClusterEngines,
    EngineReport,
    Forgotten,
    Move,
)
from switch.publish.port import PublishError
from tests.unit.journal.cassandra.build import (
    NOW,
    PATIENCE,
    SHARD_COUNT,
    append,
    entry,
    taken,
)

ENGINE = "kafka"


def nobody(_done: float, _words: str) -> None:
    """Wants to know."""


class Lab:
    """Shards 0 and 1 have ten entries in one session and two in the next one; eleven
    of shard 0 are out, and five of shard 1."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.engines = ClusterEngines(self.store, SHARD_COUNT, [ENGINE, "nsq"])

    async def set_up(self) -> None:
        first, states = await taken(self.store, "a")
        for number in range(10):
            records = [entry(states[0]), entry(states[1])]
            await first.writer.append(NOW + number, records)
        self.session, states = await taken(self.store, "b")
        await append(self.session, [states[0], states[1]], 2)
        for shard, limit in ((0, 11), (1, 5)):
            await self.publish(shard, limit)

    async def publish(self, shard: int, limit: int | None = None) -> list[int]:
        """What goes out next of a shard, up to that entry, and is written as out."""
        name = await current_name(self.store, ENGINE, PATIENCE)
        session = self.session
        reader = ShardReader(self.store, name, session.name, PATIENCE)
        await reader.add(shard, session.epochs[shard].id.number)
        out: list[int] = []
        while True:
            reading = await reader.read(session.writer.released, 1)
            if not reading.positions:
                return out
            for commit in reading.commits:
                for record in commit.records:
                    out.append(record.first_sequence)
            (position,) = reading.positions.values()
            if limit is not None and position.sequence > limit:
                return out
            await write_published(self.store, name, shard, position, PATIENCE)


def run(test):
    async def go():
        lab = Lab()
        await lab.set_up()
        await test(lab)

    asyncio.run(go())


def test_it_says_how_many_are_out_and_wait():
    async def test(lab):
        found = await lab.engines.report(ENGINE, nobody)
        assert (found.entries + found.waiting, found.configured) == (24, True)
        assert found.entries < 24
        never = await lab.engines.report("other", nobody)
        assert never == EngineReport("other", False, 0, 24)
        for shard in (0, 1):
            await lab.publish(shard)
        assert await lab.engines.report(ENGINE, nobody) == EngineReport(
            ENGINE, True, 24, 0
        )

    run(test)


def test_back_to_the_beginning():
    async def test(lab):
        await lab.publish(0)
        moved = await lab.engines.rewind(ENGINE, nobody)
        assert moved.shards == 2
        for shard in (0, 1):
            assert await lab.publish(shard) == list(range(1, 13))

    run(test)


def test_back_to_an_entry_moves_its_shard():
    async def test(lab):
        await lab.publish(0)
        before = await lab.publish(1)
        assert before[-1] == 12
        moved = await lab.engines.rewind(ENGINE, nobody, event_id="1-7")
        assert moved == Move(ENGINE, 1, 6)
        assert await lab.publish(0) == []
        assert await lab.publish(1) == list(range(7, 13))

    run(test)


def test_back_to_a_time_moves_no_shard_forward():
    async def test(lab):
        await lab.publish(0)
        await lab.engines.rewind(ENGINE, nobody, moment=NOW + 8)
        assert await lab.publish(0) == [9, 10, 11, 12]
        assert (await lab.publish(1))[0] <= 6

    run(test)


def test_skipped_is_what_is_older_or_all():
    async def test(lab):
        await lab.engines.skip(ENGINE, nobody, moment=NOW + 8)
        assert await lab.publish(1, 0) == [9]
        await lab.engines.skip(ENGINE, nobody, event_id="1-11")
        assert (await lab.publish(1, 0))[0] == 11
        await lab.engines.skip(ENGINE, nobody)
        for shard in (0, 1):
            assert await lab.publish(shard) == []
        assert await lab.engines.report(ENGINE, nobody) == EngineReport(
            ENGINE, True, 24, 0
        )

    run(test)


def test_a_commit_that_may_not_count_is_not_skipped():
    """Its session is fenced already, and its end is not agreed on: the entry that comes
    in its place must go out."""

    async def test(lab):
        lab.store.fences["b"] = "somebody"
        await lab.engines.skip(ENGINE, nobody)
        del lab.store.fences["b"]
        assert await lab.publish(0) == [12]

    run(test)


def test_an_engine_that_is_configured_no_longer_is_forgotten():
    async def test(lab):
        await lab.engines.rewind(ENGINE, nobody, event_id="1-3")
        configured = ClusterEngines(lab.store, SHARD_COUNT, ["nsq"])
        assert await configured.all_names() == ["nsq", ENGINE]
        out = await configured.report(ENGINE, nobody)
        assert await configured.forget(ENGINE) == Forgotten(ENGINE, out.entries)
        assert await configured.all_names() == ["nsq"]
        with pytest.raises(PublishError, match="but there is none, got kafka"):
            await configured.forget(ENGINE)
        # It comes back: it begins anew, and is known again.
        assert await lab.publish(0) == list(range(1, 13))
        assert await configured.all_names() == ["nsq", ENGINE]
        await configured.forget(ENGINE)
        assert await lab.publish(0, 5) == list(range(1, 7))

    run(test)


def test_what_publishes_or_is_no_engine_is_not_forgotten():
    async def test(lab):
        position = await read_published(lab.store, ENGINE, 0, PATIENCE)
        assert position is not None
        await write_published(lab.store, ROWS, 0, position, PATIENCE)
        for name, said in (
            (ENGINE, "no node has in its configuration, got kafka"),
            (ROWS, "logs are kept for, but there is none, got accounts"),
        ):
            with pytest.raises(PublishError, match=said):
                await lab.engines.forget(name)
        assert await lab.engines.all_names() == [ENGINE, "nsq"]

    run(test)


def test_what_is_not_there_is_said():
    async def test(lab):
        for words, said in (
            ({"event_id": "0-99"}, "expected an entry of the journal, got 0-99"),
            ({"event_id": "x"}, "expected an id, SHARD-SEQUENCE, got x"),
        ):
            with pytest.raises(PublishError, match=said):
                await lab.engines.rewind(ENGINE, nobody, **words)
        with pytest.raises(PublishError, match="an engine, kafka or nsq, got amqp"):
            await lab.engines.skip("amqp", nobody)

    run(test)
