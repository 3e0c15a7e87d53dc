"""What a node tells its publisher, over a pipe that may be full, and what it knows."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import msgspec
import pytest

from switch.cluster.settings import CassandraSettings
from switch.journal.cassandra.store import Position
from switch.node_publisher import process
from switch.node_publisher.orders import Assignment, Orders
from switch.node_publisher.process import Settings
from switch.node_publisher.supervisor import Following, NodePublisherProcess
from switch.publish.settings import KafkaSettings
from switch.publisher.forwarder import EngineStatus
from switch.publisher.process import Status
from tests.unit.follower.running import until_it_is_so

SETTINGS = Settings(
    "/none/data",
    "/none/events",
    CassandraSettings(("127.0.0.1:1",)),
    1 << 20,
    KafkaSettings(("127.0.0.1:1",)),
)


class Pipe:
    """A publisher with a child that is this test: `orders` are what it hears."""

    def __init__(self) -> None:
        self.publisher = NodePublisherProcess(SETTINGS)
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(writing, False)
        self.stdin = os.fdopen(writing, "wb", buffering=0)
        self.orders = Orders(self.reading, -1)
        child = SimpleNamespace(stdin=self.stdin)
        self.publisher._process = child  # type: ignore[assignment]

    def hear(self) -> None:
        try:
            while True:
                self.orders.hear()
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.publisher._process = None
        self.stdin.close()
        os.close(self.reading)


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.close()


class Journal:
    """Of a session that has these shards."""

    def __init__(self, name: str, *shards: int) -> None:
        self.name = name
        self.position = Position(0, 0)
        self.epochs = {
            shard: SimpleNamespace(id=SimpleNamespace(number=shard + 100))
            for shard in shards
        }


def opened(following: Following, *shards: int) -> None:
    for shard in shards:
        following.opened(SimpleNamespace(shard=shard))  # type: ignore[arg-type]


async def heard(pipe: Pipe, wanted: Assignment, released: Position) -> None:
    def is_so() -> bool:
        pipe.hear()
        given = msgspec.structs.replace(pipe.orders.assignment, segment=0, number=0)
        return (given, pipe.orders.released) == (wanted, released)

    await until_it_is_so(is_so)


def test_the_child_hears_what_there_is_and_how_far_it_is_released(pipe):
    async def test():
        journal = Journal("a", 3, 4)
        following = pipe.publisher.following(journal)
        opened(following, 3, 4)
        await heard(pipe, Assignment("a", {3: 103, 4: 104}), Position(0, 0))
        for number in range(1, 40):
            journal.position = Position(number // 8, number)
            following.told(["a record"])
        await heard(pipe, Assignment("a", {3: 103, 4: 104}), Position(4, 39))
        following.closed(3)
        await heard(pipe, Assignment("a", {4: 104}), Position(4, 39))
        pipe.publisher.following(Journal("b"))
        await heard(pipe, Assignment("b"), Position(0, 0))

    asyncio.run(test())


def test_a_child_that_does_not_read_hears_the_newest_when_it_does(pipe):
    """Whole lines, the last things told, and to end behind all of that."""

    async def test():
        shards = range(20_000)
        journal = Journal("a", *shards)
        following = pipe.publisher.following(journal)
        opened(following, *shards)
        pipe.publisher._fire()
        assert pipe.publisher._unsent, "the pipe has room for all"
        for number in range(1, 2_000):
            journal.position = Position(0, number)
            following.told(["a record"])
        # As much as waited before: nothing piles up.
        assert len(pipe.publisher._unsent) < 1 << 20
        epochs = {shard: shard + 100 for shard in shards}
        await heard(pipe, Assignment("a", epochs), Position(0, 1_999))
        pipe.publisher._tell(b"s250\n")
        pipe.hear()
        assert pipe.orders.stop_within_ms == 250

    asyncio.run(test())


def test_a_child_that_is_started_again_hears_all(pipe):
    async def test():
        journal = Journal("a", 1)
        following = pipe.publisher.following(journal)
        opened(following, 1)
        journal.position = Position(0, 7)
        following.told(["a record"])
        await heard(pipe, Assignment("a", {1: 101}), Position(0, 7))
        pipe.orders = Orders(pipe.reading, -1)
        pipe.publisher.begun()
        await heard(pipe, Assignment("a", {1: 101}), Position(0, 7))

    asyncio.run(test())


def told(publisher: NodePublisherProcess, **engines: EngineStatus) -> None:
    publisher.status = Status(engines)
    publisher.heard(publisher.status)


def test_what_another_session_said_counts_for_nothing(pipe):
    async def test():
        publisher = pipe.publisher
        publisher.following(Journal("a"))
        told(publisher, kafka=EngineStatus(commit=9, entries=90, session="a"))
        assert publisher.known["kafka"].commit == 9
        publisher.following(Journal("b"))
        told(publisher, kafka=EngineStatus(commit=9, entries=90, session="a"))
        assert publisher.known["kafka"].commit == -1

    asyncio.run(test())


def test_before_it_leaves_a_node_waits_for_what_is_released(pipe):
    async def test():
        publisher = pipe.publisher
        journal = Journal("a")
        following = publisher.following(journal)
        journal.position = Position(0, 5)
        following.told(["a record"])
        out = EngineStatus(commit=5, session="a")
        waiting = asyncio.create_task(publisher.drained(60))
        for behind in (EngineStatus(commit=4, session="a"),
                       EngineStatus(commit=9, session="b")):  # fmt: skip
            told(publisher, events=out, kafka=behind)
            await asyncio.sleep(0.05)
            assert not waiting.done()
        told(publisher, events=out, kafka=EngineStatus(fault="it is away"))
        await waiting
        told(publisher, events=out)
        await publisher.drained(0.01)

    asyncio.run(test())


def test_settings_that_are_passed_on_are_read_again():
    again = msgspec.json.decode(msgspec.json.encode(SETTINGS), type=process.Settings)
    assert again == SETTINGS


def test_without_cassandra_it_says_so_and_is_started_again():
    async def test():
        publisher = NodePublisherProcess(SETTINGS)
        publisher.start()
        try:
            await until_it_is_so(lambda: publisher.restarts > 0)
            assert set(publisher.faults) == {"events", "kafka"}
        finally:
            await publisher.stop(drain_seconds=0.1)

    asyncio.run(test())
