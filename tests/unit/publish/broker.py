"""A broker of Kafka that fails on cue, behind the library's producer and administrator.

It takes what a real one takes of an idempotent producer, and nothing else: the sequence
numbers of a partition without a gap, and one record batch of it at a time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from switch.publish import kafka
from switch.publish._record_batch import RecordBatch
from switch.publish.kafka import records_of
from switch.publish.settings import KafkaSettings
from switch.publish.topics import TOPICS

PARTITIONS = 2
SETTINGS = KafkaSettings(("broker:1",), timeout_ms=30_000)

Place = tuple[str, int]


class Broker:
    """`answer` says of the ids of each record batch what becomes of it: None, it is
    taken; an error; or a future, which is waited for first. `loses` says whether an
    error is of the answer alone."""

    def __init__(self) -> None:
        self.ids: dict[Place, list[str]] = defaultdict(list)
        self.producers: list[Producer] = []
        self.answer: Callable[[list[str]], Any] = lambda ids: None
        self.loses: Callable[[], bool] = lambda: True

    def install(self, monkeypatch) -> None:
        monkeypatch.setattr(kafka, "AIOKafkaProducer", lambda **_: Producer(self))
        monkeypatch.setattr(kafka, "AIOKafkaAdminClient", lambda **_: _Admin())

    def all_ids(self) -> list[str]:
        return [each for ids in self.ids.values() for each in ids]


class _Admin:
    async def start(self) -> None: ...

    async def list_topics(self) -> list[str]:
        return list(TOPICS)

    async def close(self) -> None: ...


class _Sequences:
    def __init__(self) -> None:
        self.next: dict[Place, int] = defaultdict(int)

    def increment_sequence_number(self, place: TopicPartition, count: int) -> None:
        self.next[place.topic, place.partition] += count


class Producer:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.sent: list[list[str]] = []
        self.in_flight: set[Place] = set()
        self._txn_manager = _Sequences()
        self._taken: dict[Place, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        broker.producers.append(self)

    async def start(self) -> None: ...

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(PARTITIONS))

    async def send_batch(
        self, batch: RecordBatch, topic: str, *, partition: int
    ) -> "asyncio.Future[None]":
        assert not self._closed
        place = topic, partition
        assert place not in self.in_flight
        self.in_flight.add(place)
        first = self._txn_manager.next[place]
        self._txn_manager.next[place] += batch.count
        batch._set_producer_state(1, 0, first)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._take(place, batch, first, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    async def _take(
        self,
        place: Place,
        batch: RecordBatch,
        first: int,
        answer: "asyncio.Future[None]",
    ) -> None:
        ids = [record.event_id.decode() for record in records_of(batch)]
        self.sent.append(ids)
        error = self.broker.answer(ids)
        if isinstance(error, asyncio.Future):
            error = await error
        await asyncio.sleep(0)
        is_refusal = isinstance(error, kafka._REFUSALS)
        if error is None or not (is_refusal or self.broker.loses()):
            assert first == self._taken[place], "a gap in the sequence numbers"
            self._taken[place] += batch.count
            self.broker.ids[place] += ids
        self.in_flight.discard(place)
        if answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)


class FaultError(KafkaError):  # type: ignore[misc]
    """Whatever goes wrong with a broker."""
