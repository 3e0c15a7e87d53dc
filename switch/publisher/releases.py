"""How long ago a commit was answered, by a clock that nobody sets.

The publisher looks at the released head all the time. A commit that was behind it when
it looked is younger than that look, and one that was not is older: whatever the wall
clock says meanwhile, and whatever clock the switch goes by.
"""

import time
from bisect import bisect_left
from collections.abc import Callable
from math import inf

LOOKS_MAX = 1024


def _boot_seconds() -> float:
    # Goes on while the machine is suspended.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Releases:
    """What was seen of the head; of commits before the first look, little is known."""

    def __init__(self, clock: Callable[[], float] = _boot_seconds) -> None:
        self._clock = clock
        # Heads that were seen, rising, and when each was seen first and last.
        self._heads: list[int] = []
        self._first_at: list[float] = []
        self._last_at: list[float] = []

    def saw(self, head: int) -> None:
        """The head is that, now."""
        now = self._clock()
        if self._heads and head <= self._heads[-1]:
            self._last_at[-1] = now
            return
        if len(self._heads) == LOOKS_MAX:
            # Every second one says enough of what is that long ago.
            for each in (self._heads, self._first_at, self._last_at):
                del each[1::2]
        self._heads.append(head)
        self._first_at.append(now)
        self._last_at.append(now)

    def age(self, commit: int) -> tuple[float, float]:
        """Seconds, at least and at most."""
        now = self._clock()
        index = bisect_left(self._heads, commit)
        at_least = now - self._first_at[index] if index < len(self._heads) else 0.0
        at_most = now - self._last_at[index - 1] if index else inf
        return at_least, at_most
