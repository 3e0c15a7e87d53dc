# The native face of the codec: what other Cython modules may cimport.
#
# Everything here is for callers that handle one message at a time on a hot path and
# want no Python object per field; the same classes are the public Python API.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from iso8583._layout cimport Layout
from iso8583._wire cimport BITMAPS_MAX, FieldPlan, FieldTable, Span


cdef class Codec:
    cdef readonly object spec
    cdef Layout layout

    cpdef Message decode(self, data, bint partial=*)
    cdef Message decode_data(self, data)
    # Copies the frame. Raises DecodeError.
    cdef Message decode_buffer(self, const uint8_t* data, Py_ssize_t size)
    cdef Message decode_frame(self, bytes frame)
    cpdef bytes encode(self, message)
    cdef dict fields_of(self, Message message)


cdef class Message:
    cdef readonly Codec codec
    # Where reading it stopped, of the part that is left of a message; else None.
    cdef readonly object fault
    # The encoded message, always whole and valid: a change makes a new one.
    cdef bytes frame
    # 0x0100 for "0100".
    cdef uint32_t mti_number
    cdef FieldTable table

    # Whether it came back to us behind the header of a reject: no request to answer.
    cdef bint is_rejected(self) noexcept
    cdef bint has(self, int field) noexcept
    # The field as ASCII text whatever its wire encoding (ASCII, EBCDIC; BCD gives
    # digits, binary gives uppercase hex). Returns the length; -1 when absent; -2 when
    # it does not fit in capacity, is not text in its encoding, or is not all ASCII.
    cdef Py_ssize_t text(
        self, int field, uint8_t* out, Py_ssize_t capacity
    ) noexcept
    # The field, all digits, as a number; -1 when absent, -2 when it is empty, is not
    # all digits, or has more than 18 of them.
    cdef int64_t number(self, int field) noexcept
    # The field's bytes on the wire, length prefix included; size 0 when absent.
    # Borrowed: valid until the message is changed or freed.
    cdef Span span(self, int field) noexcept

    cdef Py_ssize_t content(
        self, const FieldPlan* plan, int field, const uint8_t** data
    ) noexcept
    cdef object at(self, object key, object absent)
    cdef int change(self, object path, object value) except -1
    cdef int splice(self, int field, bytes wire) except -1
    cdef list field_numbers(self)
    cdef bint equals(self, Message other)
    cdef bint same_header(self, Message other) noexcept


# The reply to one type of request, compiled once: an MTI, and the fields it echoes.
cdef class ReplyTemplate:
    cdef readonly Codec codec
    cdef readonly str mti
    cdef uint64_t copied[BITMAPS_MAX]
    cdef uint8_t mti_bytes[4]

    # Writes the body (no frame header): the request's message header turned round, if
    # the spec has one, MTI, bitmap, the request's own bytes for the copied fields it
    # has, field 38 from approval_code (6 ASCII bytes; NULL: no field 38) and field 39
    # from response_code (2 ASCII bytes). Returns the size.
    cdef Py_ssize_t write(
        self, Message request, uint8_t* out, Py_ssize_t capacity,
        const uint8_t* approval_code, const uint8_t* response_code
    ) except -1
    cdef Py_ssize_t write_fields(
        self, Message request, const FieldTable* reply, uint8_t* out, Py_ssize_t at,
        Py_ssize_t capacity, const uint8_t* approval_code,
        const uint8_t* response_code
    ) except -1
    cpdef bytes build(self, Message request, str response_code, str approval_code=*)
