# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t

from iso8583._codec cimport Codec, Message
from switch.flow._dispatch cimport Dispatcher
from switch.link._counters cimport LinkCounters, WaitingMarks
from switch.link._framing cimport Framing
from switch.shard._group cimport CommitGroup, ReplyBuffer


# What all connections of one link share.
cdef class Endpoint:
    cdef readonly str name
    cdef readonly Framing framing
    cdef readonly Codec codec
    cdef readonly Dispatcher dispatcher
    cdef readonly CommitGroup group
    cdef readonly LinkCounters counters
    cdef readonly int tpdu_size         # 0: messages have none before them
    cdef readonly int deadline_ms
    cdef readonly int outstanding_max
    cdef readonly int undecodable_max
    cdef readonly bint sign_on_required
    cdef readonly double drain_timeout_s
    cdef object loop
    cdef object clock
    cdef object open_management
    cdef object opened
    cdef object closed
    cdef bytearray receive
    cdef object receive_view
    cdef uint8_t* receive_at


cdef class Connection(ReplyBuffer):
    cdef public str peer
    cdef public bint signed_on
    cdef readonly int outstanding       # requests that wait for their commit
    cdef readonly int64_t frames_received
    cdef readonly int64_t replies_sent
    cdef readonly bint ending
    cdef readonly str end_kind
    cdef readonly str end_reason
    cdef Endpoint endpoint
    cdef object transport
    cdef object management
    cdef object timer
    cdef object end_timer
    cdef list immediate                 # bodies that go past the journal
    cdef WaitingMarks marks
    cdef uint8_t* partial               # a frame that is not whole yet
    cdef Py_ssize_t partial_size
    cdef Py_ssize_t partial_capacity
    cdef int64_t stream_offset
    cdef double heard_at
    cdef double opened_at
    cdef int answered                   # replies made in this read event
    cdef uint8_t tpdu[5]                # of what we send next
    cdef int undecodable                # in a row
    cdef int paused                     # who wants no reading, as bits
    cdef bint reading                   # inside a read event
    cdef bint handled                   # something was decided in it

    cdef int decline(self, bytes frame) except -1
    cdef int _cut_frames(self, Py_ssize_t size) except -1
    cdef int _keep_partial(self, const uint8_t* at, Py_ssize_t size) except -1
    cdef int _receive(
        self, const uint8_t* body, Py_ssize_t size, int64_t now) except -1
    cdef int _swap_addresses(self, const uint8_t* request) noexcept
    cdef int _dispatch(self, Message message, int64_t now) except -1
    cdef int _refused(self, Message message, str reason) except -1
    cdef int _fault(self, Message message, object error) except -1
    cdef int _undecodable(self, object error) except -1
    cdef int _drop(self, str why, str detail) except -1
    cdef int _end_read(self, int64_t since_ns) except -1
    cdef int _pause(self, int who) except -1
    cdef int _resume(self, int who) except -1
    cdef int _close_if_done(self) except -1
