# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: nonecheck=False, auto_pickle=False, autotestdict=False
"""Paths: the name of an element inside a field.

    field . step [ # occurrence ] . step ...        55.9F26, 48.61.1, 55.9C#2

What a step means, its container says. Of elements with the same id the first is meant,
or the one that is counted.
"""

from cpython.unicode cimport PyUnicode_Check, PyUnicode_GET_LENGTH
from libc.stdint cimport uint8_t

from iso8583._wire cimport FIELD_NUMBER_MAX

from iso8583 import inside as _spec

cdef extern from "Python.h":
    uint8_t* PyUnicode_1BYTE_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef enum:
    DIGITS_MAX = 4

cdef str STEP = _spec.STEP
cdef str OCCURRENCE = _spec.OCCURRENCE

assert _spec.DEPTH_MAX == DEPTH_MAX


cdef object path_text(object key):
    if isinstance(key, tuple):
        return STEP.join([str(step) for step in key])
    if PyUnicode_Check(key):
        return key
    raise TypeError(
        f"expected a field number or a path, got {type(key).__name__}"
    )


cdef bint parse_path(object text, Path* path):
    cdef const uint8_t* data
    cdef Py_ssize_t size, at = 0, index
    if not PyUnicode_IS_COMPACT_ASCII(text):
        return False
    data = PyUnicode_1BYTE_DATA(text)
    size = PyUnicode_GET_LENGTH(text)
    path.count = 0
    while at < size and data[at] != c'.':
        at += 1
    path.field = read_digits(data, at)
    if not 2 <= path.field <= FIELD_NUMBER_MAX:
        return False
    while at < size:
        at += 1
        if path.count == DEPTH_MAX:
            return False
        index = at
        while at < size and data[at] != c'.':
            at += 1
        if not parse_step(&path.steps[path.count], data + index, at - index):
            return False
        path.count += 1
    return True


cdef bint parse_step(Step* step, const uint8_t* text, Py_ssize_t size) noexcept:
    cdef Py_ssize_t index
    step.text = text
    step.size = size
    step.occurrence = 1
    for index in range(size):
        if text[index] == c'#':
            step.size = index
            step.occurrence = read_digits(text + index + 1, size - index - 1)
            break
    return step.size > 0 and step.occurrence > 0


# A number without leading zeros; 0 when it is none.
cdef int read_digits(const uint8_t* text, Py_ssize_t size) noexcept:
    cdef int number = 0
    cdef Py_ssize_t index
    if not 1 <= size <= DIGITS_MAX or text[0] == c'0':
        return 0
    for index in range(size):
        if not c'0' <= text[index] <= c'9':
            return 0
        number = number * 10 + (text[index] - c'0')
    return number


cdef object place_of(const Path* path, int steps):
    cdef list place = [str(path.field)]
    cdef const Step* step
    cdef int index
    for index in range(steps):
        step = &path.steps[index]
        name = (<const char*> step.text)[:step.size].decode("ascii")
        if step.occurrence > 1:
            name = f"{name}{OCCURRENCE}{step.occurrence}"
        place.append(name)
    return STEP.join(place)
