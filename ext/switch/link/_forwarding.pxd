# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t

from iso8583._codec cimport Message
from switch.link._counters cimport WaitingMarks
from switch.link._endpoint cimport Endpoint, Waiter


cdef class Forwarded


cdef class Forwarding(Waiter):
    cdef readonly int outstanding       # requests that wait for their answer
    cdef readonly int64_t replies_sent
    cdef Endpoint endpoint
    cdef object transport
    cdef list immediate                 # frames that go past the journal
    cdef WaitingMarks marks
    cdef int64_t read_ns
    cdef int answered                   # replies made in this read event
    cdef uint8_t tpdu[5]                # of what we send next
    cdef bint writes_soon               # the loop has been told to write `immediate`

    cdef int pass_on(self, Message message) except -1
    cdef int _decide(self, Forwarded request, Message message, int shard) except -1
    cdef int _send(self, Forwarded request, bytes body) except -1
    cdef int after_delivery(self) except -1


cdef class Forwarded:
    cdef readonly bytes body            # the message, as it came
    cdef readonly bytes pan_hash
    cdef readonly bint asks             # 0100 or 0200: it can be told no
    cdef readonly int64_t due_ms        # when it has to be answered, monotonic
    cdef readonly bint is_done
    cdef Forwarding connection
    cdef uint32_t mti_number
    cdef bytes tpdu
    cdef int64_t read_ns
    cdef int64_t read_ms

    cdef bint _end(self) except -1
