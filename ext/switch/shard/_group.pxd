# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from switch.ledger._decide cimport Decision
from switch.ledger._entry cimport Entry
from switch.ledger._request cimport Request
from switch.ledger._state cimport State


cdef class ReplyBuffer:
    cdef uint8_t* frames
    cdef Py_ssize_t frames_size
    cdef Py_ssize_t frames_capacity
    cdef readonly int replies           # in it, waiting for their commit
    cdef readonly Py_ssize_t header_size
    cdef bint held                      # enlisted in the commit being gathered

    cdef uint8_t* open(self, Py_ssize_t capacity) except NULL
    cdef int close(self, Py_ssize_t body_size) except -1
    cdef int write_header(self, uint8_t* at, Py_ssize_t body_size) except -1
    cdef bytes take(self)
    cpdef deliver(self, bytes frames, int replies)


cdef class Shard:
    cdef readonly State state
    cdef readonly CommitGroup group
    cdef uint8_t* pending
    cdef Py_ssize_t pending_size
    cdef Py_ssize_t pending_capacity
    cdef uint32_t pending_count
    cdef uint64_t first_sequence

    cdef Decision admit(self, Request request, int64_t now)
    cdef int write(self, Entry entry) except -1
    cpdef object take(self)


cdef class CommitGroup:
    cdef readonly list shards
    cdef readonly uint64_t head         # number of the last commit known to be durable
    cdef readonly uint32_t pending      # entries not yet handed to the journal
    cdef readonly uint32_t in_flight    # entries the journal is writing
    cdef readonly uint32_t pending_max
    cdef readonly uint64_t entries      # released since the start
    cdef readonly uint64_t commits
    cdef object _fault                  # what stopped the journal, if anything did
    cdef object _submit
    cdef object _schedule
    cdef object _released
    cdef object _clock
    cdef list _changed                  # shards with pending entries
    cdef list _holding                  # reply buffers with replies to hold
    cdef list _waiters                  # futures for what is pending now
    cdef list _deliveries               # of the commit in flight
    cdef list _waiters_in_flight
    cdef bint _committing
    cdef bint _scheduled

    cdef int hold(self, ReplyBuffer buffer) except -1
    cpdef flush(self)
    cpdef seal(self)
    cpdef committed(self, uint64_t number)
    cdef int _deliver(self, list deliveries, list waiters) except -1
