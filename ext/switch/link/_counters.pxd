# cython: language_level=3
from libc.stdint cimport int64_t

cdef enum:
    REPLY_BUCKETS = 22


# What the connections of one link count together: plain integers, read at scrape.
cdef class LinkCounters:
    cdef public int64_t opened                  # connections, accepted or dialled
    cdef public int64_t dials_failed
    cdef public int64_t refused
    cdef public int64_t frames_received
    cdef public int64_t forwarded               # requests, to other nodes
    cdef public int64_t heartbeats_received
    cdef public int64_t bytes_received
    cdef public int64_t bytes_sent
    cdef public int64_t malformed_answered      # 30, with what could be read
    cdef public int64_t malformed_dropped       # no request that could be answered
    cdef public int64_t malformed_framing       # the connection was closed for it
    cdef public int64_t faults
    cdef public int64_t network_unanswered      # requests of ours, by their time-out
    cdef public int64_t responses_unexpected
    cdef public int64_t replies_sent
    cdef public int64_t replies_dropped         # decided and durable, the peer is gone
    cdef public int64_t replies_late            # approvals withdrawn by their deadline
    cdef public int64_t outstanding
    cdef public int64_t paused_by_peer
    cdef public int64_t paused_by_outstanding
    cdef public int64_t paused_by_turn
    cdef public int64_t paused_by_pieces
    cdef readonly dict closed                   # connections, by kind
    cdef readonly dict network_answers          # 0810s, by response code
    cdef int64_t reply_counts[REPLY_BUCKETS]
    cdef int64_t reply_ns_sum

    cdef int observe_replies(self, int64_t waited_ns, int64_t replies) noexcept


cdef struct Waiting:
    int64_t since_ns
    int64_t replies


# When the replies that wait were asked for: one mark per read event, oldest first.
cdef class WaitingMarks:
    cdef Waiting* marks
    cdef int first
    cdef int count
    cdef int capacity

    cdef int push(self, int64_t since_ns, int64_t replies) except -1
    cdef int pop(
        self, int64_t replies, int64_t now_ns, LinkCounters counters) noexcept
    cdef int _grow(self) except -1
