"""How long to wait before something is tried again."""

import asyncio
import random


class Backoff:
    """Twice as long each time; a part of it is chance, so that not all come at once."""

    def __init__(self, seconds_min: float, seconds_max: float) -> None:
        assert 0 < seconds_min <= seconds_max
        self._min, self._max = seconds_min, seconds_max
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def seconds(self) -> float:
        longest = delay(self._failures, self._min, self._max)
        self._failures += 1
        return longest * random.uniform(0.5, 1.0)

    async def sleep(self) -> None:
        await asyncio.sleep(self.seconds())


def delay(failures: int, seconds_min: float, seconds_max: float) -> float:
    """After so many failures before this one."""
    # Beyond 2**32 times the shortest there is nothing anybody wants.
    return min(seconds_min * (1 << min(failures, 32)), seconds_max)
