# What the traffic loop asks of the system: sockets, clocks, and a wait for them.

from libc.stdint cimport int64_t

cdef enum:
    SECOND_NS = 1000000000

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <poll.h>
    #include <sys/socket.h>
    #include <time.h>
    """
    enum: CLOCK_MONOTONIC
    enum: CLOCK_REALTIME
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    enum: POLLIN
    enum: POLLOUT
    ctypedef int64_t time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    struct tm:
        int tm_sec
        int tm_min
        int tm_hour
        int tm_mday
        int tm_mon
    struct pollfd:
        int fd
        short events
        short revents
    int ppoll(
        pollfd* polled, unsigned long count, const timespec* timeout,
        const void* signals
    ) nogil
    Py_ssize_t recv(int fd, void* buffer, size_t size, int flags) nogil
    Py_ssize_t send(int fd, const void* buffer, size_t size, int flags) nogil
    int clock_gettime(int clock, timespec* at) nogil
    tm* gmtime_r(const time_t* at, tm* parts) nogil
    tm* localtime_r(const time_t* at, tm* parts) nogil


cdef inline int64_t clock_ns(int clock) noexcept:
    cdef timespec at
    clock_gettime(clock, &at)
    return <int64_t>at.tv_sec * SECOND_NS + at.tv_nsec
