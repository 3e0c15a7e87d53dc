"""The publisher for tests: a list, and faults on cue."""

from collections.abc import Iterable

from switch.publish.events import Event, Position, position_of
from switch.publish.port import PublishError


class MemoryPublisher:
    """`events` outlives the publisher when it is handed to the next one."""

    def __init__(self, events: list[Event] | None = None) -> None:
        self.events: list[Event] = [] if events is None else events
        self.is_closed = False
        # How many events the next publish still takes before it fails; None: all.
        self.fails_after: int | None = None

    @property
    def position(self) -> Position:
        return position_of(self.events[-1]) if self.events else Position()

    def publish(self, events: Iterable[Event]) -> None:
        assert not self.is_closed
        taken, self.fails_after = self.fails_after, None
        wanted = list(events)
        self.events += wanted[:taken]
        if taken is not None:
            raise PublishError(f"expected to publish {len(wanted)} events, got {taken}")

    def close(self) -> None:
        self.is_closed = True
