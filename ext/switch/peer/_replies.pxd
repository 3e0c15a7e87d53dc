# cython: language_level=3
from libc.stdint cimport uint64_t

from switch.shard._group cimport ReplyBuffer


cdef class PeerReplies(ReplyBuffer):
    cdef object send
    cdef list dispatchers       # by the number of their link
    cdef uint64_t number        # of the request being answered
    cdef int link
    cdef readonly int outstanding       # replies that wait for their commit
