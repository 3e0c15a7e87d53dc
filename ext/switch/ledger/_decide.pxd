# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint64_t

from switch.ledger._entry cimport Transaction
from switch.ledger._request cimport Request
from switch.ledger._state cimport State


cdef class Decision:
    cdef readonly Transaction entry     # None: a repeat, or nothing to remember
    cdef readonly bint approved
    cdef readonly bint repeated
    cdef readonly uint64_t sequence     # of the entry that an approval comes from
    cdef uint8_t code[2]
    cdef uint8_t approval[6]


cdef Decision undecided(const char* response_code)
cpdef Decision decide(State state, Request request, int64_t now)
cpdef Decision decide_void(State state, Request request, int64_t now)
cdef void write_approval_code(uint64_t sequence, int shard, uint8_t* out) noexcept
