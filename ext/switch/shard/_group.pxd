# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from switch.ledger._decide cimport Decision
from switch.ledger._entry cimport Entry
from switch.ledger._request cimport Request
from switch.ledger._state cimport State


# An approval among the replies of a buffer: it may not leave once it is withdrawn.
cdef struct Approval:
    uint64_t sequence
    Py_ssize_t offset           # of its frame in `frames`
    Py_ssize_t size
    int shard
    int64_t due_ms              # on the monotonic clock; 0: of a repeat


cdef class ReplyBuffer:
    cdef uint8_t* frames
    cdef Py_ssize_t frames_size
    cdef Py_ssize_t frames_capacity
    cdef Py_ssize_t last_frame_size
    cdef Approval* approvals
    cdef Py_ssize_t approval_count
    cdef Py_ssize_t approvals_capacity  # bytes
    cdef readonly int replies           # in it, waiting for their commit
    cdef readonly Py_ssize_t header_size
    cdef bint held                      # enlisted in the commit being gathered
    cdef int deadline_ms                # of its link
    cdef int64_t read_ms                # when its requests were read, monotonic

    cdef uint8_t* open(self, Py_ssize_t capacity) except NULL
    cdef int close(self, Py_ssize_t body_size) except -1
    cdef int write_header(self, uint8_t* at, Py_ssize_t body_size) except -1
    cdef int mark_approval(
        self, int shard, uint64_t sequence, bint repeated) except -1
    cdef bytes take(self)
    cdef bytes take_approvals(self)
    cdef int decline(self, bytes frame) except -1
    cpdef deliver(self, bytes frames, int replies)
    cpdef forgo(self, int replies)


cdef class Shard:
    cdef readonly State state
    cdef readonly CommitGroup group
    cdef uint8_t* pending
    cdef Py_ssize_t pending_size
    cdef Py_ssize_t pending_capacity
    cdef uint32_t pending_count
    cdef uint64_t first_sequence
    cdef bint is_in_flight              # a commit with its entries is being written

    cdef Decision admit(self, Request request, int64_t now)
    cdef Decision make_void(self, Request request, int64_t now)
    cdef int write(self, Entry entry) except -1
    cpdef object take(self)


cdef class CommitGroup:
    cdef readonly list slots            # by number; None: elsewhere
    cdef readonly uint64_t head         # number of the last commit known to be durable
    cdef readonly uint32_t pending      # entries not yet handed to the journal
    cdef readonly uint32_t in_flight    # entries the journal is writing
    cdef readonly uint32_t pending_max
    cdef readonly uint64_t entries      # released since the start
    cdef readonly uint64_t commits
    cdef readonly uint64_t withdrawn    # approvals that came too late
    cdef public int64_t deadline_ms     # the shortest of all links'
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
    cdef object _monotonic
    cdef int64_t _pending_since         # ms, when the oldest entry pending came
    cdef int64_t _in_flight_since
    cdef int64_t _pending_due           # of what may have less time than `deadline_ms`
    cdef int64_t _in_flight_due
    cdef list _records                  # of the commit in flight
    cdef list _changed_in_flight        # and the shards that they are of
    cdef set _withdrawn                 # by the last commit: (shard, sequence)
    cdef readonly bint confirms
    cdef bint _committing
    cdef bint _scheduled

    cdef int hold(self, ReplyBuffer buffer) except -1
    cdef int hurry(self, int64_t due_ms) noexcept
    cpdef flush(self)
    cpdef seal(self)
    cpdef committed(self, uint64_t number)
    cdef int64_t _now_ms(self) except -1
    cdef set _withdraw_late(
        self, list changed, list records, list deliveries, int64_t now_ms)
    cdef int _deliver(self, list deliveries, list waiters) except -1
