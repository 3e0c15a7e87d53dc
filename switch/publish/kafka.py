"""The engine for Kafka: a topic a kind of event, an account in one partition.

Rule 1: a partition has one record batch on its way, and gets the next one when that is
        acknowledged. So nothing that fails can be overtaken by what follows it.
Rule 2: a batch that the broker refuses is cut in halves until what it refuses is one
        record, which is set aside. Its sequence number is lost with it, so the producer
        is another one after that.
Rule 3: the broker dates the records of topics that we make: no clock of ours matters,
        and what is published late, or again, is retained as long as the rest.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    BrokerResponseError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    for_code,
    kafka_errors,
)
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from switch.publish.events import Event
from switch.publish.port import PublishError, Refused
from switch.publish.settings import KafkaSettings
from switch.publish.topics import TOPICS, topic_of

HEADER: Final = "event-id"
CLIENT_ID: Final = "cardswitch"
# Below what brokers take by default, a mebibyte.
BATCH_BYTES_MAX: Final = 512 * 1024
# Accounts whose partition is remembered.
KEYS_REMEMBERED_MAX: Final = 1 << 16
MS_PER_HOUR: Final = 3_600_000
# Events put into record batches without a pause for the rest of the process.
EVENTS_AT_ONCE: Final = 512


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]
    """Such as one without a key in a topic that is compacted."""

    errno = 87
    message = "INVALID_RECORD"
    description = "the broker finds a record invalid"


# The library does not know it, and takes it for any other.
kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)
# What a broker finds wrong with a batch itself, whoever is asked and when.
_REFUSALS: Final = (MessageSizeTooLargeError, InvalidRecordError)

_library_log = logging.getLogger("aiokafka")

Encode = Callable[[Event], bytes]


def encoder_of(value_format: str) -> Encode:
    if value_format == "msgpack":
        return msgspec.msgpack.Encoder().encode
    return msgspec.json.Encoder().encode


class _LastWarning(logging.Handler):
    """What the library said last: its errors do not tell why it cannot connect."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


