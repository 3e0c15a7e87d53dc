"""The publish port: the journal's released entries, to whoever else must know.

Rule 1: `publish` returns when the events can no longer be lost, or raises; after it
        raised, any first part of them may have been published.
Rule 2: the position is the publisher's own and is kept with what it published, so
        that the two cannot differ. It is asked for once, at opening, and followed.
Rule 3: events come in journal order, each at least once, and never before the commit
        that holds them was released.
"""

from collections.abc import Iterable
from typing import Protocol

from switch.publish.events import Event, Position

__all__ = ["Event", "Position", "PublishDamaged", "PublishError", "Publisher"]


class PublishError(Exception):
    """What was expected, what came, where. Publishing stops and is tried again.

    PublishError
     +- PublishDamaged      what was published before is not what this program writes
    """


class PublishDamaged(PublishError):  # noqa: N818 -- as in the journal
    pass


class Publisher(Protocol):
    @property
    def position(self) -> Position:
        """Of the last event that cannot be lost any more."""

    def publish(self, events: Iterable[Event]) -> None:
        """Durable on return."""

    def close(self) -> None: ...
