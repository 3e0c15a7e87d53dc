# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Frames: a length, then a body. Bytes in, frames out; no socket here.

    binary2   2 bytes, big-endian                       0..65535
    binary4   2 bytes, big-endian, then 2 zero bytes    0..65535
    ascii4    4 ASCII digits                            0..9999
    bcd2      4 packed digits in 2 bytes                0..9999

The length counts the body alone, or header and body when `inclusive`. A body of
zero bytes is a heartbeat: it keeps the line busy and is never a message.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from switch.link.errors import FrameTooLongError, FramingError

# No message of the shipped specifications comes near 8 KiB; a length above it is a
# peer that speaks another framing, and must not make us wait for 64 KiB.
FRAME_SIZE_MAX_DEFAULT = 8192

_KINDS = {"binary2": BINARY2, "binary4": BINARY4, "ascii4": ASCII4, "bcd2": BCD2}
_HEADER_SIZES = {"binary2": 2, "binary4": 4, "ascii4": 4, "bcd2": 2}
_WIRE_MAXIMA = {"binary2": 65535, "binary4": 65535, "ascii4": 9999, "bcd2": 9999}

FRAMING_NAMES = tuple(_KINDS)


def size_max_of(str name, bint inclusive=False):
    """The longest body that the framing's length field can announce."""
    if name not in _KINDS:
        expected = ", ".join(FRAMING_NAMES)
        raise ValueError(f"framing: expected one of {expected}, got {name!r}")
    return _WIRE_MAXIMA[name] - (_HEADER_SIZES[name] if inclusive else 0)


