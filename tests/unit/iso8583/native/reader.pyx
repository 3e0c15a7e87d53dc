# cython: language_level=3
"""What another native module sees of the codec, handed to Python for the tests."""

from libc.stdint cimport uint8_t

from iso8583._codec cimport Codec, Message, ReplyTemplate, Span

cdef enum:
    CAPACITY_MAX = 1024
    # Written beyond the capacity given, a guard is gone.
    GUARD = 0xA5


def decode(Codec codec, bytearray data):
    return codec.decode_buffer(<const uint8_t*> <char*> data, len(data))


def mti_number(Message message):
    return message.mti_number


def has(Message message, int field):
    return message.has(field)


def number(Message message, int field):
    return message.number(field)


def span(Message message, int field):
    cdef Span span = message.span(field)
    return None if span.data == NULL else (<const char*> span.data)[:span.size]


def text(Message message, int field, int capacity):
    cdef uint8_t out[CAPACITY_MAX + 1]
    assert capacity <= CAPACITY_MAX
    out[capacity] = GUARD
    cdef Py_ssize_t length = message.text(field, out, capacity)
    assert out[capacity] == GUARD
    return length if length < 0 else (<const char*> out)[:length]


def reply(
    ReplyTemplate template, Message request, int capacity,
    bytes response_code, bytes approval_code
):
    cdef uint8_t out[CAPACITY_MAX + 1]
    cdef const uint8_t* approval = NULL
    if approval_code is not None:
        approval = <const uint8_t*> <const char*> approval_code
    assert capacity <= CAPACITY_MAX
    out[capacity] = GUARD
    cdef Py_ssize_t size = -1
    try:
        size = template.write(
            request, out, capacity, approval,
            <const uint8_t*> <const char*> response_code,
        )
    finally:
        assert out[capacity] == GUARD
    return (<const char*> out)[:size]
