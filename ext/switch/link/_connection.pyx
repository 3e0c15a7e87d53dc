# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One connection: bytes in, replies out; everything per read event or per commit.

Rule 1: nothing per message goes through asyncio: no task, no write, no timer. Frames
        are cut in place, messages decoded and dispatched, and replies gathered; one
        write per commit sends them.
Rule 2: a fault in one message ends with that message: it is answered 96 where it can
        be, and the next one is handled.
Rule 3: everything a peer can make us keep is bounded: one partial frame, replies that
        wait (then we stop reading), bytes that it does not take (the same).
Rule 4: no content of a message goes into a log or a reason.

Ends. Whoever wants the connection to end calls `finish`: nothing more is read, what is
due is answered when its commit is durable, then the transport is closed; after the
drain time-out it is cut. What a lost peer does not get any more is in the journal, and
the same request again gets the same answer.

A connection is a BufferedProtocol in all but its base class: uvloop and asyncio tell
the two kinds of protocol apart by what they inherit.
"""

import logging
import socket

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from iso8583._codec cimport Message
from switch.flow._dispatch cimport (
    ANSWERED, MALFORMED, NETWORK, NOT_SERVED, RESPONSE, UNDECIDED, Dispatcher,
)
from switch.link._counters cimport LinkCounters, WaitingMarks
from switch.link._framing cimport Cut, Framing
from switch.shard._group cimport ReplyBuffer

from iso8583.errors import DecodeError

from switch.link.errors import FramingError
from switch.observe.log import event

cdef enum:
    # One read of a socket; libuv suggests the same. It bounds by how much one read
    # event can pass `outstanding_max`.
    RECEIVE_SIZE = 65536
    # A partial frame's memory above this is given back when the frame is whole.
    PARTIAL_KEPT = 1024
    NETWORK_CLASS = 8
    # The kernel asks a silent peer's kernel after so long, so often, so many times.
    KEEP_ALIVE_IDLE_S = 60
    KEEP_ALIVE_S = 10
    KEEP_ALIVE_COUNT = 6
    # An id and two addresses, as X.25 networks and terminals put them before a message.
    TPDU_SIZE = 5

cdef enum Pause:
    BY_PEER = 1             # it does not take what we write
    BY_OUTSTANDING = 2      # too many requests wait for their commit
    BY_END = 4

# Field 39 of an approval that came too late; `decide_withdrawal` stores the same.
WITHDRAWN_CODE = "91"

_log = logging.getLogger("switch.link")

# Why a connection ended: the label of a metric, so a closed set.
CLOSE_KINDS = (
    "peer",         # it closed, or the network did
    "framing",      # what it sent are no frames
    "undecodable",  # too many frames in a row that are no messages
    "session",      # it did not answer our line tests
    "drain",        # we are stopping
    "timeout",      # the answers that were due did not become durable in time
    "fault",        # our own
)


cdef inline int64_t _monotonic_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


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
    ):
        """`name` is the link's. `clock()`: milliseconds since 1970.
        `opened(connection)` says whether it may stay, `closed(connection)` that it is
        gone."""
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
        self.receive = bytearray(
            RECEIVE_SIZE + framing.header_size + framing.size_max
        )
        self.receive_view = memoryview(self.receive)
        self.receive_at = <uint8_t*> PyByteArray_AS_STRING(self.receive)


cdef class Connection(ReplyBuffer):
    def __init__(self, Endpoint endpoint not None):
        self.endpoint = endpoint
        self.header_size = endpoint.framing.header_size + endpoint.tpdu_size
        self.deadline_ms = endpoint.deadline_ms
        self.tpdu[:] = [0x60, 0, 0, 0, 0]
        self.marks = WaitingMarks()
        self.immediate = []
        self.peer = "?"

    def __dealloc__(self):
        free(self.partial)

    @property
    def link(self):
        return self.endpoint.name

    def _event(self, int level, str text not None, *, error=None, **fields):
        event(
            _log, level, text, error=error, link=self.endpoint.name, peer=self.peer,
            **fields,
        )

    # --- the transport's events ------------------------------------------------------

    def connection_made(self, transport):
        endpoint = self.endpoint
        self.transport = transport
        self.peer = _peer_name(transport)
        self.opened_at = endpoint.loop.time()
        if not endpoint.opened(self):
            self.ending = True
            transport.abort()
            return
        _keep_alive(transport)
        self.management = endpoint.open_management(self)
        self.management.opened()
        self._arm()

    def get_buffer(self, Py_ssize_t size_hint):
        cdef Endpoint endpoint = self.endpoint
        if self.partial_size == 0:
            return endpoint.receive_view
        memcpy(endpoint.receive_at, self.partial, self.partial_size)
        return endpoint.receive_view[self.partial_size:]

    def buffer_updated(self, Py_ssize_t count):
        cdef Py_ssize_t size = self.partial_size + count
        cdef int64_t since_ns = _monotonic_ns()
        self.partial_size = 0
        self.heard_at = self.endpoint.loop.time()
        self.read_ms = <int64_t> (self.heard_at * 1000 + 0.5)
        self.endpoint.counters.bytes_received += count
        if self.ending:
            return
        self.reading = True
        try:
            self._cut_frames(size)
        except FramingError as error:
            self.endpoint.counters.malformed_framing += 1
            self.finish("framing", str(error))
        except Exception as error:
            self._event(logging.ERROR, "link fault", error=error)
            self.endpoint.counters.faults += 1
            self.finish("fault", "an unexpected error; the log has it")
        finally:
            self.reading = False
        self._end_read(since_ns)

    def data_received(self, bytes data):
        """For transports that only know the plain kind of protocol."""
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t taken
        while position < len(data) and self.transport is not None:
            view = self.get_buffer(-1)
            taken = min(<Py_ssize_t> len(view), len(data) - position)
            view[:taken] = data[position:position + taken]
            self.buffer_updated(taken)
            position += taken

    def eof_received(self):
        self.finish("peer", "closed by the peer")
        return True     # what is due is still answered; `finish` closes

    def pause_writing(self):
        self.endpoint.counters.paused_by_peer += 1
        self._pause(BY_PEER)

    def resume_writing(self):
        self._resume(BY_PEER)

    def connection_lost(self, error):
        cdef Endpoint endpoint = self.endpoint
        if self.management is None:
            self.transport = None
            return      # refused when it was made
        for timer in (self.timer, self.end_timer):
            if timer is not None:
                timer.cancel()
        self.management.lost()
        if self.end_kind is None:
            self.end_kind = "peer"
            self.end_reason = "closed" if error is None else _reason(error)
        self.ending = True
        self.signed_on = False
        self.transport = None
        self.management = self.timer = self.end_timer = None
        free(self.partial)
        self.partial = NULL
        self.partial_size = self.partial_capacity = 0
        endpoint.counters.count_closed(self.end_kind)
        self._event(
            logging.INFO, "connection closed",
            kind=self.end_kind, reason=self.end_reason, frames=self.frames_received,
            replies=self.replies_sent, undelivered=self.outstanding,
            seconds=round(endpoint.loop.time() - self.opened_at, 3),
        )
        endpoint.closed(self)

    # --- frames ----------------------------------------------------------------------

    cdef int _cut_frames(self, Py_ssize_t size) except -1:
        cdef Endpoint endpoint = self.endpoint
        cdef const uint8_t* at = endpoint.receive_at
        cdef const uint8_t* end = at + size
        cdef int64_t now = endpoint.clock()
        cdef Cut cut
        while endpoint.framing.cut(at, end - at, self.stream_offset, &cut):
            if cut.body_size:
                self._receive(at + cut.body_offset, cut.body_size, now)
                if self.ending:
                    return 0
            else:
                endpoint.counters.heartbeats_received += 1
            at += cut.frame_size
            self.stream_offset += cut.frame_size
        self._keep_partial(at, end - at)
        return 0

    cdef int _keep_partial(self, const uint8_t* at, Py_ssize_t size) except -1:
        cdef void* moved
        if size > self.partial_capacity:
            moved = realloc(self.partial, size)
            if moved == NULL:
                raise MemoryError(f"no memory for {size} bytes of a frame")
            self.partial = <uint8_t*> moved
            self.partial_capacity = size
        elif size == 0 and self.partial_capacity > PARTIAL_KEPT:
            free(self.partial)
            self.partial = NULL
            self.partial_capacity = 0
        if size:
            memcpy(self.partial, at, size)
        self.partial_size = size
        return 0

    cdef int _receive(
        self, const uint8_t* body, Py_ssize_t size, int64_t now
    ) except -1:
        cdef Endpoint endpoint = self.endpoint
        cdef Message message
        self.frames_received += 1
        endpoint.counters.frames_received += 1
        if endpoint.tpdu_size:
            if size < TPDU_SIZE:
                return self._drop("frame dropped: shorter than a TPDU", f"{size} bytes")
            self._swap_addresses(body)
            body += TPDU_SIZE
            size -= TPDU_SIZE
        try:
            message = endpoint.codec.decode_buffer(body, size)
        except DecodeError as error:
            self._undecodable(error)
            return 0
        try:
            self._dispatch(message, now)
        except Exception as error:
            self._fault(message, error)
        return 0

    cdef int _swap_addresses(self, const uint8_t* request) noexcept:
        # Destination and source change places in what we send from now on.
        self.tpdu[0] = request[0]
        memcpy(self.tpdu + 1, request + 3, 2)
        memcpy(self.tpdu + 3, request + 1, 2)
        return 0

    cdef int _dispatch(self, Message message, int64_t now) except -1:
        cdef Endpoint endpoint = self.endpoint
        cdef int outcome
        self.undecodable = 0
        if (
            endpoint.sign_on_required and not self.signed_on
            and (message.mti_number >> 8) & 0xF != NETWORK_CLASS
        ):
            outcome = endpoint.dispatcher.refuse(message, self, b"91")
            if outcome == ANSWERED:
                self._refused(message, "the peer has not signed on")
        else:
            outcome = endpoint.dispatcher.handle(message, self, now)
            self.handled = True
        if outcome == NETWORK:
            self.management.receive_request(message)
        elif outcome == RESPONSE:
            self.management.receive_answer(message)
        elif outcome == NOT_SERVED:
            self._refused(message, "message type is not served")
        elif outcome == MALFORMED:
            self._refused(message, "a field is missing or not of its kind")
        elif outcome == UNDECIDED:
            self._refused(message, "no room for a decision")
        elif outcome != ANSWERED:
            self._drop("frame dropped: no message that can be answered", message.mti)
        return 0

    cdef int _refused(self, Message message, str reason) except -1:
        self._event(logging.WARNING, "request refused", mti=message.mti, reason=reason)
        return 0

    cdef int _fault(self, Message message, object error) except -1:
        # Something may have been decided before it failed: see that it is committed.
        self.handled = True
        self.endpoint.counters.faults += 1
        self._event(logging.ERROR, "request failed", error=error, mti=message.mti)
        try:
            self.endpoint.dispatcher.refuse(message, self, b"96")
        except Exception as second:
            self._event(logging.ERROR, "request could not be refused", error=second)
        return 0

    cdef int _undecodable(self, object error) except -1:
        cdef Message partial = error.message
        if partial is not None:
            try:
                if self.endpoint.dispatcher.refuse(partial, self, b"30") == ANSWERED:
                    self.undecodable = 0
                    self.endpoint.counters.malformed_answered += 1
                    self._event(
                        logging.WARNING, "malformed request answered 30",
                        mti=partial.mti, fault=str(error),
                    )
                    return 0
            except Exception as second:
                self._fault(partial, second)
                return 0
        self._drop("frame dropped: no message of this spec", str(error))
        return 0

    cdef int _drop(self, str why, str detail) except -1:
        cdef Endpoint endpoint = self.endpoint
        self.undecodable += 1
        endpoint.counters.malformed_dropped += 1
        self._event(logging.WARNING, why, fault=detail)
        if self.undecodable >= endpoint.undecodable_max:
            self.finish(
                "undecodable", f"{self.undecodable} frames in a row were no messages"
            )
        return 0

    cdef int _end_read(self, int64_t since_ns) except -1:
        cdef Endpoint endpoint = self.endpoint
        if self.answered:
            self.marks.push(since_ns, self.answered)
            self.answered = 0
            endpoint.group.hold(self)
            self.handled = True
        if self.handled:
            self.handled = False
            endpoint.group.flush()
        if self.immediate:
            self._write_immediate()
        if self.ending:
            self._close_if_done()
        elif self.outstanding >= endpoint.outstanding_max:
            endpoint.counters.paused_by_outstanding += 1
            self._pause(BY_OUTSTANDING)
        return 0

    # --- replies ---------------------------------------------------------------------

    cdef int write_header(self, uint8_t* at, Py_ssize_t body_size) except -1:
        cdef Endpoint endpoint = self.endpoint
        endpoint.framing.write_header(at, endpoint.tpdu_size + body_size)
        if endpoint.tpdu_size:
            memcpy(at + endpoint.framing.header_size, self.tpdu, TPDU_SIZE)
        self.answered += 1
        self.outstanding += 1
        endpoint.counters.outstanding += 1
        return 0

    cdef int decline(self, bytes frame) except -1:
        # Its request waits on, among the outstanding and in the marks, for this reply.
        cdef Endpoint endpoint = self.endpoint
        cdef bytes body
        cdef uint8_t* at
        if endpoint.tpdu_size:
            at = <uint8_t*> PyBytes_AS_STRING(frame) + endpoint.framing.header_size
            memcpy(self.tpdu, at, TPDU_SIZE)
        message = endpoint.codec.decode(frame[self.header_size:])
        del message[38]
        message[39] = WITHDRAWN_CODE
        body = message.encode()
        at = self.open(PyBytes_GET_SIZE(body))
        memcpy(at, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        self.close(PyBytes_GET_SIZE(body))
        self.answered -= 1
        self.outstanding -= 1
        endpoint.counters.outstanding -= 1
        endpoint.counters.replies_late += 1
        endpoint.group.hold(self)
        return 0

    cpdef deliver(self, bytes frames, int replies):
        """The commit that justifies these replies is durable."""
        cdef Endpoint endpoint = self.endpoint
        cdef LinkCounters counters = endpoint.counters
        self.outstanding -= replies
        counters.outstanding -= replies
        if self.transport is None:
            counters.replies_dropped += replies
            return
        try:
            if frames:
                self.transport.write(frames)
        except Exception as error:
            # Other connections' replies are released by the same call.
            counters.replies_dropped += replies
            counters.faults += 1
            self._event(logging.ERROR, "write failed", error=error)
            self.transport.abort()
            return
        self.marks.pop(replies, _monotonic_ns(), counters)
        self.replies_sent += replies
        counters.replies_sent += replies
        counters.bytes_sent += PyBytes_GET_SIZE(frames)
        if self.ending:
            self._close_if_done()
        elif (
            self.paused & BY_OUTSTANDING
            and self.outstanding <= endpoint.outstanding_max // 2
        ):
            self._resume(BY_OUTSTANDING)

    def send_body(self, bytes body not None):
        """A message that waits for no commit: at the end of the read event, or now."""
        cdef Py_ssize_t size = self.endpoint.tpdu_size
        cdef bytes tpdu = PyBytes_FromStringAndSize(<char*> self.tpdu, size)
        self.immediate.append(self.endpoint.framing.encode(tpdu + body))
        if not self.reading:
            self._write_immediate()

    def _write_immediate(self):
        cdef bytes frames = b"".join(self.immediate)
        self.immediate.clear()
        if self.transport is not None:
            self.transport.write(frames)
            self.endpoint.counters.bytes_sent += PyBytes_GET_SIZE(frames)

    # --- time, pauses and the end ----------------------------------------------------

    def _arm(self):
        cdef double delay = self.management.session.due_at() - self.endpoint.loop.time()
        # Never at once: what is due is done by then, and a clock may round.
        self.timer = self.endpoint.loop.call_later(max(delay, 0.01), self._on_timer)

    def _on_timer(self):
        session = self.management.session
        if self.paused & BY_OUTSTANDING:
            self.heard_at = self.endpoint.loop.time()   # it is we who do not listen
        if self.heard_at:
            session.heard(self.heard_at)
        self.management.tick()
        if self.management is not None:
            self._arm()

    def finish(self, str kind not None, str reason not None):
        """Answers what is due, then closes. The first reason counts."""
        if self.ending:
            return
        assert kind in CLOSE_KINDS
        self.ending = True
        self.end_kind = kind
        self.end_reason = reason
        if self.transport is None:
            return
        self._pause(BY_END)
        if kind == "drain":
            self.management.sign_off()
        self.end_timer = self.endpoint.loop.call_later(
            self.endpoint.drain_timeout_s, self.cut_off
        )
        if not self.reading:
            self._close_if_done()

    def cut_off(self):
        """The answers that are due take too long."""
        if self.transport is not None:
            self.end_reason = f"{self.end_reason}; {self.outstanding} answers were due"
            if self.end_kind != "fault":
                self.end_kind = "timeout"
            self.transport.abort()

    cdef int _close_if_done(self) except -1:
        if self.outstanding == 0 and self.transport is not None:
            self.transport.close()      # writes what it still has first
        return 0

    cdef int _pause(self, int who) except -1:
        if self.paused == 0 and not self.transport.is_closing():
            self.transport.pause_reading()
        self.paused |= who
        return 0

    cdef int _resume(self, int who) except -1:
        if not self.paused & who:
            return 0
        self.paused &= ~who
        if self.paused == 0 and not self.transport.is_closing():
            self.transport.resume_reading()
        return 0


def _keep_alive(transport):
    """A peer that is gone without a word is found out, also on a line never used."""
    peer_socket = transport.get_extra_info("socket")
    if peer_socket is None or peer_socket.family == socket.AF_UNIX:
        return
    peer_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
    peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_S)
    peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_COUNT)


def _peer_name(transport):
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
        return f"{host}:{name[1]}"
    return str(name) if name else "?"


def _reason(error):
    return (getattr(error, "strerror", None) or type(error).__name__).lower()
