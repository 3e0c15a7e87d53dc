# cython: language_level=3
from switch.ledger._entry cimport Entry
from switch.ledger._state cimport State


cpdef int apply(State state, Entry entry) except -1
