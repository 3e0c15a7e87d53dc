# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Requests of a connection that are not decided here, or not at once.

What is for a shard of another node goes to the link's `forward(request)`. That says
whether it has room for it, and if so sees to it that one of `answer`, `decide`,
`refuse` and `abandon` is called, once, later. Until then the request counts among the
connection's outstanding ones.

Rule 1: a reply that another node made is durable there; it waits for no commit here.
Rule 2: a request whose peer is gone is nobody's any more: what it becomes is told to
        whoever asks again.
"""
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.string cimport memcpy

from switch.flow._dispatch cimport ANSWERED, UNDECIDED
from switch.link._endpoint cimport TPDU_SIZE, monotonic_ns


cdef class Forwarding(Waiter):
    """A connection, as far as its requests are answered elsewhere."""

    cdef int pass_on(self, Message message) except -1:
        cdef Endpoint endpoint = self.endpoint
        cdef Forwarded request
        request = Forwarded.__new__(Forwarded)
        request.connection = self
        request.body = message.frame
        request.pan_hash = endpoint.dispatcher.pan_hash()
        request.asks = endpoint.dispatcher.asks()
        request.mti_number = message.mti_number
        request.tpdu = PyBytes_FromStringAndSize(<char*> self.tpdu, endpoint.tpdu_size)
        request.read_ns = self.read_ns
        request.read_ms = self.read_ms
        request.due_ms = self.read_ms + self.deadline_ms
        if endpoint.forward is None or not endpoint.forward(request):
            endpoint.dispatcher.refuse(message, self, b"91")
            return UNDECIDED
        self.outstanding += 1
        endpoint.counters.outstanding += 1
        endpoint.counters.forwarded += 1
        return ANSWERED

    cdef int _decide(self, Forwarded request, Message message, int shard) except -1:
        """As if it had just been read, but for its time."""
        cdef Endpoint endpoint = self.endpoint
        cdef int answered = self.answered
        cdef int64_t read_ms = self.read_ms
        cdef uint8_t tpdu[TPDU_SIZE]
        memcpy(tpdu, self.tpdu, TPDU_SIZE)
        memcpy(self.tpdu, PyBytes_AS_STRING(request.tpdu), len(request.tpdu))
        self.read_ms = request.read_ms
        endpoint.group.hurry(request.due_ms)
        try:
            endpoint.dispatcher.handle_at(
                message, self, endpoint.clock(), shard, False
            )
        except Exception:
            endpoint.counters.faults += 1
            endpoint.dispatcher.refuse(message, self, b"96")
            raise
        finally:
            memcpy(self.tpdu, tpdu, TPDU_SIZE)
            self.read_ms = read_ms
            if self.answered > answered:
                self.marks.push(request.read_ns, self.answered - answered)
            self.answered = answered
            # What was decided is committed, whatever failed then.
            endpoint.group.flush()
        return 0

    cdef int _send(self, Forwarded request, bytes body) except -1:
        """Once for all that the loop brings in one turn."""
        cdef Endpoint endpoint = self.endpoint
        self.immediate.append(endpoint.framing.encode(request.tpdu + body))
        self.replies_sent += 1
        endpoint.counters.replies_sent += 1
        endpoint.counters.observe_replies(monotonic_ns() - request.read_ns, 1)
        if not self.writes_soon:
            self.writes_soon = True
            endpoint.loop.call_soon(self._write_soon)
        return 0

    def _write_soon(self):
        self.writes_soon = False
        self._write_immediate()
        if self.transport is not None:
            self.after_delivery()

    def _write_immediate(self):
        cdef bytes frames = b"".join(self.immediate)
        self.immediate.clear()
        if self.transport is not None and frames:
            self.transport.write(frames)
            self.endpoint.counters.bytes_sent += PyBytes_GET_SIZE(frames)

    cdef int after_delivery(self) except -1:
        """There are fewer outstanding requests than before."""
        return 0


cdef class Forwarded:
    """A request of a connection here whose shard is elsewhere, or not known yet."""

    @property
    def link(self):
        return self.connection.endpoint.name

    @property
    def is_wanted(self):
        """Whether anybody waits for its answer."""
        return not self.is_done and self.connection.transport is not None

    def answer(self, bytes body not None):
        """With the reply of another node. Raises DecodeError or ValueError if it is
        none of this link, and has then done nothing."""
        cdef Forwarding connection = self.connection
        cdef Endpoint endpoint = connection.endpoint
        reply = endpoint.codec.decode(body)
        if not self.is_wanted:
            self._end()
            return
        endpoint.dispatcher.count_passed(self.mti_number, reply)
        self._end()
        connection._send(self, body)

    def refuse(self, str response_code not None):
        """With nothing decided."""
        if not self.is_done:
            self.answer(
                self.connection.endpoint.dispatcher.refusal(self.body, response_code)
            )

    def decide(self, int shard):
        """Here. False if the shard is not here, and nothing has happened."""
        cdef Forwarding connection = self.connection
        cdef Endpoint endpoint = connection.endpoint
        if not 0 <= shard < endpoint.group.shard_count:
            return False
        if endpoint.group.slots[shard] is None:
            return False
        if self.is_wanted:
            message = endpoint.codec.decode(self.body)
            self._end()
            connection._decide(self, message, shard)
        else:
            self._end()
        return True

    def abandon(self):
        """It gets no answer: what was to be told is not ours to tell any more."""
        if self._end() and self.connection.transport is not None:
            self.connection.endpoint.counters.replies_dropped += 1
            self.connection.after_delivery()

    cdef bint _end(self) except -1:
        if self.is_done:
            return False
        self.is_done = True
        self.connection.outstanding -= 1
        self.connection.endpoint.counters.outstanding -= 1
        if self.connection.transport is None:
            self.connection.endpoint.counters.replies_dropped += 1
        return True
