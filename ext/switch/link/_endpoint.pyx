# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What all connections of one link share: settings, a buffer, and their turns.

A link works for TURN_NS at a time, then the loop sees to everybody else: other links,
the commits, the operators. What has been read by then and not handled waits in line for
the next turn. So a peer that sends more than can be handled delays itself.
"""

from collections import deque

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int64_t, uint8_t

from switch.flow._dispatch cimport Dispatcher
from switch.link._counters cimport LinkCounters
from switch.link._framing cimport Framing
from switch.shard._group cimport ReplyBuffer

cdef enum:
    # One read of a socket: some hundred messages. It bounds by how much one read event
    # can pass `outstanding_max`, and what a connection keeps that waits for its turn.
    RECEIVE_SIZE = 16384
    # Between two polls of all sockets; some hundred messages. Shorter turns cost a busy
    # link an eighth of its messages, in reads that are stopped and begun again.
    TURN_NS = 1000000
    # So much shorter when another link has messages, too: a request waits for three
    # turns of others, to be read, to be committed, to be answered.
    TURN_SHARE = 4
    SHARED_NS = 1000000000
    # A turn is shared by so many of those that wait for it, or more.
    TURN_PARTS = 4
    # Frames that are no requests, in so long; they are seldom, and not made to be fast.
    # Above it the link rests: they take no more than a sixth of our time.
    NOISE_MAX = 4
    NOISE_NS = 1000000

# The shortest time that the loop's timers know; they add up to as much again.
NOISE_PAUSE_S = 0.001

# The link that worked last, and until when it counts as not the only one.
cdef size_t _worked_last = 0
cdef int64_t _shared_until_ns = 0


cdef class Waiter(ReplyBuffer):
    """A connection, as far as it takes turns."""

    cdef int take_turn(self, int64_t now_ns, int64_t until_ns) except -1:
        """Goes on with what it has read."""
        return 0


cdef class Endpoint:
    """What all connections of one link share, and what they tell their server.

    The receive buffer is one for all: a loop fills and empties it for one connection
    at a time, so that an idle connection costs no buffer.
    """

    def __init__(
        self,
        str name not None,
        Framing framing not None,
        Dispatcher dispatcher not None,
        LinkCounters counters not None,
        *,
        settings,
        loop,
        clock,
        open_management,
        opened,
        closed,
        look,
        turn_ns=TURN_NS,
        forward=None,
    ):
        """`name` is the link's. `clock()`: milliseconds since 1970.
        `opened(connection)` says whether it may stay, `closed(connection)` that it is
        gone; `look(data)` what bytes look like that are not what we expect. With a
        `turn_ns` of 0 a turn is one frame. `forward(request)` takes what is for other
        nodes, see `_forwarding.pyx`; it answers none before it returns."""
        self.name = name
        self.framing = framing
        self.dispatcher = dispatcher
        self.codec = dispatcher.codec
        self.group = dispatcher.group
        self.counters = counters
        self.tpdu_size = TPDU_SIZE if settings.tpdu else 0
        self.deadline_ms = settings.answer_deadline_ms
        self.outstanding_max = settings.outstanding_max
        self.undecodable_max = settings.undecodable_max
        self.drain_timeout_s = settings.drain_timeout_ms / 1000
        self.sign_on_required = settings.session.sign_on_required
        self.loop = loop
        self.clock = clock
        self.open_management = open_management
        self.opened = opened
        self.closed = closed
        self.look = look
        self.frame_timeout_s = settings.frame_timeout_ms / 1000
        self.turn_ns = turn_ns
        self.forward = forward
        self.waiting = deque()
        self.receive = bytearray(
            RECEIVE_SIZE + framing.header_size + framing.size_max
        )
        self.receive_view = memoryview(self.receive)
        self.receive_at = <uint8_t*> PyByteArray_AS_STRING(self.receive)

    cdef int64_t left_ns(self, int64_t now_ns) noexcept:
        """Of the turn; a link that works beside others has shorter ones."""
        cdef int64_t turn_ns = self.turn_ns
        if now_ns < _shared_until_ns:
            turn_ns //= TURN_SHARE
        if self.rests or self.spent_ns >= turn_ns:
            return 0
        return turn_ns - self.spent_ns

    cdef int spend(self, int64_t since_ns) except -1:
        global _worked_last, _shared_until_ns
        if _worked_last != <size_t> <void*> self:
            if _worked_last:
                _shared_until_ns = since_ns + SHARED_NS
            _worked_last = <size_t> <void*> self
        self.spent_ns += monotonic_ns() - since_ns
        self.end_turn()
        return 0

    cdef int end_turn(self) except -1:
        """When the loop has seen to everybody else."""
        if not self.turn_ends:
            self.turn_ends = True
            self.loop.call_soon(self._next_turn)
        return 0

    def _next_turn(self):
        """Everything else had its chance: those that wait go on."""
        cdef int64_t now_ns = monotonic_ns()
        self.turn_ends = False
        self.rests = False
        if self.noise > NOISE_MAX:
            # What comes meanwhile waits as well.
            self.noise = 0
            self.rests = True
            self.turn_ends = True
            self.loop.call_later(NOISE_PAUSE_S, self._next_turn)
            return
        if now_ns - self.noise_since_ns > NOISE_NS:
            self.noise = 0
            self.noise_since_ns = now_ns
        self.spent_ns = 0
        if self.waiting:
            self._serve_waiting()

    def _serve_waiting(self):
        cdef Waiter waiter
        cdef int64_t now_ns = monotonic_ns()
        cdef int64_t part_ns = self.left_ns(now_ns) // TURN_PARTS
        try:
            for _ in range(len(self.waiting)):
                waiter = self.waiting.popleft()
                now_ns = monotonic_ns()
                waiter.take_turn(now_ns, now_ns + part_ns)
                if self.left_ns(now_ns) == 0:
                    break
        finally:
            if self.waiting:
                self.end_turn()
