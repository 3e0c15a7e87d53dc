# Values to bytes. Whatever can fail raises EncodeError.

from iso8583._layout cimport Layout
from iso8583._wire cimport FieldPlan, FieldTable


cdef bint defines(Layout layout, int field) noexcept
cdef object frame_too_long(Py_ssize_t size)
cdef bytes encode_mti(Layout layout, object mti)
# The field's bytes, length prefix included.
cdef bytes encode_field(Layout layout, int field, object value)
# One value by a plan that is no field's, prefix included; errors say field 0.
cdef bytes encode_value(const FieldPlan* plan, object encoding, object value)
# A whole message. The dict must be the caller's own: values are replaced in it.
# Of a dict in which nothing is out of the ordinary: neither keys nor values that are
# made into others, no header, no length that is wrong. None for any other.
cdef bytes encode_ordinary(Layout layout, dict message)
cdef bytes encode_fields(Layout layout, object header, object mti, dict fields)
# A reply to the frame: its own bytes for the fields to copy, and the dict's values,
# which are replaced in it.
cdef bytes encode_reply(
    Layout layout, bytes request, const FieldTable* table, object mti, object copy,
    dict fields
)
# Whether the spec has the field as fixed text of this length. Raises ValueError.
cdef int check_code(Layout layout, int field, int length) except -1
cdef bytes code_bytes(int field, str code, Py_ssize_t length)
