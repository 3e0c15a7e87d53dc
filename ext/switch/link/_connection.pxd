# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t

from iso8583._codec cimport Message
from switch.link._forwarding cimport Forwarding


cdef class Connection(Forwarding):
    cdef public str peer
    cdef public bint signed_on
    cdef readonly int64_t frames_received
    cdef readonly bint ending
    cdef readonly str end_kind
    cdef readonly str end_reason
    cdef readonly str hint              # what it seems to speak instead
    cdef readonly int descriptor        # of its socket; -1: it has none
    cdef object management
    cdef object timer
    cdef object end_timer
    cdef uint8_t* partial               # a frame that is not whole yet, or has no turn
    cdef Py_ssize_t partial_size
    cdef Py_ssize_t partial_capacity
    cdef int64_t stream_offset
    cdef int64_t frame_offset           # of the frame that is timed
    cdef double frame_since
    cdef object frame_timer
    # what is being handled, and where it stands in the stream
    cdef const uint8_t* event_at
    cdef Py_ssize_t event_size
    cdef int64_t event_offset
    cdef double heard_at
    cdef double opened_at
    cdef int undecodable                # in a row
    cdef int paused                     # who wants no reading, as bits
    cdef int pieces                     # reads of the frame that is not whole yet
    cdef bint is_dripping               # the frame before came in too many
    cdef object pieces_timer
    cdef bint reading                   # inside a read event
    cdef bint handled                   # something was decided in it
    cdef bint in_line                   # among those that wait for their turn

    cdef int _count_pieces(self, Py_ssize_t count) except -1
    cdef int _catch_up(self) except -1
    cdef int _go_on(self, int64_t now_ns, int64_t until_ns) except -1
    cdef int _handle(
        self, const uint8_t* at, Py_ssize_t size, int64_t since_ns, int64_t until_ns
    ) except -1
    cdef int decline(self, bytes frame) except -1
    cdef int _cut_frames(
        self, const uint8_t* at, Py_ssize_t size, int64_t until_ns
    ) except -1
    cdef int _time_frame(self) except -1
    cdef int _look(self) except -1
    cdef int _keep(self, const uint8_t* at, Py_ssize_t size) except -1
    cdef int _wait_for_turn(self) except -1
    cdef int _join_line(self) except -1
    cdef int _receive(
        self, const uint8_t* body, Py_ssize_t size, int64_t now) except -1
    cdef int _swap_addresses(self, const uint8_t* request) noexcept
    cdef int _dispatch(self, Message message, int64_t now) except -1
    cdef int _refused(self, Message message, str reason) except -1
    cdef int _fault(self, Message message, object error) except -1
    cdef int _undecodable(self, object error) except -1
    cdef int _drop(self, str why, str detail) except -1
    cdef int _end_read(self) except -1
    cdef int _pause(self, int who) except -1
    cdef int _resume(self, int who) except -1
    cdef int _close_if_done(self) except -1
