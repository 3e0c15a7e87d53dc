"""Reads topics of Kafka by `switch.publish.consumer`, as a consumer of events should.

Rule: a position is kept only behind what standard output has taken.
"""

import asyncio
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from switch.cli import exits
from switch.files import replace_private
from switch.link.settings import Address
from switch.publish.consumer import Marks, Record, event_id_of
from switch.publish.kafka import connection_options
from switch.publish.settings import KafkaSettings
from switch.publish.topics import TOPICS

FETCH_MS: Final = 200
POSITION_SECONDS: Final = 1.0
CLOSE_SECONDS_MAX: Final = 5.0


class Wanted(Struct, frozen=True):
    topics: tuple[str, ...] = ()
    begin: str = "beginning"
    position: Path | None = None
    follow: bool = False
    repeats: bool = False
    count: int | None = None
    metrics: Address | None = None


class _Kept(Struct):
    """`--position`: the offset that comes next by TOPIC:PARTITION, and the marks."""

    offsets: dict[str, int] = {}
    marks: dict[str, int] = {}


class _Metrics:
    def __init__(self, where: Address | None) -> None:
        registry = CollectorRegistry()
        self.events = Counter(
            "switch_consumed_events", "events printed", ["topic"], registry=registry
        )
        self.repeats = Counter(
            "switch_consumed_repeats",
            "what was sent again",
            ["topic"],
            registry=registry,
        )
        self.lag = Gauge(
            "switch_consumed_lag_seconds",
            "how old the newest event printed was",
            ["topic"],
            registry=registry,
        )
        if where is not None:
            start_http_server(where.port, where.host, registry)


async def until_terminated(work: Coroutine[None, None, None]) -> None:
    """SIGTERM ends the work as Ctrl-C does, so that it keeps how far it was."""
    task = asyncio.ensure_future(work)
    is_terminated = False

    def terminate() -> None:
        nonlocal is_terminated
        is_terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        await task
    except asyncio.CancelledError:
        if is_terminated:
            raise exits.Terminated from None
        raise


async def consume(settings: KafkaSettings, wanted: Wanted, output: TextIO) -> None:
    """Raises CommandError when Kafka is not there, or has no such topic."""
    names = [settings.topic_prefix + name for name in wanted.topics or TOPICS]
    consumer = AIOKafkaConsumer(
        **connection_options(settings),
        enable_auto_commit=False,
        request_timeout_ms=settings.timeout_ms,
    )
    reading = _Reading(settings, wanted, output)
    try:
        async with asyncio.timeout(settings.timeout_ms / 1000):
            places = await _places(settings, names)
            await consumer.start()
            await reading.begin(consumer, places)
        await reading.run(consumer)
    except (KafkaError, TimeoutError) as error:
        got = str(error) or "nothing in time"
        raise exits.CommandError(
            f"expected topics at {', '.join(settings.bootstrap)}, got {got}",
            exits.INPUT_OUTPUT,
        ) from error
    finally:
        reading.keep()
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await consumer.stop()


class _Reading:
    def __init__(self, settings: KafkaSettings, wanted: Wanted, output: TextIO) -> None:
        self._wanted = wanted
        self._output = output
        self._decode = (
            msgspec.msgpack.decode if settings.value_format == "msgpack" else None
        )
        self._kept = _load(wanted.position)
        self._has_kept = True
        self._kept_at = 0.0
        self._marks = Marks(self._kept.marks)
        self._metrics = _Metrics(wanted.metrics)
        self._printed = 0
        self._ends: dict[TopicPartition, int] = {}

    async def begin(
        self, consumer: AIOKafkaConsumer, places: list[TopicPartition]
    ) -> None:
        consumer.assign(places)
        self._ends = dict(await consumer.end_offsets(places))
        first = await consumer.beginning_offsets(places)
        for place in places:
            kept = self._kept.offsets.get(_name(place))
            if kept is not None:
                # What is behind it may be gone meanwhile.
                consumer.seek(place, min(max(kept, first[place]), self._ends[place]))
            elif self._wanted.begin == "end":
                consumer.seek(place, self._ends[place])
            else:
                consumer.seek(place, first[place])

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        while self._wanted.follow or await self._has_more(consumer):
            batches = await consumer.getmany(timeout_ms=FETCH_MS)
            for place, records in batches.items():
                for record in records:
                    self._take(record)
                    self._kept.offsets[_name(place)] = record.offset + 1
                    self._has_kept = False
                    if self._printed == self._wanted.count:
                        return
            self._output.flush()
            if time.monotonic() - self._kept_at >= POSITION_SECONDS:
                self.keep()

    async def _has_more(self, consumer: AIOKafkaConsumer) -> bool:
        positions = [await consumer.position(place) for place in self._ends]
        return any(
            position < end
            for position, end in zip(positions, self._ends.values(), strict=True)
        )

    def _take(self, record: Record) -> None:
        is_new = self._marks.take(record.topic, record.partition, event_id_of(record))
        if not is_new:
            self._metrics.repeats.labels(record.topic).inc()
            if not self._wanted.repeats:
                return
        value: Any = record.value
        if self._decode is not None:
            value = msgspec.json.encode(self._decode(value))
        self._output.write(value.decode() + "\n")
        self._printed += 1
        self._metrics.events.labels(record.topic).inc()
        age = max(time.time() - record.timestamp / 1000, 0.0)
        self._metrics.lag.labels(record.topic).set(age)

    def keep(self) -> None:
        if self._wanted.position is None or self._has_kept:
            return
        self._output.flush()
        self._kept.marks = self._marks.dump()
        replace_private(self._wanted.position, msgspec.json.encode(self._kept) + b"\n")
        self._has_kept, self._kept_at = True, time.monotonic()


async def _places(settings: KafkaSettings, names: list[str]) -> list[TopicPartition]:
    """Every partition of the topics."""
    admin = AIOKafkaAdminClient(
        **connection_options(settings), request_timeout_ms=settings.timeout_ms
    )
    try:
        await admin.start()
        known = set(await admin.list_topics())
        missing = [name for name in names if name not in known]
        if missing:
            raise exits.CommandError(
                f"expected a topic {missing[0]}, got "
                f"{', '.join(sorted(known)) or 'none'}",
                exits.INPUT_OUTPUT,
            )
        described = await admin.describe_topics(names)
    finally:
        await admin.close()
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        for partition in topic["partitions"]
    ]


def _name(place: TopicPartition) -> str:
    return f"{place.topic}:{place.partition}"


def _load(path: Path | None) -> _Kept:
    try:
        data = b"{}" if path is None else path.read_bytes()
    except FileNotFoundError:
        return _Kept()
    try:
        return msgspec.json.decode(data, type=_Kept)
    except msgspec.DecodeError as error:
        raise exits.CommandError(
            f"{path}: expected what `switch consume --position` writes: {error}"
        ) from None
