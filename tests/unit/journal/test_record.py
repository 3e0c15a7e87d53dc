"""Invariant: a record decodes to what was encoded, or JournalDamaged says where it is
wrong (JournalVersion, for a sound record of another version); never another commit."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.journal.errors import JournalDamaged, JournalError, JournalVersion
from switch.journal.port import Commit, ShardRecord
from switch.journal.record import (
    RECORD_SIZE_MAX,
    Sequences,
    decode,
    encode,
    stored_checksum,
)

RECORDS = (ShardRecord(3, 10, 2, b"two entries"), ShardRecord(7, 1, 1, b""))

shard_records = st.builds(
    ShardRecord,
    st.integers(0, 65_535),
    st.integers(1, 2**63),
    st.integers(1, 2**31),
    st.binary(max_size=200),
)


@given(
    number=st.integers(1, 2**63),
    at=st.integers(-(2**62), 2**62),
    previous=st.integers(0, 2**32 - 1),
    records=st.lists(shard_records, min_size=1, max_size=70),
)
def test_round_trip(number, at, previous, records):
    data, checksum = encode(number, at, previous, records)
    commit, decoded_checksum = decode(data, number, previous, "x")
    assert commit == Commit(number, at, tuple(records))
    assert checksum == decoded_checksum == stored_checksum(data, number, "x")


def test_layout():
    data, checksum = encode(5, 1_700_000_000_000, 0xAABBCCDD, RECORDS)
    assert data == (
        b"swJR\x01\x00\x00\x00"
        + struct.pack("<QqII", 5, 1_700_000_000_000, 0xAABBCCDD, 2)
        + struct.pack("<IIQI", 3, 2, 10, 11)
        + struct.pack("<IIQI", 7, 1, 1, 0)
        + b"two entries"
        + struct.pack("<I", checksum)
    )
    assert checksum == zlib.crc32(data[:-4])


def test_every_flipped_bit_is_found():
    data, _ = encode(5, 1_000, 77, RECORDS)
    for index in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises(JournalDamaged) as caught:
            decode(bytes(flipped), 5, 77, "dir/journal.db")
        assert caught.value.commit == 5
        assert "dir/journal.db" in str(caught.value)


def test_a_record_torn_anywhere_is_found():
    data, _ = encode(5, 1_000, 77, RECORDS)
    for size in range(len(data)):
        for torn in (data[:size], data[:size] + bytes(len(data) - size)):
            with pytest.raises(JournalDamaged):
                decode(torn, 5, 77, "x")


def test_another_commits_record_is_found():
    data, _ = encode(5, 1_000, 77, RECORDS)
    with pytest.raises(JournalDamaged, match="wrong number: expected 6, got 5"):
        decode(data, 6, 77, "x")
    with pytest.raises(JournalDamaged, match=r"broken chain.*0x0000004e.*0x0000004d"):
        decode(data, 5, 78, "x")
    assert decode(data, 5, None, "x")[0].records == RECORDS


def test_another_version_is_told_from_damage():
    data = bytearray(encode(5, 1_000, 77, RECORDS)[0])
    data[4] = 2
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(JournalVersion, match="expected 1, got 2"):
        decode(bytes(data), 5, 77, "x")


@pytest.mark.parametrize(
    ("offset", "value"), [(28, 0), (28, 3), (28, 2**31), (32 + 16, 12), (52 + 16, 1)]
)
def test_a_table_that_does_not_fit_is_found(offset, value):
    data = bytearray(encode(5, 1_000, 77, RECORDS)[0])
    data[offset : offset + 4] = struct.pack("<I", value)
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(JournalDamaged, match="table does not fit"):
        decode(bytes(data), 5, 77, "x")


def test_too_large_a_record_is_refused():
    with pytest.raises(JournalError, match="record too large"):
        encode(1, 0, 0, [ShardRecord(0, 1, 1, bytes(RECORD_SIZE_MAX))])


class TestSequences:
    def test_entries_follow_each_other(self):
        sequences = Sequences(8)
        first = [ShardRecord(1, 100, 5, b""), ShardRecord(2, 1, 1, b"")]
        assert sequences.fault(first) is None
        sequences.advance(first)
        assert sequences.fault([ShardRecord(1, 105, 1, b"")]) is None
        for wrong in (104, 106):
            fault = sequences.fault([ShardRecord(1, wrong, 1, b"")])
            assert fault == ("gap in the sequence of shard 1", "105", str(wrong))

    @pytest.mark.parametrize(
        ("records", "what"),
        [
            ([], "records of a commit"),
            ([ShardRecord(8, 1, 1, b"")], "unknown shard"),
            ([ShardRecord(-1, 1, 1, b"")], "unknown shard"),
            ([ShardRecord(1, 0, 1, b"")], "empty record of shard 1"),
            ([ShardRecord(1, 1, 0, b"")], "empty record of shard 1"),
            ([ShardRecord(1, 1, 1, b"")] * 2, "records of a commit"),
        ],
    )
    def test_what_is_no_commit_is_refused(self, records, what):
        fault = Sequences(8).fault(records)
        assert fault is not None
        assert fault[0] == what
