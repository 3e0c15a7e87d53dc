# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Another node's requests, decided in a shard that is here.

Their replies are held like those of a link's connection until what they tell is
durable, and all of one commit leave in one write. Each is framed as the nodes do
among each other, `switch/peer/framing.py`:

    size    4 bytes, of what follows        \\
    kind    1                                |
    link    1, its number                    |  big-endian
    shard   2                                |
    number  8, of the request                |
    ms      4, left until its deadline      /
    body
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from iso8583._codec cimport Message
from switch.flow._dispatch cimport Dispatcher

cdef enum:
    HEADER_BYTES = 20
    SIZE_BYTES = 4              # how many of them `size` does not count
    KIND_AT = 4
    LINK_AT = 5
    NUMBER_AT = 8
    ANSWER = 3                  # switch.peer.framing.Kind.ANSWER

HEADER_SIZE = HEADER_BYTES
ANSWER_KIND = ANSWER


cdef void _put(uint8_t* at, uint64_t value, int size) noexcept:
    cdef int i
    for i in range(size):
        at[i] = <uint8_t> (value >> (8 * (size - 1 - i)))


cdef uint64_t _get(const uint8_t* at, int size) noexcept:
    cdef uint64_t value = 0
    cdef int i
    for i in range(size):
        value = (value << 8) | at[i]
    return value


cdef class PeerReplies(ReplyBuffer):
    """To one node. `send(frames)` takes those of a commit; `dispatchers[n]` is that of
    the link which this node knows as its nth, or None."""

    def __init__(self, send, list dispatchers not None):
        self.send = send
        self.dispatchers = dispatchers
        self.header_size = HEADER_BYTES

    def ask(
        self, bytes body not None, *, int link, int shard, uint64_t number,
        int64_t read_ms, int left_ms, int64_t now, bint is_void,
    ):
        """Decides a request, with so many milliseconds left of its time. Returns an
        `Outcome`: with some there is no reply. Raises DecodeError."""
        cdef Dispatcher dispatcher = self.dispatchers[link]
        cdef Message message = dispatcher.codec.decode(body)
        self.link = link
        self.number = number
        self.read_ms = read_ms
        self.deadline_ms = left_ms
        dispatcher.group.hurry(read_ms + left_ms)
        try:
            return dispatcher.handle_at(message, self, now, shard, is_void)
        finally:
            dispatcher.group.flush()

    cdef int write_header(self, uint8_t* at, Py_ssize_t body_size) except -1:
        memset(at, 0, HEADER_BYTES)
        _put(at, HEADER_BYTES - SIZE_BYTES + body_size, SIZE_BYTES)
        at[KIND_AT] = ANSWER
        self.outstanding += 1
        at[LINK_AT] = <uint8_t> self.link
        _put(at + NUMBER_AT, self.number, 8)
        return 0

    cdef int decline(self, bytes frame) except -1:
        cdef const uint8_t* header = <const uint8_t*> PyBytes_AS_STRING(frame)
        cdef Dispatcher dispatcher = self.dispatchers[header[LINK_AT]]
        cdef bytes body = dispatcher.declined(frame[HEADER_BYTES:])
        cdef uint8_t* at = self.open(PyBytes_GET_SIZE(body))
        memcpy(at, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        self.link = header[LINK_AT]
        self.number = _get(header + NUMBER_AT, 8)
        self.close(PyBytes_GET_SIZE(body))
        self.outstanding -= 1   # it was among them
        dispatcher.group.hold(self)
        return 0

    cpdef deliver(self, bytes frames, int replies):
        self.outstanding -= replies
        if frames:
            self.send(frames)

    cpdef forgo(self, int replies):
        self.outstanding -= replies
