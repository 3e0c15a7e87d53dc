# cython: language_level=3
from libc.stdint cimport uint8_t, uint64_t


cdef class PanHash:
    # The state behind the block of the key.
    cdef uint64_t keyed[8]

    # `out` has room for HASH_SIZE bytes; `size` is that of a PAN.
    cdef void write(
        self, const uint8_t* digits, Py_ssize_t size, uint8_t* out) noexcept
