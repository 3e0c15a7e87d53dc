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
Rule 5: what is read when the turn of its link is over waits for the next one; see
        `_endpoint.pyx`. Meanwhile the connection is not read.

Ends. Whoever wants the connection to end calls `finish`: nothing more is read, what is
due is answered when its commit is durable, then the transport is closed; after the
drain time-out it is cut. What a lost peer does not get any more is in the journal, and
the same request again gets the same answer.

A connection is a BufferedProtocol in all but its base class: uvloop and asyncio tell
the two kinds of protocol apart by what they inherit.
"""

import logging

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.stdint cimport INT64_MAX, int64_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from iso8583._codec cimport Message
from switch.flow._dispatch cimport (
    ANSWERED, ELSEWHERE, MALFORMED, NETWORK, NOT_SERVED, RESPONSE, UNDECIDED,
)
from switch.link._counters cimport LinkCounters, WaitingMarks
from switch.link._endpoint cimport TPDU_SIZE, Endpoint, monotonic_ns
from switch.link._forwarding cimport Forwarding
from switch.link._framing cimport Cut, refuse_tls

from iso8583.errors import DecodeError

from switch.link.errors import FramingError
from switch.link.sockets import keep_alive, peer_name
from switch.observe.log import event

cdef enum:
    # A few messages tell what they are in.
    LOOK_SIZE_MAX = 2048
    # A partial frame's memory above this is given back when the frame is whole.
    PARTIAL_KEPT = 1024
    NETWORK_CLASS = 8
    # Whoever waits for the interpreter gets it between two frames.
    YIELD_NS = 50000

cdef enum Pause:
    BY_PEER = 1             # it does not take what we write
    BY_OUTSTANDING = 2      # too many requests wait for their commit
    BY_END = 4
    BY_TURN = 8             # what was read waits for its turn
    BY_PIECES = 16          # it sends a frame in many small pieces

# A frame may come in so many reads that bring next to nothing, which cost as much as
# others do; then we look for its rest after a while, twice as long each time. Who sends
# each of its frames so is not given that many again.
PIECES_MAX = 8
PIECE_BYTES = 64
PIECE_REST_S = 0.02
PIECE_REST_DOUBLINGS = 3

# A timer of ours that is so late was kept by us, and what it waited for may be here.
LATE_S = 1.0
# Between two looks at what a link's peers send that is not what it expects.
LOOK_INTERVAL_S = 1.0

_log = logging.getLogger("switch.link")

# Why a connection ended: the label of a metric, so a closed set.
CLOSE_KINDS = (
    "peer",         # it closed, or the network did
    "framing",      # what it sent are no frames
    "slow",         # a frame that it had begun was not whole in time
    "undecodable",  # too many frames in a row that are no messages
    "session",      # it did not answer our line tests
    "drain",        # we are stopping
    "timeout",      # the answers that were due did not become durable in time
    "fault",        # our own
)


cdef class Connection(Forwarding):
    def __init__(self, Endpoint endpoint not None):
        self.endpoint = endpoint
        self.header_size = endpoint.framing.header_size + endpoint.tpdu_size
        self.deadline_ms = endpoint.deadline_ms
        self.tpdu[:] = [0x60, 0, 0, 0, 0]
        self.marks = WaitingMarks()
        self.immediate = []
        self.peer = "?"
        self.hint = ""
        self.descriptor = -1
        self.frame_offset = -1

    def __dealloc__(self):
        free(self.partial)

    @property
    def link(self):
        return self.endpoint.name

    @property
    def is_held_up(self):
        """Whether its reading has stopped: the peer has to take answers first, say."""
        return self.paused & ~BY_PIECES != 0 and not self.ending

    def _event(self, int level, str text not None, *, error=None, **fields):
        event(
            _log, level, text, error=error, link=self.endpoint.name, peer=self.peer,
            **fields,
        )

    # --- the transport's events ------------------------------------------------------

    def connection_made(self, transport):
        endpoint = self.endpoint
        self.transport = transport
        self.peer = peer_name(transport)
        peer_socket = transport.get_extra_info("socket")
        if peer_socket is not None:
            self.descriptor = peer_socket.fileno()
        self.opened_at = endpoint.loop.time()
        if not endpoint.opened(self):
            self.ending = True
            transport.abort()
            return
        keep_alive(peer_socket)
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
        cdef Endpoint endpoint = self.endpoint
        cdef Py_ssize_t size = self.partial_size + count
        self.read_ns = monotonic_ns()
        self.heard_at = endpoint.loop.time()
        self.read_ms = <int64_t> (self.heard_at * 1000 + 0.5)
        endpoint.counters.bytes_received += count
        if self.ending:
            self.partial_size = 0
        elif endpoint.spent_ns and endpoint.left_ns(self.read_ns) == 0:
            self._keep(endpoint.receive_at, size)
            self._wait_for_turn()
        else:
            self._handle(
                endpoint.receive_at, size, self.read_ns,
                self.read_ns + endpoint.left_ns(self.read_ns),
            )
            self._count_pieces(count)

    cdef int _count_pieces(self, Py_ssize_t count) except -1:
        cdef int beyond
        if self.partial_size == 0:
            self.is_dripping = self.pieces > (1 if self.is_dripping else PIECES_MAX)
            self.pieces = 0
        elif count < PIECE_BYTES and self.paused == 0 and self.transport is not None:
            self.pieces += 1
            beyond = self.pieces - (1 if self.is_dripping else PIECES_MAX)
            if beyond > 0:
                self.endpoint.counters.paused_by_pieces += 1
                self._pause(BY_PIECES)
                self.pieces_timer = self.endpoint.loop.call_later(
                    PIECE_REST_S * (1 << min(beyond - 1, PIECE_REST_DOUBLINGS)),
                    self._on_pieces_timer,
                )
        return 0

    def _on_pieces_timer(self):
        self.pieces_timer = None
        if self.transport is not None:
            self._resume(BY_PIECES)

    cdef int take_turn(self, int64_t now_ns, int64_t until_ns) except -1:
        self.in_line = False
        if self.paused == BY_TURN and self.transport is not None:
            self._go_on(now_ns, until_ns)
        return 0

    cdef int _catch_up(self) except -1:
        """With all that was read, whoever waits meanwhile."""
        if self.paused & BY_TURN and not self.ending and self.transport is not None:
            self.in_line = False
            self._go_on(monotonic_ns(), INT64_MAX)
        return 0

    cdef int _go_on(self, int64_t now_ns, int64_t until_ns) except -1:
        self._handle(self.partial, self.partial_size, now_ns, until_ns)
        if not self.in_line:
            self._resume(BY_TURN)
        return 0

    cdef int _handle(
        self, const uint8_t* at, Py_ssize_t size, int64_t since_ns, int64_t until_ns
    ) except -1:
        self.reading = True
        self.event_at = at
        self.event_size = size
        self.event_offset = self.stream_offset
        try:
            self._cut_frames(at, size, until_ns)
        except FramingError as error:
            self.endpoint.counters.malformed_framing += 1
            self._look()
            self.finish("framing", str(error))
        except Exception as error:
            self._event(logging.ERROR, "link fault", error=error)
            self.endpoint.counters.faults += 1
            self.finish("fault", "an unexpected error; the log has it")
        finally:
            self.reading = False
        self._end_read()
        self.endpoint.spend(since_ns)
        return 0

    def data_received(self, bytes data):
        """For transports that only know the plain kind of protocol."""
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t taken
        while position < len(data) and self.transport is not None:
            view = self.get_buffer(-1)
            taken = min(<Py_ssize_t> len(view), len(data) - position)
            view[:taken] = data[position:position + taken]
            self.buffer_updated(taken)
            self._catch_up()    # such a transport cannot be made to wait at once
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
        for timer in (self.timer, self.frame_timer, self.end_timer, self.pieces_timer):
            if timer is not None:
                timer.cancel()
        self.management.lost()
        if self.end_kind is None:
            self.end_kind = "peer"
            self.end_reason = "closed" if error is None else _reason(error)
        self.ending = True
        self.signed_on = False
        self.transport = None
        self.management = self.timer = self.frame_timer = self.end_timer = None
        self.pieces_timer = None
        free(self.partial)
        self.partial = NULL
        self.partial_size = self.partial_capacity = 0
        endpoint.counters.count_closed(self.end_kind)
        self._event(
            logging.INFO, "connection closed",
            kind=self.end_kind, reason=self.end_reason, frames=self.frames_received,
            replies=self.replies_sent, undelivered=self.outstanding,
            seconds=round(endpoint.loop.time() - self.opened_at, 3), **self._told(),
        )
        endpoint.closed(self)

    # --- frames ----------------------------------------------------------------------

    cdef int _cut_frames(
        self, const uint8_t* at, Py_ssize_t size, int64_t until_ns
    ) except -1:
        cdef Endpoint endpoint = self.endpoint
        cdef const uint8_t* end = at + size
        cdef int64_t now = endpoint.clock()
        cdef int64_t now_ns
        cdef int64_t yield_ns = monotonic_ns() + YIELD_NS
        cdef Cut cut
        while endpoint.framing.cut(at, end - at, self.stream_offset, &cut):
            if cut.body_size:
                self._receive(at + cut.body_offset, cut.body_size, now)
                if self.ending:
                    self.partial_size = 0
                    return 0
            else:
                endpoint.counters.heartbeats_received += 1
            at += cut.frame_size
            self.stream_offset += cut.frame_size
            if at == end:
                break
            now_ns = monotonic_ns()
            if now_ns >= until_ns:
                self._keep(at, end - at)
                self._wait_for_turn()
                return 0
            if now_ns >= yield_ns:
                with nogil:     # the commit thread may be waiting for it
                    pass
                yield_ns = now_ns + YIELD_NS
        if self.stream_offset == 0:
            refuse_tls(endpoint.framing, at, end - at)
        self._keep(at, end - at)
        if at < end:
            self._time_frame()
        return 0

    cdef int _time_frame(self) except -1:
        """The frame that is not whole yet may take so long and no longer."""
        cdef Endpoint endpoint = self.endpoint
        if self.frame_offset == self.stream_offset:
            return 0
        self.frame_offset = self.stream_offset
        self.frame_since = self.heard_at
        if self.frame_timer is None:
            self.frame_timer = endpoint.loop.call_later(
                endpoint.frame_timeout_s, self._on_frame_timer
            )
        return 0

    def _on_frame_timer(self):
        cdef Endpoint endpoint = self.endpoint
        cdef double now = endpoint.loop.time()
        cdef double due = self.frame_since + endpoint.frame_timeout_s
        self.frame_timer = None
        if self.partial_size == 0 or self.ending:
            return
        if self.paused & ~BY_PIECES:
            due = now + endpoint.frame_timeout_s    # it is we who do not read
        elif now >= due + LATE_S:
            due = now + LATE_S
        if now < due:
            self.frame_since = due - endpoint.frame_timeout_s
            self.frame_timer = endpoint.loop.call_later(due - now, self._on_frame_timer)
            return
        self.event_at = self.partial
        self.event_size = self.partial_size
        self.event_offset = self.stream_offset
        self._look()
        self.finish(
            "slow",
            f"{self.partial_size} bytes of a frame that is not whole after "
            f"{endpoint.frame_timeout_s:g} s",
        )

    cdef int _look(self) except -1:
        """Once for a connection: what it sends that is not what we expect. From the
        beginning of the stream, if we have that, else from this frame on."""
        cdef Endpoint endpoint = self.endpoint
        cdef double now = endpoint.loop.time()
        cdef Py_ssize_t skipped = 0
        if self.hint or now < endpoint.looks_from:
            return 0
        endpoint.looks_from = now + LOOK_INTERVAL_S
        if self.event_offset:
            skipped = self.stream_offset - self.event_offset
        data = PyBytes_FromStringAndSize(
            <char*> self.event_at + skipped,
            min(self.event_size - skipped, <Py_ssize_t> LOOK_SIZE_MAX),
        )
        self.hint = endpoint.look(data)
        return 0

    def _told(self):
        return {"hint": self.hint} if self.hint else {}

    cdef int _keep(self, const uint8_t* at, Py_ssize_t size) except -1:
        """What is not handled yet. It may lie where it is to be kept."""
        cdef void* moved
        if size > self.partial_capacity:
            moved = realloc(self.partial, size)
            if moved == NULL:
                raise MemoryError(f"no memory for {size} bytes of frames")
            self.partial = <uint8_t*> moved
            self.partial_capacity = size
        if size:
            memmove(self.partial, at, size)
        elif self.partial_capacity > PARTIAL_KEPT:
            free(self.partial)
            self.partial = NULL
            self.partial_capacity = 0
        self.partial_size = size
        return 0

    cdef int _wait_for_turn(self) except -1:
        self.endpoint.counters.paused_by_turn += 1
        self._pause(BY_TURN)
        self._join_line()
        return 0

    cdef int _join_line(self) except -1:
        if not self.in_line:
            self.in_line = True
            self.endpoint.waiting.append(self)
            self.endpoint.end_turn()
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
        if outcome == ANSWERED:
            return 0
        if outcome == ELSEWHERE:
            outcome = self.pass_on(message)
            if outcome == ANSWERED:
                return 0
        endpoint.noise += 1
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
        else:
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
        self.endpoint.noise += 1
        if self.frames_received == 1 or self.undecodable == 0:
            self._look()
        if partial is not None:
            try:
                if self.endpoint.dispatcher.refuse(partial, self, b"30") == ANSWERED:
                    self.undecodable = 0
                    self.endpoint.counters.malformed_answered += 1
                    self._event(
                        logging.WARNING, "malformed request answered 30",
                        mti=partial.mti, fault=str(error), **self._told(),
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
        self._event(logging.WARNING, why, fault=detail, **self._told())
        if self.undecodable >= endpoint.undecodable_max:
            self.finish(
                "undecodable", f"{self.undecodable} frames in a row were no messages"
            )
        return 0

    cdef int _end_read(self) except -1:
        cdef Endpoint endpoint = self.endpoint
        if self.answered:
            self.marks.push(self.read_ns, self.answered)
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
        body = endpoint.dispatcher.declined(frame[self.header_size:])
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
        self.marks.pop(replies, monotonic_ns(), counters)
        self.replies_sent += replies
        counters.replies_sent += replies
        counters.bytes_sent += PyBytes_GET_SIZE(frames)
        self.after_delivery()

    cpdef forgo(self, int replies):
        self.outstanding -= replies
        self.endpoint.counters.outstanding -= replies
        self.endpoint.counters.replies_dropped += replies
        self.marks.pop(replies, 0, None)
        if self.transport is not None:
            self.after_delivery()

    cdef int after_delivery(self) except -1:
        if self.ending:
            self._close_if_done()
        elif (
            self.paused & BY_OUTSTANDING
            and self.outstanding <= self.endpoint.outstanding_max // 2
        ):
            self._resume(BY_OUTSTANDING)
        return 0

    def send_body(self, bytes body not None):
        """A message that waits for no commit: at the end of the read event, or now."""
        cdef Py_ssize_t size = self.endpoint.tpdu_size
        cdef bytes tpdu = PyBytes_FromStringAndSize(<char*> self.tpdu, size)
        self.immediate.append(self.endpoint.framing.encode(tpdu + body))
        if not self.reading:
            self._write_immediate()

    # --- time, pauses and the end ----------------------------------------------------

    def _arm(self):
        cdef double delay = self.management.session.due_at() - self.endpoint.loop.time()
        # Never at once: what is due is done by then, and a clock may round.
        self.timer = self.endpoint.loop.call_later(max(delay, 0.01), self._on_timer)

    def _on_timer(self):
        session = self.management.session
        if self.paused & (BY_OUTSTANDING | BY_TURN):
            self.heard_at = self.endpoint.loop.time()   # it is we who do not listen
        if self.heard_at:
            session.heard(self.heard_at)
        self.management.tick()
        if self.management is not None:
            self._arm()

    def finish(self, str kind not None, str reason not None):
        """Answers what is due, then closes. The first reason counts."""
        if kind == "drain" or kind == "peer":
            self._catch_up()    # what has been received is still answered
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
            self._write_immediate()
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
        if self.paused == BY_TURN:
            self._join_line()
        elif self.paused == 0 and not self.transport.is_closing():
            if who != BY_PIECES:    # it was we who did not read
                self.frame_since = self.endpoint.loop.time()
            self.transport.resume_reading()
        return 0


def _reason(error):
    return (getattr(error, "strerror", None) or type(error).__name__).lower()
