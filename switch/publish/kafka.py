"""The engine for Kafka: a topic a kind of event, an account in one partition.

Rule 1: a partition has one record batch on its way, and the next one ready, which goes
        out when that is acknowledged. So nothing that fails can be overtaken by what
        follows it; and when something failed for good, nothing follows it.
Rule 2: a batch that the broker refuses is cut in halves until what it refuses is one
        record, which is set aside. The sequence numbers that it had are given to the
        halves: the broker knows nothing of it.
Rule 3: the broker dates the records of topics that we make: no clock of ours matters,
        and what is published late, or again, is retained as long as the rest.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    BrokerResponseError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    for_code,
    kafka_errors,
)
from aiokafka.record.memory_records import MemoryRecords

from switch.journal.port import Commit
from switch.ledger import KIND_NAMES, Entry
from switch.publish._packer import Packer
from switch.publish._record_batch import HEADER, RecordBatch
from switch.publish.events import Event, event_of
from switch.publish.port import PublishError, Refused
from switch.publish.settings import KafkaSettings
from switch.publish.topics import TOPICS, topic_of, topic_of_kind

__all__ = ["HEADER", "KafkaEngine", "connection_options"]

CLIENT_ID: Final = "cardswitch"
# Below what brokers take by default, a mebibyte.
BATCH_BYTES_MAX: Final = 512 * 1024
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

# By the number of the kind: the topic when the balance stays as it is, and when not.
_TOPIC_NUMBERS: Final = {
    number: (
        TOPICS.index(topic_of_kind(kind, moves_balance=False)),
        TOPICS.index(topic_of_kind(kind, moves_balance=True)),
    )
    for number, kind in KIND_NAMES.items()
}


class Format(NamedTuple):
    """What the values are."""

    encode: Callable[[Event], bytes]
    decode: Callable[[bytes], Event]
    # Of kinds whose events are written without making an `Event` first.
    topic_numbers: dict[int, tuple[int, int]]


def format_of(value_format: str) -> Format:
    if value_format == "msgpack":
        packed = msgspec.msgpack.Decoder(Event)
        return Format(msgspec.msgpack.Encoder().encode, packed.decode, {})
    text = msgspec.json.Decoder(Event)
    return Format(msgspec.json.Encoder().encode, text.decode, _TOPIC_NUMBERS)


def packer_of(partitions: Sequence[int], value_format: Format) -> Packer:
    """For so many partitions of each of TOPICS."""

    def write(
        entry: Entry, shard: int, commit: int
    ) -> tuple[int, bytes | None, bytes, bytes]:
        event = event_of(entry, shard, commit)
        key = None if event.account is None else event.account.encode()
        topic = TOPICS.index(topic_of(event))
        return topic, key, value_format.encode(event), event.id.encode()

    return Packer(partitions, value_format.topic_numbers, write, BATCH_BYTES_MAX)


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
        self._format = format_of(settings.value_format)
        self._producer: AIOKafkaProducer | None = None
        # One for each partition, as the packer numbers them.
        self._lanes: list[_Lane] = []
        self._packer = packer_of([], self._format)
        # Batches are packed, and lined up, one after the other.
        self._packing = asyncio.Lock()
        self._is_broken = False
        self._sent = 0
        self._warning = _LastWarning()

    @property
    def settled(self) -> int:
        return self._sent

    async def open(self) -> None:
        _library_log.addHandler(self._warning)
        # We tell it ourselves, once.
        _library_log.propagate = False
        with self._telling_why("connect"):
            async with asyncio.timeout(self._seconds):
                await self._start_producer()
                await self._find_topics()

    async def send(self, commits: Sequence[Commit]) -> Sequence[Refused]:
        refused: list[Refused] = []
        try:
            with self._telling_why("have events acknowledged"):
                async with asyncio.TaskGroup() as tasks, self._packing:
                    for number, batches in await self._pack(commits):
                        lane = self._lanes[number]
                        tasks.create_task(self._deliver(lane, batches, refused))
        except BaseException:
            self._is_broken = True
            raise
        self._sent += 1
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
        counts = []
        for topic in TOPICS:
            name = self._topic(topic)
            partitions = sorted(await self._producer.partitions_for(name))
            if partitions != list(range(len(partitions))):
                raise PublishError(
                    f"expected all partitions of the topic {name}, got {partitions}"
                )
            self._lanes += [_Lane(name, number) for number in partitions]
            counts.append(len(partitions))
        self._packer = packer_of(counts, self._format)

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

    async def _pack(
        self, commits: Sequence[Commit]
    ) -> list[tuple[int, list[RecordBatch]]]:
        """By the number of the lane, those of each in order."""
        self._expect_whole()
        add = self._packer.add
        added = 0
        for commit in commits:
            for record in commit.records:
                add(record.payload, record.first_sequence, record.shard, commit.number)
                added += record.count
                if added >= EVENTS_AT_ONCE:
                    added = 0
                    await asyncio.sleep(0)
        return self._packer.take()

    async def _deliver(
        self, lane: "_Lane", batches: Iterable[RecordBatch], refused: list[Refused]
    ) -> None:
        """Behind what was lined up before, until everything is acknowledged, or among
        what is refused."""
        async with lane.turn:
            try:
                for batch in batches:
                    await self._deliver_batch(lane, batch, refused)
            except BaseException:
                self._is_broken = True  # before it is the turn of what follows
                raise

    async def _deliver_batch(
        self, lane: "_Lane", batch: RecordBatch, refused: list[Refused]
    ) -> None:
        left = [batch]
        while left:
            batch = left.pop()
            try:
                await self._send_batch(lane, batch)
            except _REFUSALS as error:
                self._take_back(lane, batch)
                records = records_of(batch)
                if len(records) == 1:
                    event = self._format.decode(records[0].value)
                    reason = f"topic {lane.topic}: {type(error).__name__}: {error}"
                    refused.append(Refused(event, reason))
                else:
                    middle = len(records) // 2
                    left += [_batch_of(records[middle:]), _batch_of(records[:middle])]

    async def _send_batch(self, lane: "_Lane", batch: RecordBatch) -> None:
        self._expect_whole()
        producer = self._producer
        assert producer is not None
        async with asyncio.timeout(self._seconds):
            acknowledged = await producer.send_batch(
                batch, lane.topic, partition=lane.partition
            )
            await acknowledged

    def _expect_whole(self) -> None:
        if self._is_broken:
            raise KafkaError("an earlier record batch was not acknowledged")

    def _take_back(self, lane: "_Lane", batch: RecordBatch) -> None:
        """The sequence numbers of a batch that was refused are the next ones again. The
        library has no other way than to begin anew with another producer."""
        assert self._producer is not None
        place = TopicPartition(lane.topic, lane.partition)
        self._producer._txn_manager.increment_sequence_number(place, -batch.count)


class _Lane:
    """The way to one partition: one record batch at a time, in their order."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.turn = asyncio.Lock()


class _Record(NamedTuple):
    key: bytes | None
    value: bytes
    event_id: bytes


def records_of(batch: RecordBatch) -> list[_Record]:
    """What is in it, as the library reads it."""
    found = MemoryRecords(bytes(batch._build())).next_batch()
    assert found is not None
    return [_Record(each.key, each.value, each.headers[0][1]) for each in found]


def _batch_of(records: Iterable[_Record]) -> RecordBatch:
    batch = RecordBatch(BATCH_BYTES_MAX)
    for record in records:
        fits = batch.append(*record)
        assert fits, "less than there was in one"
    return batch


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
