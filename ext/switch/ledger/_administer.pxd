# cython: language_level=3
from libc.stdint cimport int64_t

from switch.ledger._entry cimport Entry
from switch.ledger._state cimport State


cdef int check_fits(State state, Entry entry) except -1
cdef int take_place(State state, Entry entry, int64_t now) except -1
