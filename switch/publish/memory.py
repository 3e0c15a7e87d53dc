"""The publisher and the engine for tests: lists, and faults on cue."""

from collections.abc import Iterable, Sequence

from switch.journal.port import Commit
from switch.publish.events import Event, Position, events_of, position_of
from switch.publish.port import PublishError, Refused


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


class MemoryEngine:
    """`events` outlives the engine when it is handed to the next one."""

    def __init__(self, events: list[Event] | None = None) -> None:
        self.events: list[Event] = [] if events is None else events
        self.is_open = False
        self.is_closed = False
        # After a batch was not taken nothing is.
        self.is_broken = False
        # Faults: servers that cannot be reached, how many events the next batch still
        # takes before it fails (None: all), and ids that are never taken.
        self.is_unreachable = False
        self.fails_after: int | None = None
        self.refuses: set[str] = set()
        # How many batches it says that it has settled; None: all that it took.
        self.settles: int | None = None
        self._sent = 0

    @property
    def settled(self) -> int:
        return self._sent if self.settles is None else min(self.settles, self._sent)

    async def open(self) -> None:
        if self.is_unreachable:
            raise PublishError("expected a server, got nobody")
        self.is_open = True

    async def send(self, commits: Sequence[Commit]) -> Sequence[Refused]:
        assert self.is_open
        assert not self.is_closed
        if self.is_broken:
            raise PublishError("expected all batches before, got one that failed")
        events = [event for commit in commits for event in events_of(commit)]
        taken, self.fails_after = self.fails_after, None
        refused = [
            Refused(event, "refused on cue")
            for event in events[:taken]
            if event.id in self.refuses
        ]
        self.events += [e for e in events[:taken] if e.id not in self.refuses]
        if taken is not None:
            self.is_broken = True
            raise PublishError(f"expected to send {len(events)} events, got {taken}")
        self._sent += 1
        return refused

    async def close(self) -> None:
        self.is_closed = True
