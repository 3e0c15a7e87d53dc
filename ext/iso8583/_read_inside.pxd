# Reading what is inside the fields of one frame.

from iso8583._inside cimport View
from iso8583._layout cimport Layout
from iso8583._wire cimport FieldTable


# The view of a field's container, which it has; what it returns owns the bytes.
cdef object open_field(
    Layout layout, bytes frame, const FieldTable* table, int field, View* view
)
# The value of a field that begins there.
cdef object text_at(Layout layout, bytes frame, Py_ssize_t at, int field)
# The value at a path, a str; `absent` when there is nothing. The caller holds the
# frame, here and below.
cdef object read_at(
    Layout layout, bytes frame, const FieldTable* table, object text, object absent
)
cdef bint has_at(
    Layout layout, bytes frame, const FieldTable* table, object text
) except -1
# A path that begins with the name of a group, through the field of the group that has
# the element; as it is where none has. Other paths as they are.
cdef object in_field(
    Layout layout, bytes frame, const FieldTable* table, object text
)
# All of a message as a dict that encodes back; with `inside`, a field is a dict of its
# elements where it has a container and nothing else in it.
cdef dict dict_of(
    Layout layout, bytes frame, const FieldTable* table, object mti, bint inside
)
# Raises DecodeError for the first content that cannot be read.
cdef int validate_field(
    Layout layout, bytes frame, const FieldTable* table, int field
) except -1
# The iso8583.inside.Part of a field; `spec` is its FieldSpec.
cdef object part_of(
    Layout layout, bytes frame, const FieldTable* table, int field, object spec
)
