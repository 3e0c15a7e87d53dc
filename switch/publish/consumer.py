"""For consumers of the topics: each event once, whatever Kafka has more than once.

The switch publishes at least once. Within one partition of a topic the first
occurrences of a shard's entries come by rising numbers, and whatever is sent again,
after a failure or because an operator rewound, begins at a number that was there. So
one number for each shard in each partition says all: what is not above it is there for
the second time. That is as many numbers as there are shards in a partition, however
many accounts and events there are.

Rule 1: `Marks` are kept where the effect of the events is kept, in the same
        transaction: then each event has its effect exactly once, wherever a consumer
        is killed, and wherever it begins to read again.
Rule 2: it holds for as long as a topic has the same number of partitions; with another
        number, an account's events are in another partition, and all begins anew.
Rule 3: what an operator skipped, or what was set aside, and is sent after all because
        of a rewind, is below the marks, and passed over: begin without marks for it.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from switch.publish.kafka import HEADER

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"


class Marks:
    """What was taken. `dump` gives what another one is made of."""

    def __init__(self, marks: Mapping[str, int] | None = None) -> None:
        # TOPIC:PARTITION:SHARD → the last number taken.
        self._marks = dict(marks or {})

    def take(self, topic: str, partition: int, event_id: str) -> bool:
        """Whether this is the first occurrence; it is not the next time."""
        shard, separator, number = event_id.partition("-")
        if not (separator and shard.isdecimal() and number.isdecimal()):
            raise ValueError(f"expected an id, SHARD-SEQUENCE, got {event_id!r}")
        place = f"{topic}:{partition}:{shard}"
        if int(number) <= self._marks.get(place, 0):
            return False
        self._marks[place] = int(number)
        return True

    def dump(self) -> dict[str, int]:
        return dict(self._marks)


def event_id_of(record: Record) -> str:
    for name, value in record.headers:
        if name == HEADER:
            return bytes(value).decode()
    raise ValueError(
        f"expected a header {HEADER}, got none in {record.topic} partition "
        f"{record.partition} at offset {record.offset}"
    )


async def first_occurrences(
    consumer: AIOKafkaConsumer, marks: Marks
) -> AsyncIterator[Record]:
    """For ever: what is new, as it comes. `marks` say so already when it is yielded."""
    record: Any
    async for record in consumer:
        if marks.take(record.topic, record.partition, event_id_of(record)):
            yield record
