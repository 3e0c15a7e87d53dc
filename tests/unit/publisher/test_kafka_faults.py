"""Several batches on their way to a Kafka that fails anywhere, again and again."""

import asyncio
import random
from collections import defaultdict

import pytest

from switch.publish.events import events_of
from switch.publish.kafka import KafkaEngine
from switch.publish.positions import PositionFiles
from switch.publish.topics import topic_of
from switch.publisher import forwarder, places
from switch.publisher.forwarder import Forwarder, Plan
from switch.publisher.waker import Waker
from tests.unit.follower.running import Bank, until_it_is_so
from tests.unit.publish.broker import SETTINGS, Broker, FaultError

FAULTS = 8


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_and_each_account_stays_in_order(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(forwarder, "RETRY_SECONDS_MIN", 0.001)
    monkeypatch.setattr(forwarder, "RETRY_SECONDS_MAX", 0.002)
    monkeypatch.setattr(places, "POSITION_SECONDS", 0.0)
    chance = random.Random(seed)
    broker = Broker()
    broker.install(monkeypatch)
    broker.loses = lambda: chance.random() < 0.5
    bank = Bank(tmp_path)
    bank.append(30)
    bank.release()
    faults = 0

    def answer(_ids: list[str]) -> object:
        nonlocal faults
        if faults < FAULTS and chance.random() < 0.2:
            faults += 1
            return FaultError("gone")
        return None

    broker.answer = answer

    async def main() -> None:
        waker = Waker()
        entries_max = chance.choice((1, 3, 10))
        plan = Plan("kafka", lambda: KafkaEngine(SETTINGS), entries_max, 0.0, 3)
        files = PositionFiles(bank.directory / "publish", "k", bank.journal.identity)
        at_work = Forwarder(
            plan, bank.journal, files, lambda: bank.released.number, waker
        )
        task = asyncio.create_task(at_work.run())
        await until_it_is_so(lambda: at_work.is_done)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        waker.close()
        assert at_work.status.retries > 0

    asyncio.run(main())
    events = [each for commit in bank.journal.read(0) for each in events_of(commit)]
    bank.close()
    wanted = defaultdict(list)
    for event in events:
        wanted[topic_of(event), event.account or event.id].append(event.id)
    found = defaultdict(list)
    of = {event.id: event for event in events}
    for (topic, _), ids in broker.ids.items():
        for each in dict.fromkeys(ids):  # first occurrences
            found[topic, of[each].account or each].append(each)
    assert faults
    assert found == wanted
