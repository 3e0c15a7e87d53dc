"""How long ago the oldest commit was answered that a sink does not have yet.

Rule: nothing is asked of a disk, or of the follower, for it: what holds them up must
not hold up whoever wants to know.

Now and then a commit is marked with its time: always the first one after a pause, so
that what follows it before the next mark is hardly younger than the mark says.
"""

from bisect import bisect_right

MARKS_MAX = 1024


class ReleaseTimes:
    """Times are seconds of a clock that never goes back. What was answered before
    `now`, when this was made, counts from then."""

    def __init__(self, now: float) -> None:
        self._numbers = [0]
        self._times = [now]

    def mark(self, number: int, now: float) -> None:
        """Commit `number` is answered now; not to be called for every one."""
        if len(self._numbers) == MARKS_MAX:
            # Somebody is far behind: every second mark is near enough.
            del self._numbers[1::2], self._times[1::2]
        self._numbers.append(number)
        self._times.append(now)

    def age(self, position: int, head: int, now: float) -> float:
        """Of the commit behind `position`; 0 when that has all up to `head`."""
        if position >= head:
            return 0.0
        return max(now - self._times[self._index(position)], 0.0)

    def forget(self, position: int) -> None:
        """Nobody is behind `position` any more."""
        index = self._index(position)
        del self._numbers[:index], self._times[:index]

    def _index(self, position: int) -> int:
        """Of the last mark that is not younger than the commit behind `position`."""
        return max(bisect_right(self._numbers, position + 1) - 1, 0)
