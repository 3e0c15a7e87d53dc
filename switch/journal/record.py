"""Commits as bytes.

Layout of one commit record, little-endian, no padding but where stated:

    offset  size  what
    0       4     magic "swJR"
    4       2     format version, 1
    6       2     zero
    8       8     commit number, 1 and up
    16      8     time, ms since 1970
    24      4     checksum of the previous commit's record; of the journal's
                  identity in commit 1
    28      4     n, the number of shard records, 1 and up
    32      20*n  table, one row per shard record:
                      0   4   shard
                      4   4   number of entries, 1 and up
                      8   8   sequence of the first entry, 1 and up
                      16  4   size of the payload in bytes
    32+20n        the payloads, in the table's order
    end-4   4     checksum: CRC-32 (zlib) over everything before it

Each record names its predecessor's checksum, so a row that is missing, moved or
taken from another journal is found even when its own checksum is right. A CRC finds
faults, not forgers: who can write the file can also write the checksums.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from switch.journal.errors import JournalDamaged, JournalError, JournalVersion
from switch.journal.port import SHARD_COUNT_MAX, Commit, ShardRecord

FORMAT_VERSION = 1
MAGIC = b"swJR"
# Far above a commit's size under load (tens of KB), far below SQLite's 10⁹ bytes.
RECORD_SIZE_MAX = 256 * 1024 * 1024

_HEADER = struct.Struct("<4sHHQqII")
_ROW = struct.Struct("<IIQI")
_CHECKSUM = struct.Struct("<I")
_SIZE_MIN = _HEADER.size + _ROW.size + _CHECKSUM.size

assert _HEADER.size == 32
assert _ROW.size == 20


@lru_cache(maxsize=256)
def _table(record_count: int) -> struct.Struct:
    # One pack call for all rows: a commit under load has a row for nearly every shard.
    return struct.Struct("<" + "IIQI" * record_count)


def genesis_checksum(identity: bytes) -> int:
    """What commit 1 names as its predecessor."""
    return zlib.crc32(identity)


def encode(
    number: int, at: int, previous: int, records: Sequence[ShardRecord]
) -> tuple[bytes, int]:
    """The record and its checksum."""
    count = len(records)
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, 0, number, at, previous, count)
    rows = [
        value
        for record in records
        for value in (
            record.shard,
            record.count,
            record.first_sequence,
            len(record.payload),
        )
    ]
    body = b"".join(
        [header, _table(count).pack(*rows), *[record.payload for record in records]]
    )
    size = len(body) + _CHECKSUM.size
    if size > RECORD_SIZE_MAX:
        raise JournalError(
            "record too large",
            commit=number,
            expected=f"at most {RECORD_SIZE_MAX} bytes",
            got=f"{size} bytes",
        )
    checksum = zlib.crc32(body)
    return body + _CHECKSUM.pack(checksum), checksum


def stored_checksum(data: bytes, number: int, path: str) -> int:
    """The checksum a record ends with, unverified: what its successor must name."""
    if len(data) < _CHECKSUM.size:
        raise JournalDamaged(
            "torn record",
            path=path,
            commit=number,
            expected=f"at least {_SIZE_MIN} bytes",
            got=f"{len(data)} bytes",
        )
    return int(_CHECKSUM.unpack_from(data, len(data) - _CHECKSUM.size)[0])


def decode(
    data: bytes, number: int, previous: int | None, path: str
) -> tuple[Commit, int]:
    """The commit stored under `number`, and its checksum. `previous` is its
    predecessor's checksum, None when it is not known."""
    at, stored_previous, count, checksum = _decode_header(data, number, path)
    if previous is not None and stored_previous != previous:
        raise JournalDamaged(
            "broken chain: the record does not follow the one before it",
            path=path,
            commit=number,
            byte=24,
            expected=f"predecessor's checksum {previous:#010x}",
            got=f"{stored_previous:#010x}",
        )
    rows = list(_ROW.iter_unpack(data[32 : 32 + _ROW.size * count]))
    ends = list(accumulate((row[3] for row in rows), initial=32 + _ROW.size * count))
    if ends[-1] != len(data) - _CHECKSUM.size:
        raise JournalDamaged(
            "table does not fit the record",
            path=path,
            commit=number,
            byte=32,
            expected=f"payloads that end at byte {len(data) - _CHECKSUM.size}",
            got=f"an end at byte {ends[-1]}",
        )
    records = tuple(
        [
            ShardRecord(shard, first_sequence, entry_count, data[start : start + size])
            for (shard, entry_count, first_sequence, size), start in zip(
                rows, ends, strict=False
            )
        ]
    )
    return Commit(number, at, records), checksum


