# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum:
    TABLES = 64


cdef struct Table:
    uint64_t* slots
    uint64_t mask
    uint64_t count


cdef class CardDirectory:
    cdef readonly list states           # by number; None: elsewhere
    cdef readonly int shard_count       # of all there are
    cdef int open_count                 # of those here
    cdef readonly uint64_t count
    cdef Table tables[TABLES]

    cdef int shard_of(self, const uint8_t* pan_hash) noexcept
    cdef int add(self, const uint8_t* pan_hash, int shard) except -1
