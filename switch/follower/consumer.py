"""One reader of the journal: hands commits to a sink, at the sink's pace.

Rule 1: a sink that fails is closed and opened again after a while, and says itself
        where it is. What fails one does not hold up another.
Rule 2: a batch is bounded, so that a sink that is far behind shares the process.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from switch.backoff import Backoff
from switch.companion.reading import Reading
from switch.journal.port import Commit, Journal, JournalError
from switch.observe.log import event

RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 30.0

_logger = logging.getLogger("switch.follower")


class Sink(Protocol):
    @property
    def position(self) -> int:
        """The last commit that was taken whole and cannot be lost any more."""

    @property
    def wants_tending(self) -> bool:
        """Before the next commits are taken."""

    def take(self, commits: Sequence[Commit]) -> None: ...

    def tend(self) -> bool:
        """A piece of housekeeping, when nothing is to be taken; whether it has more."""

    def close(self) -> None: ...


class Consumer:
    """`step` does at most one batch. `position` is -1 while the sink is not open."""

    def __init__(
        self,
        name: str,
        journal: Journal,
        open_sink: Callable[[], Sink],
        *,
        entries_max: int,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.position = -1
        self.fault: str | None = None
        self._open_sink = open_sink
        self._entries_max = entries_max
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._sink: Sink | None = None
        self._reading = Reading(journal)
        # When the next batch may begin, and when a failed sink is tried again.
        self._due_at = 0.0
        self._backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)

    def step(self, head: int, *, at_once: bool = False) -> bool:
        """Whether there is more to do now. A journal that fails ends the process:
        nothing can be gone on with, and it is opened again with the next one."""
        if self._clock() < self._due_at and not (at_once and self.fault is None):
            return False
        try:
            sink = self._opened()
            if sink.position >= head or sink.wants_tending:
                more = sink.tend()
                self._succeeded()
                return more
            return self._take(sink, head)
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever a sink raises: Rule 1
            self._failed(error)
            return False

    def wait_seconds(self, head: int) -> float | None:
        """Until the next step has something to do; None when nothing is waiting."""
        if self._sink is not None and self.position >= head:
            return None
        return max(self._due_at - self._clock(), 0.0)

    def close(self) -> None:
        self._reading.restart()
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _opened(self) -> Sink:
        if self._sink is None:
            self._sink = self._open_sink()
            self.position = self._sink.position
        return self._sink

    def _take(self, sink: Sink, head: int) -> bool:
        commits, is_full = self._reading.batch(sink.position, head, self._entries_max)
        sink.take(commits)
        self.position = sink.position
        self._succeeded()
        self._due_at = 0.0 if is_full else self._clock() + self._interval_seconds
        return is_full

    def _succeeded(self) -> None:
        self.fault = None
        self._backoff.reset()

    def _failed(self, error: Exception) -> None:
        self.fault = f"{type(error).__name__}: {error}"
        seconds = self._backoff.seconds()
        event(
            _logger,
            logging.ERROR,
            "cannot go on, will try again",
            what=self.name,
            reason=self.fault,
            seconds=seconds,
        )
        with suppress(Exception):
            self.close()
        self._sink = None
        self._reading.restart()
        self.position = -1
        self._due_at = self._clock() + seconds
