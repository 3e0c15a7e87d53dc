# Values to the bytes of a container, whole or one element changed.

from iso8583._layout cimport Layout
from iso8583._wire cimport FieldTable


# Instead of a value: the element is to go.
cdef object DELETED
# The field of the path, a str, and its bytes with this element changed; none when it
# goes itself. Raises KeyError for what is to go and is not there. The caller holds the
# frame and its table.
cdef tuple changed(
    Layout layout, bytes frame, const FieldTable* table, object text, object value
)
# Takes from the dict what is no field of its own, by path: paths, and the elements of
# groups.
cdef dict elements_of(Layout layout, dict fields)
# The message, with these set in it.
cdef object with_elements(object message, dict elements)
