# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class CardDirectory:
    cdef readonly list states
    cdef readonly uint64_t count
    cdef uint64_t* slots
    cdef uint64_t mask

    cdef int shard_of(self, const uint8_t* pan_hash) noexcept
    cdef int add(self, const uint8_t* pan_hash, int shard) except -1
    cdef void _put(self, uint64_t slot) noexcept
    cdef int _grow(self) except -1
    cdef int _allocate(self, uint64_t count) except -1
