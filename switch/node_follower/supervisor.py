"""What a node knows of its read model."""

import time
from collections.abc import Iterator

from switch.companion.supervisor import CompanionProcess
from switch.node_follower.process import Settings, Status
from switch.observe.metrics import Sample

SINK = ("read_model",)


class NodeFollowerProcess(CompanionProcess[Status]):
    """It looks by itself, and is told nothing but to end."""

    name = "node_follower"
    wake_seconds_min = 0.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Status())
        self._complete_at = time.monotonic()

    @property
    def fault(self) -> str | None:
        """Why rows do not get on; None when they do."""
        return super().fault or self.status.fault

    def heard(self, status: Status) -> None:
        # One that has just begun does not know yet.
        self._complete_at = max(self._complete_at, status.complete_at)

    def samples(self) -> Iterator[Sample]:
        yield Sample("follower_up", int(self.is_running))
        yield Sample("follower_restarts", self.restarts)
        age = max(time.monotonic() - self._complete_at, 0.0)
        yield Sample("follower_lag_seconds", age, SINK)
        yield Sample("follower_faulty", int(self.fault is not None), SINK)
