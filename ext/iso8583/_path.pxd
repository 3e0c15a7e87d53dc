# Paths: the name of an element inside a field.

from libc.stdint cimport uint8_t


cdef enum:
    # Of iso8583.inside: a step is one container deeper.
    DEPTH_MAX = 8

cdef struct Step:
    const uint8_t* text
    Py_ssize_t size
    # Which of those with the same id, from 1.
    int occurrence

# Borrows its text: valid as long as the str that it was parsed from.
cdef struct Path:
    int field
    int count
    Step steps[DEPTH_MAX]


# A path as text, from a text or a tuple of steps. Raises TypeError.
cdef object path_text(object key)
# Whether the text is a path at all.
cdef bint parse_path(object text, Path* path)
cdef bint parse_step(Step* step, const uint8_t* text, Py_ssize_t size) noexcept
cdef object place_of(const Path* path, int steps)
