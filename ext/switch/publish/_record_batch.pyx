# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A record batch of Kafka, written where it is sent from.

Layout, big-endian (KIP-98; magic 2):

    offset  size  what
    0       8     base offset, the broker's: 0
    8       4     size of what follows
    12      4     partition leader epoch, the broker's: -1
    16      1     magic, 2
    17      4     CRC-32C of what follows
    21      2     attributes: 0, not compressed, the time of creation
    23      4     offset of the last record, from the first one
    27      16    time of the first and of the last record, ms since 1970
    43      14    producer: id (8), epoch (2), sequence of the first record (4)
    57      4     number of records
    61            the records

    record        size of what follows, attributes (1, 0), time from the first one,
                  offset from the first one, then key, value, and the number of headers:
                  one, a name and a value; each as a size and its bytes. Numbers are
                  varints of zigzag; a size of -1 is null

aiokafka has one too, and a call of it for each record costs more than everything else
that is done for a record. It takes this one in its place, and sees to all the rest.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

import struct
import time

from aiokafka.record.util import calc_crc32c

HEADER = "event-id"

cdef enum:
    HEAD_SIZE = 61
    CHECKSUM_OFFSET = 17
    CHECKED_OFFSET = 21
    SIZED_OFFSET = 12
    MAGIC = 2
    VARINT_SIZE_MAX = 10
    SIZE_AT_FIRST = 16 * 1024
    MS_PER_S = 1000

cdef bytes _HEADER = HEADER.encode()
cdef Py_ssize_t _HEADER_SIZE = len(_HEADER)

_HEAD = struct.Struct(">qiibIhiqqqhii")
_CHECKSUM = struct.Struct(">I")
assert _HEAD.size == HEAD_SIZE


cdef inline uint64_t _zigzag(int64_t number) noexcept:
    return (<uint64_t> number << 1) ^ <uint64_t> (number >> 63)


cdef inline Py_ssize_t _varint_size(int64_t number) noexcept:
    cdef uint64_t left = _zigzag(number)
    cdef Py_ssize_t size = 1
    while left > 0x7F:
        left >>= 7
        size += 1
    return size


cdef inline uint8_t* _put_varint(uint8_t* at, int64_t number) noexcept:
    cdef uint64_t left = _zigzag(number)
    while left > 0x7F:
        at[0] = <uint8_t> (left & 0x7F | 0x80)
        left >>= 7
        at += 1
    at[0] = <uint8_t> left
    return at + 1


cdef inline uint8_t* _put_sized(
    uint8_t* at, const uint8_t* data, Py_ssize_t size
) noexcept:
    at = _put_varint(at, size)
    memcpy(at, data, size)
    return at + size


cdef class RecordBatch:
    """Takes records up to `size_max` bytes, and is what aiokafka calls a builder."""

    def __init__(self, Py_ssize_t size_max):
        self.data = bytearray(SIZE_AT_FIRST)
        self.size_used = HEAD_SIZE
        self.size_max = size_max
        self.timestamp = int(time.time() * MS_PER_S)
        self.producer = (-1, -1, 0)

    cdef bint put(
        self, const uint8_t* key, Py_ssize_t key_size,
        const uint8_t* value, Py_ssize_t value_size,
        const uint8_t* event_id, Py_ssize_t event_id_size,
    ) except -1:
        cdef Py_ssize_t body = (
            2 + _varint_size(self.count)
            + _varint_size(key_size) + (key_size if key_size > 0 else 0)
            + _varint_size(value_size) + value_size
            + 1 + _varint_size(_HEADER_SIZE) + _HEADER_SIZE
            + _varint_size(event_id_size) + event_id_size
        )
        cdef Py_ssize_t end = self.size_used + _varint_size(body) + body
        cdef uint8_t* at
        assert not self.is_built
        if self.count and end > self.size_max:
            return False
        if end > len(self.data):
            PyByteArray_Resize(self.data, max(end, 2 * len(self.data)))
        at = <uint8_t*> PyByteArray_AS_STRING(self.data) + self.size_used
        at = _put_varint(at, body)
        at[0] = 0
        at[1] = 0
        at = _put_varint(at + 2, self.count)
        if key_size < 0:
            at = _put_varint(at, -1)
        else:
            at = _put_sized(at, key, key_size)
        at = _put_sized(at, value, value_size)
        at = _put_varint(at, 1)
        at = _put_sized(at, <const uint8_t*> <const char*> _HEADER, _HEADER_SIZE)
        at = _put_sized(at, event_id, event_id_size)
        assert at == <uint8_t*> PyByteArray_AS_STRING(self.data) + end
        self.size_used = end
        self.count += 1
        return True

    def append(self, bytes key, bytes value not None, bytes event_id not None):
        """Whether there was room; the first record always has."""
        cdef bytes data = b"" if key is None else key
        return self.put(
            <const uint8_t*> <const char*> data, -1 if key is None else len(key),
            <const uint8_t*> <const char*> value, len(value),
            <const uint8_t*> <const char*> event_id, len(event_id),
        )

    # -- what aiokafka calls

    def record_count(self):
        return self.count

    def closed(self):
        """It waits for nothing more."""
        return True

    def _set_producer_state(self, producer_id, producer_epoch, base_sequence):
        assert not self.is_built
        self.producer = (producer_id, producer_epoch, base_sequence)

    def _build(self):
        """All of it; the same again when it is sent again."""
        if not self.is_built:
            self.is_built = True
            PyByteArray_Resize(self.data, self.size_used)
            _HEAD.pack_into(
                self.data, 0, 0, self.size_used - SIZED_OFFSET, -1, MAGIC, 0, 0,
                self.count - 1, self.timestamp, self.timestamp, *self.producer,
                self.count,
            )
            with memoryview(self.data) as view, view[CHECKED_OFFSET:] as checked:
                checksum = calc_crc32c(checked)
            _CHECKSUM.pack_into(self.data, CHECKSUM_OFFSET, checksum)
        return self.data
