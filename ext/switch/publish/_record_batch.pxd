# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t


cdef class RecordBatch:
    cdef bytearray data
    cdef readonly int count
    cdef Py_ssize_t size_used
    cdef Py_ssize_t size_max
    cdef int64_t timestamp
    cdef tuple producer     # its id, its epoch, and the sequence of the first record
    cdef bint is_built
    # Whether there was room; the first record always has. A key of size -1 is null.
    cdef bint put(
        self, const uint8_t* key, Py_ssize_t key_size,
        const uint8_t* value, Py_ssize_t value_size,
        const uint8_t* event_id, Py_ssize_t event_id_size,
    ) except -1
