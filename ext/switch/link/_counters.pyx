# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What links count, and how long replies waited.

The time from a request's last byte in to its reply's last byte out is measured per
read event and per commit, not per message: a read event leaves one mark with the
number of replies that it made, and a commit takes off as many as it delivers.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

cdef enum:
    MARKS_FIRST = 8
    # More read events than this in one commit share the oldest of the late marks:
    # their time is then shown too long, never too short.
    MARKS_MAX = 4096
    NS_PER_US = 1000
    BUCKET_FIRST_SHIFT = 4      # the first bucket ends at 16 us


cdef class LinkCounters:
    def __init__(self):
        self.closed = {}
        self.network_answers = {}

    def count_closed(self, str kind not None):
        self.closed[kind] = self.closed.get(kind, 0) + 1

    def count_network(self, str response_code not None):
        count = self.network_answers.get(response_code, 0)
        self.network_answers[response_code] = count + 1

    cdef int observe_replies(self, int64_t waited_ns, int64_t replies) noexcept:
        cdef int64_t above = (
            max(0, (waited_ns + NS_PER_US - 1) // NS_PER_US - 1) >> BUCKET_FIRST_SHIFT
        )
        cdef int bucket = 0
        while above and bucket < REPLY_BUCKETS - 1:
            above >>= 1
            bucket += 1
        self.reply_counts[bucket] += replies
        self.reply_ns_sum += waited_ns * replies
        return 0

    @property
    def reply_seconds_counts(self):
        """Replies by bucket: up to 16 us, 32 us, ..., 16.8 s, and above."""
        return tuple(self.reply_counts[bucket] for bucket in range(REPLY_BUCKETS))

    @property
    def reply_seconds_sum(self):
        return self.reply_ns_sum / 1e9


cdef class WaitingMarks:
    def __dealloc__(self):
        free(self.marks)

    cdef int push(self, int64_t since_ns, int64_t replies) except -1:
        cdef Waiting* mark
        if self.count == self.capacity and self.capacity < MARKS_MAX:
            self._grow()
        if self.count == self.capacity:
            mark = &self.marks[(self.first + self.count - 1) & (self.capacity - 1)]
            mark.replies += replies
            return 0
        mark = &self.marks[(self.first + self.count) & (self.capacity - 1)]
        mark.since_ns = since_ns
        mark.replies = replies
        self.count += 1
        return 0

    cdef int pop(
        self, int64_t replies, int64_t now_ns, LinkCounters counters
    ) noexcept:
        """With no `counters` they are not observed: they were not sent."""
        cdef Waiting* mark
        cdef int64_t taken
        while replies and self.count:
            mark = &self.marks[self.first]
            taken = min(replies, mark.replies)
            if counters is not None:
                counters.observe_replies(now_ns - mark.since_ns, taken)
            replies -= taken
            mark.replies -= taken
            if mark.replies == 0:
                self.first = (self.first + 1) & (self.capacity - 1)
                self.count -= 1
        return 0

    cdef int _grow(self) except -1:
        cdef int capacity = self.capacity * 2 if self.capacity else MARKS_FIRST
        cdef Waiting* moved = <Waiting*> realloc(
            self.marks, capacity * sizeof(Waiting)
        )
        cdef int index
        if moved == NULL:
            raise MemoryError(f"no memory for {capacity} marks")
        self.marks = moved
        # The ring was full: what wrapped around goes behind the old end.
        for index in range(self.first):
            moved[self.capacity + index] = moved[index]
        self.capacity = capacity
        return 0
