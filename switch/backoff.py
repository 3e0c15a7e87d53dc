"""How long to wait before something is tried again: whatever is, by the same rule.

Rule 1: the first wait is the shortest, each following one twice as long, up to the
        longest; what succeeds begins anew.
Rule 2: where many try the same thing, a part of each wait is left to chance, so that
        they do not all come at once.
"""

import asyncio
import random

# Beyond 2**32 times the shortest there is nothing anybody wants.
DOUBLINGS_MAX = 32


def delay(failures: int, shortest: float, longest: float) -> float:
    """After so many failures before this one, in the unit of the other two."""
    return min(shortest * (1 << min(failures, DOUBLINGS_MAX)), longest)


class Backoff:
    """`jitter` is the part of a wait that chance may take away."""

    def __init__(
        self, seconds_min: float, seconds_max: float, *, jitter: float = 0.0
    ) -> None:
        assert 0 < seconds_min <= seconds_max
        assert 0 <= jitter < 1
        self._min, self._max = seconds_min, seconds_max
        self._jitter = jitter
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def seconds(self) -> float:
        """After one more failure."""
        longest = delay(self._failures, self._min, self._max)
        self._failures += 1
        # The draw keeps no secret.
        return longest * (1 - self._jitter * random.random())

    async def sleep(self) -> None:
        await asyncio.sleep(self.seconds())
