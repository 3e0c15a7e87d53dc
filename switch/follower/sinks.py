"""What the follower feeds, behind one interface. The read model is a sink by itself."""

from collections.abc import Iterable, Sequence

from switch.journal.port import Commit, Journal
from switch.publish.events import Event, Position, events_of, position_of
from switch.publish.port import PublishDamaged, Publisher, PublishError


class PublishSink:
    """Makes commits events. A publisher may stand within a commit; commits do not."""

    wants_tending = False

    def __init__(self, publisher: Publisher, journal: Journal) -> None:
        self._publisher = publisher
        # Of the last event before we began; its commit may be published in part.
        self._resumed = publisher.position
        self.position = max(self._resumed.commit - 1, 0)
        head = journal.head
        if self._resumed.commit > head:
            raise PublishError(
                f"expected to have published up to commit {head}, the journal's last, "
                f"got commit {self._resumed.commit}"
            )

    def take(self, commits: Sequence[Commit]) -> None:
        if not commits:
            return
        self._publisher.publish(
            event for commit in commits for event in self._events(commit)
        )
        self.position = commits[-1].number

    def tend(self) -> bool:
        return False

    def close(self) -> None:
        self._publisher.close()

    def _events(self, commit: Commit) -> Iterable[Event]:
        if commit.number == self._resumed.commit:
            return _behind(self._resumed, commit)
        return events_of(commit)


def _behind(position: Position, commit: Commit) -> list[Event]:
    """The events of a commit behind one of them."""
    events = list(events_of(commit))
    for index, event in enumerate(events):
        if position_of(event) == position:
            return events[index + 1 :]
    raise PublishDamaged(
        f"expected entry {position.shard}-{position.sequence}, the last that was "
        f"published, in commit {commit.number} of the journal, got {len(events)} others"
    )
