# cython: language_level=3

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    SECOND_SIZE = 19        # 2026-11-24T09:30:00
    TIME_SIZE = 24          # 2026-11-24T09:30:00.000Z

# The ISO 4217 letters of a currency's number.
cdef str currency_of(int number)


# RFC 3339 of milliseconds since 1970; entries come in order, so the text of a second is
# made once.
cdef class _Times:
    cdef int64_t second
    cdef uint8_t text[TIME_SIZE]
    # The text is there until the next one is made.
    cdef const uint8_t* made(self, int64_t at_ms) except NULL
    cdef str of(self, int64_t at_ms)


# The same for field 7, which tells no year; messages of one second share it.
cdef class _TransmittedTimes:
    cdef uint64_t field_7
    cdef int64_t second
    cdef str text
    # None if it is no date.
    cdef str of(self, uint64_t field_7, int64_t at_ms)
