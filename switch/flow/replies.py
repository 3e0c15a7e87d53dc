"""What is answered, and with which fields: a table.

ISO 8583:1987, 4.2: a request or an advice (third digit of the message type 0 or 2) is
answered by the message type with ten more, and its repeat (last digit 1) by the answer
to the first. Fields 38 (approvals) and 39 come from the decision, all others are the
request's own bytes.
"""

from typing import Final

# What identifies the transaction to whoever asked, and what it was about.
_COMMON: Final = (2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 28, 32, 33, 37)
_PLACE: Final = (41, 42, 49, 50, 51)
# An advice has an approval code of its own: that of whoever approved it.
_DECIDED: Final = (38,)
# Which transaction a reversal is about, and how much of it stays.
_ORIGINAL: Final = (90, 95)

# message type: (message type of its answer, fields echoed when the request has them)
REPLIES: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "0100": ("0110", (*_COMMON, *_PLACE)),
    "0120": ("0130", (*_COMMON, *_DECIDED, *_PLACE)),
    "0200": ("0210", (*_COMMON, *_PLACE)),
    "0220": ("0230", (*_COMMON, *_DECIDED, *_PLACE, *_ORIGINAL)),
    "0400": ("0410", (*_COMMON, *_PLACE, *_ORIGINAL)),
    "0420": ("0430", (*_COMMON, *_PLACE, *_ORIGINAL)),
}

# A message type we do not serve is still answered (39 = 12), with what names it.
OTHERS: Final = (2, 3, 4, 7, 11, 12, 13, 32, 33, 37, 41, 42, 49, 70)

# Field 39 of an advice that says "approved": approved, with identification, partly,
# VIP, updated track 3, no reason to decline (ISO 8583:1987, A.9 in 4.3.8; 85 is the
# schemes').
ADVICE_APPROVED: Final = frozenset({"00", "08", "10", "11", "16", "85"})
