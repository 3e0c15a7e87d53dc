# cython: language_level=3
# What an entry says, as the texts that events and rows have of it.

from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint8_t, uint64_t


cdef inline str text_of(const uint8_t* data, Py_ssize_t size):
    return PyUnicode_DecodeLatin1(<const char*> data, size, NULL)


# Without the fill at its end; None if nothing is left.
cdef inline str filled_text_of(const uint8_t* data, Py_ssize_t size):
    while size and (data[size - 1] == c' ' or data[size - 1] == 0):
        size -= 1
    return text_of(data, size) if size else None


# Decimal digits, at most 20 of them, zeros before the number.
cdef inline str digits_of(uint64_t number, int width):
    cdef uint8_t out[20]
    cdef int at = 20
    while at > 20 - width or number:
        at -= 1
        out[at] = <uint8_t> (48 + number % 10)
        number //= 10
    return text_of(out + at, 20 - at)


# Lower-case digits of 16 bytes; None if all are zero.
cdef inline str token_of(const uint8_t* pan_hash):
    cdef uint8_t out[32]
    cdef uint8_t high, low
    cdef uint8_t seen = 0
    cdef int i
    for i in range(16):
        seen |= pan_hash[i]
        high = pan_hash[i] >> 4
        low = pan_hash[i] & 15
        out[2 * i] = high + (48 if high < 10 else 87)
        out[2 * i + 1] = low + (48 if low < 10 else 87)
    return text_of(out, 32) if seen else None


# BCD nibbles, four of them.
cdef inline str mti_of(unsigned int mti):
    cdef uint8_t out[4]
    cdef int i
    for i in range(4):
        out[i] = <uint8_t> (48 + (mti >> (12 - 4 * i) & 15))
    return text_of(out, 4)
