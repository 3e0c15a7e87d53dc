"""What is left to do for whoever had a message dispatched."""

from enum import IntEnum


class Outcome(IntEnum):
    """`Outcome` of `ext/switch/flow/_dispatch.pxd`, for callers in Python."""

    ANSWERED = 0
    NETWORK = 1
    RESPONSE = 2
    UNANSWERABLE = 3
    NOT_SERVED = 4
    MALFORMED = 5
    UNDECIDED = 6
    ELSEWHERE = 7
