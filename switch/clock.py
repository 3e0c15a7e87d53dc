"""The wall clock, as far as it can be trusted.

A clock that is wrong for a moment must not end every hold, or stamp entries with a year
that the ledger then never leaves: its own time does not go back. So a step beyond
STEP_MS_MAX against the time since boot is not followed, but said, until a restart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from switch.observe.log import event

_log = logging.getLogger("switch.clock")

# Corrections of a time service are seconds; an hour is a wrong zone, or worse.
STEP_MS_MAX = 3_600_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _boot_ms() -> int:
    # Goes on while the machine is suspended, as the wall clock does.
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class WallClock:
    """Milliseconds since 1970 (UTC). May go back; the ledger never does."""

    def __init__(
        self,
        wall_ms: Callable[[], int] = _wall_ms,
        boot_ms: Callable[[], int] = _boot_ms,
    ) -> None:
        self._wall_ms = wall_ms
        self._boot_ms = boot_ms
        self._offset = wall_ms() - boot_ms()
        self.is_trusted = True

    def __call__(self) -> int:
        wall = self._wall_ms()
        boot = self._boot_ms()
        offset = wall - boot
        if abs(offset - self._offset) <= STEP_MS_MAX:
            self._offset = offset
            self.is_trusted = True
            return wall
        if self.is_trusted:
            self.is_trusted = False
            event(
                _log,
                logging.CRITICAL,
                "the clock was set by more than an hour: not followed",
                seconds=(offset - self._offset) // 1000,
            )
        return boot + self._offset
