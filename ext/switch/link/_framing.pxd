# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t

cdef enum FramingKind:
    BINARY2
    BINARY4
    ASCII4
    BCD2

cdef struct Cut:
    Py_ssize_t body_offset      # from the start of the frame
    Py_ssize_t body_size        # 0: a heartbeat
    Py_ssize_t frame_size       # header and body; how far to move on


cdef class Framing:
    cdef readonly str name
    cdef readonly bint inclusive
    cdef readonly Py_ssize_t size_max
    cdef readonly Py_ssize_t header_size
    cdef FramingKind kind
    # The length field's own ceiling, less the header when it counts itself.
    cdef Py_ssize_t wire_size_max

    # True: `cut` describes the frame that begins at `data`. False: more bytes are
    # needed. `offset` is where `data` stands in the stream, for the error.
    cdef bint cut(
        self, const uint8_t* data, Py_ssize_t size, int64_t offset, Cut* cut
    ) except -1

    cdef int _refuse(
        self, const uint8_t* data, int64_t offset, str expected, object length=*
    ) except -1

    # Writes the header_size bytes that announce a body of `body_size` bytes.
    cdef int write_header(self, uint8_t* at, Py_ssize_t body_size) except -1


cdef int refuse_tls(Framing framing, const uint8_t* at, Py_ssize_t size) except -1
