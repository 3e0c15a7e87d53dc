"""Histograms as they are counted: plain integers, made into a sample at a scrape."""

from __future__ import annotations

from bisect import bisect_left

from switch.observe.metrics import Histogram


class Tally:
    """Counted by one thread; a scrape on another may read it one value apart."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.total += value
        self.counts[bisect_left(self._bounds, value)] += 1

    def histogram(self) -> Histogram:
        return Histogram(self._bounds, tuple(self.counts), self.total)
