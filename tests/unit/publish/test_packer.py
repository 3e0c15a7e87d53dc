"""Entries into record batches, and these as the library reads and writes them."""

import msgspec
import pytest
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from switch.journal.port import Commit
from switch.publish._packer import partition_of
from switch.publish._record_batch import HEADER, RecordBatch
from switch.publish.events import events_of
from switch.publish.kafka import BATCH_BYTES_MAX, format_of, packer_of, records_of
from switch.publish.topics import TOPICS, topic_of
from tests.unit.small_bank import full_journal

PARTITIONS = (3, 2, 1)


@given(
    st.lists(
        st.tuples(st.none() | st.binary(max_size=200), st.binary(), st.binary()),
        min_size=1,
        max_size=200,
    ),
    st.tuples(
        st.integers(-1, 2**63 - 1),
        st.integers(-1, 2**15 - 1),
        st.integers(0, 2**31 - 1),
    ),
)
def test_a_record_batch_is_what_the_library_makes_of_the_same(records, producer):
    batch = RecordBatch(BATCH_BYTES_MAX)
    for record in records:
        assert batch.append(*record)
    batch._set_producer_state(*producer)
    data = bytes(batch._build())
    assert bytes(batch._build()) == data
    assert batch.record_count() == batch.count == len(records)
    read = MemoryRecords(data).next_batch()
    assert read.validate_crc()
    timestamps = {record.timestamp for record in MemoryRecords(data).next_batch()}
    (timestamp,) = timestamps
    builder = DefaultRecordBatchBuilder(2, 0, 0, *producer, BATCH_BYTES_MAX)
    for offset, (key, value, event_id) in enumerate(records):
        builder.append(offset, timestamp, key, value, [(HEADER, event_id)])
    assert data == bytes(builder.build())


@pytest.mark.parametrize("size", [100, 1000, 20_000, 300_000])
def test_a_record_batch_takes_what_it_has_room_for_and_one_record_always(size):
    batch = RecordBatch(size_max=20_000)
    record = b"key", bytes(size), b"1-1"
    assert batch.append(*record)
    taken = 1
    while batch.append(*record):
        taken += 1
    assert len(records_of(batch)) == taken
    full = len(batch._build())
    assert taken == 1 or full <= 20_000
    assert full + size + len("key1-1event-id") > 20_000


@given(st.binary(max_size=40), st.integers(1, 10_000))
def test_a_key_is_where_clients_of_kafka_look_for_it(key, partitions):
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.fixture(scope="module")
def commits(tmp_path_factory) -> list[Commit]:
    """At least one of every kind."""
    _, journal = full_journal(tmp_path_factory.mktemp("journal"))
    found = list(journal.read(0))
    journal.close()
    return found


@pytest.mark.parametrize("value_format", ["json", "msgpack"])
def test_every_event_is_in_its_partition_in_the_order_of_the_journal(
    commits, value_format
):
    form = format_of(value_format)
    packer = packer_of(PARTITIONS, form)
    for commit in commits:
        for record in commit.records:
            packer.add(
                record.payload, record.first_sequence, record.shard, commit.number
            )
    wanted: dict[int, list[tuple[bytes | None, bytes, bytes]]] = {}
    for event in (event for commit in commits for event in events_of(commit)):
        topic = TOPICS.index(topic_of(event))
        key = None if event.account is None else event.account.encode()
        number = murmur2(key or event.id.encode()) & 0x7FFFFFFF
        lane = sum(PARTITIONS[:topic]) + number % PARTITIONS[topic]
        record = key, form.encode(event), event.id.encode()
        wanted.setdefault(lane, []).append(record)
        assert form.decode(record[1]) == event
    found = {
        lane: [record for batch in batches for record in records_of(batch)]
        for lane, batches in packer.take()
    }
    assert found == wanted
    assert packer.take() == []


def test_what_is_beyond_a_batch_is_in_the_next_one(commits, monkeypatch):
    monkeypatch.setattr("switch.publish.kafka.BATCH_BYTES_MAX", 2000)
    packer = packer_of((1, 1, 1), format_of("json"))
    for _ in range(10):
        for commit in commits:
            for record in commit.records:
                packer.add(record.payload, record.first_sequence, record.shard, 1)
    taken = packer.take()
    assert [lane for lane, _ in taken] == [0, 1, 2]
    for _, batches in taken:
        assert len(batches) > 2
        assert all(len(batch._build()) <= 2000 for batch in batches)
        ids = [
            msgspec.json.decode(record.value)["id"].encode() == record.event_id
            for batch in batches
            for record in records_of(batch)
        ]
        assert all(ids)
