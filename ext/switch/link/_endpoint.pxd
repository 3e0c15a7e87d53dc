# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from iso8583._codec cimport Codec
from switch.flow._dispatch cimport Dispatcher
from switch.link._counters cimport LinkCounters
from switch.link._framing cimport Framing
from switch.shard._group cimport CommitGroup, ReplyBuffer

cdef enum:
    # An id and two addresses, as X.25 networks and terminals put them before a message.
    TPDU_SIZE = 5


cdef inline int64_t monotonic_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef class Waiter(ReplyBuffer):
    cdef int take_turn(self, int64_t now_ns, int64_t until_ns) except -1


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
    cdef double frame_timeout_s
    cdef object look
    cdef object forward                 # None: there are no other nodes
    cdef double looks_from
    cdef object opened
    cdef object closed
    cdef bytearray receive
    cdef object receive_view
    cdef uint8_t* receive_at
    cdef int64_t turn_ns
    cdef int64_t spent_ns               # of the turn under way
    cdef int noise                      # frames that were no requests
    cdef int64_t noise_since_ns         # since then
    cdef bint rests                     # for having had too many of them
    cdef bint turn_ends                 # the loop has been told to end it
    cdef object waiting                 # connections, for their turn

    cdef int64_t left_ns(self, int64_t now_ns) noexcept
    cdef int spend(self, int64_t since_ns) except -1
    cdef int end_turn(self) except -1
