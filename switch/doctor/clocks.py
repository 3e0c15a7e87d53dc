"""Whether clocks agree.

No answer of a cluster depends on it: shards change hands by what the journal says. But
entries, holds, expiries of cards and the window for repeats go by the clock of the node
that decides; one that is an hour off ends holds an hour early, or late.
"""

from __future__ import annotations

import ctypes
import errno
import time
from typing import Final

from switch.doctor.findings import Finding, error, ok, warning

# What a time service leaves is thousandths; what nobody corrects soon is seconds.
OFF_MS_WARNED: Final = 1_000
OFF_MS_MAX: Final = 60_000
_ADVICE: Final = "let a time service (chrony, systemd-timesyncd) set both clocks"
# struct timex, of which the kernel fills in more than we read.
_TIMEX_BYTES: Final = 256
_TIME_ERROR: Final = 5


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def compared(
    check: str, before_ms: int, theirs_ms: int, after_ms: int, grain_ms: int = 1
) -> Finding:
    """Theirs was read between our two; it counts in steps of `grain_ms`."""
    low, high = before_ms - grain_ms, after_ms + grain_ms
    off_ms = min(theirs_ms - low, 0) + max(theirs_ms - high, 0)
    if abs(off_ms) < OFF_MS_WARNED:
        return ok(check, "as ours")
    side = "ahead of" if off_ms > 0 else "behind"
    got = f"{abs(off_ms) / 1000:,.0f} s {side} ours"
    make = error if abs(off_ms) >= OFF_MS_MAX else warning
    return make(check, "the time that we have", got, _ADVICE)


def service() -> Finding:
    """Whether the kernel believes that somebody keeps the clock right."""
    check = "clock"
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        reason = errno.errorcode.get(ctypes.get_errno(), "an error")
        return warning(check, "the kernel to tell its state", reason)
    if state == _TIME_ERROR:
        return warning(
            check,
            "a time service that sets it",
            "none, as far as the kernel knows",
            "run chrony or systemd-timesyncd; in a container the host does",
        )
    return ok(check, "set by a time service")