class KafkaEngine:
    """See `switch.publish.port.Engine`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._encode = encoder_of(settings.value_format)
        self._producer: AIOKafkaProducer | None = None
        # By the name of a topic without its prefix: one for each partition.
        self._lanes: dict[str, list[_Lane]] = {}
        self._lane_of = lru_cache(KEYS_REMEMBERED_MAX)(self._lane_at)
        self._warning = _LastWarning()

    async def open(self) -> None:
        _library_log.addHandler(self._warning)
        # We tell it ourselves, once.
        _library_log.propagate = False
        with self._telling_why("connect"):
            async with asyncio.timeout(self._seconds):
                await self._start_producer()
                await self._find_topics()

    async def send(self, events: Sequence[Event]) -> Sequence[Refused]:
        refused: list[Refused] = []
        lanes = await self._lanes_of(events)
        while lanes:
            with self._telling_why("have events acknowledged"):
                async with asyncio.TaskGroup() as tasks:
                    for lane in lanes:
                        tasks.create_task(self._deliver(lane))
            lanes = [lane for lane in lanes if lane.records]
            for lane in lanes:
                refused += lane.take_apart()
            if lanes:
                await self._start_producer_anew()
        return refused

    async def close(self) -> None:
        _library_log.removeHandler(self._warning)
        producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer)

    # -- connections

    @property
    def _seconds(self) -> float:
        return self._settings.timeout_ms / 1000

    async def _start_producer(self) -> None:
        settings = self._settings
        self._producer = AIOKafkaProducer(
            **connection_options(settings),
            client_id=CLIENT_ID,
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES_MAX,
            request_timeout_ms=settings.timeout_ms,
        )
        await self._producer.start()

    async def _start_producer_anew(self) -> None:
        producer, self._producer = self._producer, None
        assert producer is not None
        await _close(producer)
        with self._telling_why("connect"):
            async with asyncio.timeout(self._seconds):
                await self._start_producer()

    def _telling_why(self, what: str) -> "_TellingWhy":
        return _TellingWhy(self._settings, what, self._warning)

    # -- topics

    def _topic(self, name: str) -> str:
        return self._settings.topic_prefix + name

    async def _find_topics(self) -> None:
        assert self._producer is not None
        names = [self._topic(name) for name in TOPICS]
        admin = AIOKafkaAdminClient(
            **connection_options(self._settings),
            client_id=CLIENT_ID,
            request_timeout_ms=self._settings.timeout_ms,
        )
        try:
            await admin.start()
            missing = set(names) - set(await admin.list_topics())
            if missing:
                await self._create_topics(admin, sorted(missing))
        finally:
            await admin.close()
        for topic in TOPICS:
            name = self._topic(topic)
            partitions = sorted(await self._producer.partitions_for(name))
            if partitions != list(range(len(partitions))):
                raise PublishError(
                    f"expected all partitions of the topic {name}, got {partitions}"
                )
            self._lanes[topic] = [_Lane(name, number) for number in partitions]

    async def _create_topics(
        self, admin: AIOKafkaAdminClient, names: Iterable[str]
    ) -> None:
        settings = self._settings
        if not settings.create_topics:
            raise PublishError(
                f"expected the topics {', '.join(names)}, got none of these names; "
                "make them, or set publish.kafka.create_topics"
            )
        topics = [
            NewTopic(
                name,
                settings.partitions,
                settings.replication or -1,
                # With none, -1 is an error of its own.
                replica_assignments=None if settings.replication else {},
                topic_configs={
                    "retention.ms": str(settings.retention_h * MS_PER_HOUR),
                    "message.timestamp.type": "LogAppendTime",
                },
            )
            for name in names
        ]
        response = await admin.create_topics(topics, settings.timeout_ms)
        for name, code, *more in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                said = f": {more[0]}" if more and more[0] else ""
                raise PublishError(
                    f"expected to make the topic {name}, got {error.__name__}{said}"
                )

    # -- records

    async def _lanes_of(self, events: Sequence[Event]) -> "list[_Lane]":
        """The events by their partition, those of each in order."""
        encode, lane_of = self._encode, self._lane_of
        used: dict[_Lane, None] = {}
        for begin in range(0, len(events), EVENTS_AT_ONCE):
            for event in events[begin : begin + EVENTS_AT_ONCE]:
                # Of no account, no order: any partition will do, always the same.
                lane = lane_of(topic_of(event), event.account or event.id)
                lane.records.append((event, encode(event)))
                used[lane] = None
            await asyncio.sleep(0)
        return list(used)

    def _lane_at(self, topic: str, key: str) -> "_Lane":
        lanes = self._lanes[topic]
        # As Kafka's clients have it by default: others find an account's partition.
        number: int = (murmur2(key.encode()) & 0x7FFFFFFF) % len(lanes)
        return lanes[number]

    async def _deliver(self, lane: "_Lane") -> None:
        """Until everything is acknowledged, or a record batch is refused: then that is
        what `refused` says, and `refusal` why."""
        producer = self._producer
        assert producer is not None
        while lane.records:
            batch = producer.create_batch()
            count = lane.fill(batch)
            try:
                async with asyncio.timeout(self._seconds):
                    acknowledged = await producer.send_batch(
                        batch, lane.topic, partition=lane.partition
                    )
                    await acknowledged
            except _REFUSALS as error:
                lane.refused, lane.refusal = count, error
                return
            lane.has_sent(count)


class _Lane:
    """What is to be delivered to one partition, in order."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.records: list[tuple[Event, bytes]] = []
        # The records of the batch that was refused, and why.
        self.refused = 0
        self.refusal: KafkaError | None = None
        # A batch has so many at most; 0: as many as it has room for.
        self._count_max = 0

    def fill(self, batch: BatchBuilder) -> int:
        """As many of the next records as it takes, and at least one."""
        count = 0
        for event, value in self.records:
            account = event.account
            appended = batch.append(
                timestamp=None,
                key=None if account is None else account.encode(),
                value=value,
                headers=[(HEADER, event.id.encode())],
            )
            if appended is None:
                break
            count += 1
            if count == self._count_max:
                break
        assert count, "a batch takes one record of any size"
        return count

    def has_sent(self, count: int) -> None:
        del self.records[:count]
        self._count_max = 0

    def take_apart(self) -> Iterator[Refused]:
        """Half of the batch that was refused is tried next; if it was one record, that
        is what is refused for good."""
        assert self.refusal is not None
        if self.refused == 1:
            reason = f"{type(self.refusal).__name__}: {self.refusal}"
            yield Refused(self.records[0][0], f"topic {self.topic}: {reason}")
            self.has_sent(1)
        else:
            self._count_max = self.refused // 2
        self.refusal = None


class _TellingWhy:
    """Makes one error of the library's, with what it said in its log."""

    def __init__(
        self, settings: KafkaSettings, what: str, warning: _LastWarning
    ) -> None:
        self._settings = settings
        self._what = what
        self._warning = warning

    def __enter__(self) -> None:
        self._warning.text = ""

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, KafkaError | TimeoutError | OSError):
            return
        got = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            got = f"nothing within {self._settings.timeout_ms} ms"
        said = f" ({self._warning.text})" if self._warning.text else ""
        raise PublishError(
            f"expected to {self._what} at {', '.join(self._settings.bootstrap)}, got "
            f"{got}{said}"
        ) from error


async def _close(producer: AIOKafkaProducer) -> None:
    """Without waiting for what is not acknowledged. `stop` would, for ever, and there
    is no other way to end it; what it has of its own is ended one by one."""
    with suppress(Exception):
        if producer._sender.sender_task is not None:
            producer._sender.sender_task.cancel()
        producer._message_accumulator.fail_all(KafkaError("closed"))
        await producer.client.close()
    producer._closed = True


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """What producers, consumers and administrators of the library are given alike."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap),
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.user
        password = Path(settings.password_file).read_text("utf-8").rstrip("\r\n")
        options["sasl_plain_password"] = password
    return options


def _tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.certificate_file:
        context.load_cert_chain(settings.certificate_file, settings.key_file or None)
    return context
