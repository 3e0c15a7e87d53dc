"""The engine for Kafka, before a broker that does what a test says."""

import asyncio

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from switch.journal.port import Commit
from switch.publish.events import events_of
from switch.publish.kafka import KafkaEngine
from switch.publish.port import PublishError
from tests.unit.nsq.peer import run, until
from tests.unit.publish.broker import SETTINGS, Broker, FaultError
from tests.unit.small_bank import full_journal


@pytest.fixture(scope="module")
def commits(tmp_path_factory) -> list[Commit]:
    """At least one entry of every kind, and the third one has most of them."""
    _, journal = full_journal(tmp_path_factory.mktemp("journal"))
    found = list(journal.read(0))
    journal.close()
    return found


@pytest.fixture
def broker(monkeypatch) -> Broker:
    broker = Broker()
    broker.install(monkeypatch)
    return broker


def ids_of(commits: list[Commit]) -> list[str]:
    return [event.id for commit in commits for event in events_of(commit)]


async def opened() -> KafkaEngine:
    engine = KafkaEngine(SETTINGS)
    await engine.open()
    return engine


def test_the_second_batch_is_ready_and_waits_for_the_first_in_each_partition(
    broker, commits
):
    """A partition that has acknowledged the first one does not wait for others."""

    async def test() -> None:
        engine = await opened()
        (producer,) = broker.producers
        await engine.send([commits[2]])
        lanes = len(producer.sent)
        gate = asyncio.get_running_loop().create_future()
        held: list[list[str]] = []

        def answer(ids: list[str]) -> object:
            if held:
                return None
            held.append(ids)
            return gate

        broker.answer = answer
        sends = [asyncio.create_task(engine.send([commits[2]])) for _ in range(2)]
        # Of all partitions both are sent, but of the one whose first is held.
        await until(lambda: len(producer.sent) == 3 * lanes - 1)
        await until(lambda: len(producer.in_flight) == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(producer.sent) == 3 * lanes - 1
        assert producer.sent.count(held[0]) == 2
        assert not any(send.done() for send in sends)
        gate.set_result(None)
        assert await asyncio.gather(*sends) == [[], []]
        assert producer.sent.count(held[0]) == 3
        assert engine.settled == 3
        await engine.close()

    run(test())
    assert sorted(broker.all_ids()) == sorted(3 * ids_of([commits[2]]))


@pytest.mark.parametrize("is_lost", [True, False])
def test_when_the_first_of_two_batches_fails_nothing_of_the_second_follows(
    broker, commits, is_lost
):
    broker.loses = lambda: is_lost

    async def test() -> None:
        engine = await opened()
        failed: list[list[str]] = []

        def answer(ids: list[str]) -> object:
            if failed:
                return None
            failed.append(ids)
            return FaultError("gone")

        broker.answer = answer
        sends = [
            asyncio.create_task(engine.send(some))
            for some in ([commits[2]], [commits[2]], [commits[3]])
        ]
        for send in sends:
            with pytest.raises(PublishError, match="have events acknowledged"):
                await send
        (producer,) = broker.producers
        # Not even in the other partitions, if they were not on their way already.
        assert producer.sent.count(failed[0]) == 1
        with pytest.raises(PublishError):
            await engine.send([commits[1]])
        assert engine.settled == 0
        await engine.close()

    run(test())


@pytest.mark.parametrize("place", [0, 3, -1])
def test_what_is_refused_is_found_and_the_rest_is_taken_in_order(
    broker, commits, place
):
    """Two batches under way, and each has it."""
    wanted = ids_of([commits[2]])
    victim = wanted[place]

    def answer(ids: list[str]) -> object:
        return MessageSizeTooLargeError() if victim in ids else None

    broker.answer = answer

    async def test() -> None:
        engine = await opened()
        sends = [asyncio.create_task(engine.send([commits[2]])) for _ in range(2)]
        for send in sends:
            (refused,) = await send
            assert refused.event.id == victim
            assert "MessageSizeTooLarge" in refused.reason
        await engine.close()

    run(test())
    rest = [each for each in wanted if each != victim]
    assert sorted(broker.all_ids()) == sorted(2 * rest)
    for ids in broker.ids.values():
        half = len(ids) // 2
        assert ids[:half] == ids[half:] == [each for each in rest if each in set(ids)]
    assert len(broker.producers) == 1


def test_a_refused_event_is_the_event(broker, commits):
    wanted = [event for commit in commits for event in events_of(commit)]
    broker.answer = lambda ids: MessageSizeTooLargeError()

    async def test() -> None:
        engine = await opened()
        refused = [each.event for each in await engine.send(commits)]
        assert sorted(refused, key=str) == sorted(wanted, key=str)
        await engine.close()

    run(test())
    assert broker.all_ids() == []
