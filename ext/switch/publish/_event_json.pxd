# cython: language_level=3
from libc.stdint cimport uint8_t, uint64_t

from switch.ledger._entry cimport Transaction

cdef enum:
    # Fixed words, numbers of all digits, and texts each byte of which is escaped.
    EVENT_JSON_SIZE_MAX = 4096
    # Where the id begins: {"id":"
    ID_OFFSET = 7

# What was written, and of that the text of the id.
cdef struct EventJson:
    Py_ssize_t size
    Py_ssize_t id_size

# `out` has room for EVENT_JSON_SIZE_MAX bytes.
cdef EventJson write_event(
    Transaction entry, int shard, uint64_t commit, uint8_t* out
) except *