cdef class Framing:
    def __init__(self, str name, inclusive=False, size_max=None):
        wire_size_max = size_max_of(name, inclusive)
        if size_max is None:
            size_max = min(FRAME_SIZE_MAX_DEFAULT, wire_size_max)
        if not 1 <= size_max <= wire_size_max:
            raise ValueError(
                f"{name} frame size: expected a maximum from 1 to {wire_size_max} "
                f"bytes, got {size_max}"
            )
        self.name = name
        self.kind = _KINDS[name]
        self.inclusive = inclusive
        self.size_max = size_max
        self.header_size = _HEADER_SIZES[name]
        self.wire_size_max = wire_size_max

    def __repr__(self):
        return (
            f"Framing({self.name!r}, inclusive={bool(self.inclusive)}, "
            f"size_max={self.size_max})"
        )

    cdef bint cut(
        self, const uint8_t* data, Py_ssize_t size, int64_t offset, Cut* cut
    ) except -1:
        cdef Py_ssize_t length
        if size < self.header_size:
            return False
        if self.kind == BINARY2 or self.kind == BINARY4:
            length = (data[0] << 8) | data[1]
            if self.kind == BINARY4 and (data[2] | data[3]):
                self._refuse(data, offset + 2, "2 zero bytes after the length")
        elif self.kind == ASCII4:
            length = _ascii_length(data)
        else:
            length = _bcd_length(data)
        if length < 0:
            self._refuse(
                data,
                offset,
                "4 ASCII digits" if self.kind == ASCII4 else "4 packed digits",
            )
        if self.inclusive:
            if length < self.header_size:
                self._refuse(
                    data,
                    offset,
                    f"a length of at least {self.header_size}, which counts itself",
                    length,
                )
            length -= self.header_size
        if length > self.size_max:
            self._refuse(
                data, offset, f"a body of at most {self.size_max} bytes", length
            )
        if size < self.header_size + length:
            return False
        cut.body_offset = self.header_size
        cut.body_size = length
        cut.frame_size = self.header_size + length
        return True

    cdef int _refuse(
        self,
        const uint8_t* data,
        int64_t offset,
        str expected,
        object length=None,
    ) except -1:
        # The header is shown as hex: it holds a length, or whatever a peer with
        # another framing sent as its first bytes; never more than four of them.
        cdef bytes header = PyBytes_FromStringAndSize(<char*>data, self.header_size)
        got = f"0x{header.hex()}" if length is None else f"{length} (0x{header.hex()})"
        raise FramingError(self.name, offset, expected, got)

    cdef int write_header(self, uint8_t* at, Py_ssize_t body_size) except -1:
        cdef Py_ssize_t length = body_size
        # `size_max` is what a peer may send; a reply may be a little longer.
        if body_size > self.wire_size_max or body_size < 0:
            raise FrameTooLongError(
                f"{self.name} frame: expected a body of at most {self.wire_size_max} "
                f"bytes, got {body_size}"
            )
        if self.inclusive:
            length += self.header_size
        if self.kind == BINARY2 or self.kind == BINARY4:
            at[0] = <uint8_t>(length >> 8)
            at[1] = <uint8_t>(length & 255)
            if self.kind == BINARY4:
                at[2] = 0
                at[3] = 0
        elif self.kind == ASCII4:
            at[0] = <uint8_t>(48 + length // 1000)
            at[1] = <uint8_t>(48 + length // 100 % 10)
            at[2] = <uint8_t>(48 + length // 10 % 10)
            at[3] = <uint8_t>(48 + length % 10)
        else:
            at[0] = <uint8_t>((length // 1000 << 4) | (length // 100 % 10))
            at[1] = <uint8_t>((length // 10 % 10 << 4) | (length % 10))
        return 0

    def encode(self, body):
        """The frame that carries `body`."""
        cdef bytes content = bytes(body)
        cdef Py_ssize_t size = len(content)
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, self.header_size + size)
        cdef uint8_t* at = <uint8_t*>PyBytes_AS_STRING(frame)
        self.write_header(at, size)
        memcpy(at + self.header_size, PyBytes_AS_STRING(content), size)
        return frame


cdef Py_ssize_t _ascii_length(const uint8_t* data) noexcept:
    cdef Py_ssize_t length = 0
    cdef int index
    for index in range(4):
        if not 48 <= data[index] <= 57:
            return -1
        length = length * 10 + (data[index] - 48)
    return length


cdef Py_ssize_t _bcd_length(const uint8_t* data) noexcept:
    cdef Py_ssize_t length = 0
    cdef int index
    for index in range(2):
        if (data[index] >> 4) > 9 or (data[index] & 15) > 9:
            return -1
        length = length * 100 + (data[index] >> 4) * 10 + (data[index] & 15)
    return length


cdef class FrameReader:
    """Cuts a stream that arrives in pieces; for tools, not for the switch's links.

    It keeps at most one frame that is not whole yet.
    """

    cdef readonly Framing framing
    cdef readonly int64_t heartbeats
    cdef readonly int64_t offset        # of the first byte that is not cut yet
    cdef bytes _rest
    cdef object _error

    def __init__(self, Framing framing not None):
        self.framing = framing
        self.heartbeats = 0
        self.offset = 0
        self._rest = b""
        self._error = None

    def feed(self, data):
        """Every frame body that `data` completes.

        After a FramingError, which carries the frames cut before it, the stream has
        no known boundary any more: the same error is raised again.
        """
        cdef bytes stream
        cdef const uint8_t* at
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t size
        cdef Cut cut
        cdef list frames = []
        if self._error is not None:
            raise self._error
        stream = self._rest + bytes(data)
        at = <const uint8_t*>PyBytes_AS_STRING(stream)
        size = len(stream)
        try:
            while self.framing.cut(
                at + position, size - position, self.offset, &cut
            ):
                if cut.body_size:
                    frames.append(
                        PyBytes_FromStringAndSize(
                            <char*>at + position + cut.body_offset, cut.body_size
                        )
                    )
                else:
                    self.heartbeats += 1
                position += cut.frame_size
                self.offset += cut.frame_size
        except FramingError as error:
            self._rest = b""
            error.frames = frames
            # Raised again on every later feed: by then nobody is owed the frames.
            self._error = FramingError(
                error.framing, error.offset, error.expected, error.got
            )
            raise
        self._rest = stream[position:]
        return frames

    @property
    def pending_size(self):
        """Bytes of a frame that is not whole yet."""
        return len(self._rest)


cdef int refuse_tls(Framing framing, const uint8_t* at, Py_ssize_t size) except -1:
    """A ClientHello may pass for the beginning of a long frame; it would be waited for.
    -- RFC 8446 5.1: type 22, version 3.x, 2 bytes of length; 4: handshake type 1."""
    if size >= 6 and at[0] == 22 and at[1] == 3 and at[5] == 1:
        raise FramingError(framing.name, 0, "a frame", "a TLS ClientHello")
    return 0