def _decode_header(data: bytes, number: int, path: str) -> tuple[int, int, int, int]:
    """Checks what can be checked without the predecessor: time, predecessor's
    checksum, number of shard records, checksum."""
    size = len(data)
    if size < _SIZE_MIN:
        raise JournalDamaged(
            "torn record",
            path=path,
            commit=number,
            expected=f"at least {_SIZE_MIN} bytes",
            got=f"{size} bytes",
        )
    magic, version, _, stored_number, at, previous, count = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise JournalDamaged(
            "not a commit record",
            path=path,
            commit=number,
            byte=0,
            expected=f"magic {MAGIC.hex()}",
            got=magic.hex(),
        )
    checksum = zlib.crc32(memoryview(data)[:-4])
    stored = stored_checksum(data, number, path)
    if checksum != stored:
        raise JournalDamaged(
            "record changed since it was written",
            path=path,
            commit=number,
            byte=size - _CHECKSUM.size,
            expected=f"checksum {checksum:#010x} of its {size} bytes",
            got=f"{stored:#010x}",
        )
    if version != FORMAT_VERSION:
        # After the checksum: a flipped bit is no new version.
        raise JournalVersion(
            "record of another format version",
            path=path,
            commit=number,
            byte=4,
            expected=FORMAT_VERSION,
            got=version,
        )
    if stored_number != number:
        raise JournalDamaged(
            "record under the wrong number",
            path=path,
            commit=number,
            byte=8,
            expected=number,
            got=stored_number,
        )
    if not 1 <= count <= (size - _HEADER.size - _CHECKSUM.size) // _ROW.size:
        raise JournalDamaged(
            "table does not fit the record",
            path=path,
            commit=number,
            byte=28,
            expected="1 shard record or more within the record's size",
            got=count,
        )
    return at, previous, count, checksum


class Sequences:
    """The next sequence of each shard, as far as it is known: entries of a shard
    follow each other without a gap, whichever commits they are in."""

    __slots__ = ("_next", "_shard_count")

    def __init__(self, shard_count: int) -> None:
        assert 1 <= shard_count <= SHARD_COUNT_MAX
        self._shard_count = shard_count
        self._next: dict[int, int] = {}

    def fault(self, records: Sequence[ShardRecord]) -> tuple[str, str, str] | None:
        """What is wrong with `records` as the next ones: (what, expected, got)."""
        seen: set[int] = set()
        for record in records:
            shard = record.shard
            if not 0 <= shard < self._shard_count:
                return "unknown shard", f"0 to {self._shard_count - 1}", str(shard)
            if record.count < 1 or record.first_sequence < 1:
                return (
                    f"empty record of shard {shard}",
                    "a sequence and a number of entries of 1 or more",
                    f"{record.first_sequence} and {record.count}",
                )
            expected = self._next.get(shard, record.first_sequence)
            if record.first_sequence != expected:
                return (
                    f"gap in the sequence of shard {shard}",
                    str(expected),
                    str(record.first_sequence),
                )
            seen.add(shard)
        if not records or len(seen) != len(records):
            return (
                "records of a commit",
                "one or more, of different shards",
                f"{len(records)}, of {len(seen)} shards",
            )
        return None

    def advance(self, records: Sequence[ShardRecord]) -> None:
        self._next.update(
            [(record.shard, record.first_sequence + record.count) for record in records]
        )

    def expect(self, sequences: Mapping[int, int]) -> None:
        """`sequences`: the next one of each of these shards."""
        self._next.update(sequences)

    def copy(self) -> Sequences:
        other = Sequences(self._shard_count)
        other._next = self._next.copy()
        return other
