"""What the switch knows of its follower."""

import time
from collections.abc import Iterator

from switch.companion.supervisor import CompanionProcess
from switch.follower.process import Settings, Status
from switch.observe.metrics import Sample


class FollowerProcess(CompanionProcess[Status]):
    name = "follower"
    wake_seconds_min = 0.02

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Status())
        # Commits; -1: not known yet. A sink that has failed is where it was.
        self.published = -1
        self.projected = -1

    @property
    def fault(self) -> str | None:
        """Why events or rows do not get on; None when they do."""
        if not self.is_running:
            return super().fault
        return self.status.publish_fault or self.status.project_fault

    def heard(self, status: Status) -> None:
        if status.published >= 0:
            self.published = status.published
        if status.projected >= 0:
            self.projected = status.projected
        self._times.forget(max(min(self.published, self.projected), 0))

    def samples(self, head: int) -> Iterator[Sample]:
        """What there is to tell, with all up to `head` answered."""
        status, now = self.status, time.monotonic()
        yield Sample("follower_up", int(self.is_running))
        yield Sample("follower_restarts", self.restarts)
        yield Sample("published_head", max(self.published, 0))
        yield Sample("projected_head", max(self.projected, 0))
        for sink, position, fault in (
            ("events", self.published, status.publish_fault),
            ("read_model", self.projected, status.project_fault),
        ):
            age = self._times.age(max(position, 0), head, now)
            yield Sample("follower_lag_seconds", age, (sink,))
            yield Sample("follower_faulty", int(fault is not None), (sink,))
            if position >= 0:
                lag = max(head - position, 0)
                yield Sample("follower_lag_commits", lag, (sink,))
