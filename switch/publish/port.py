"""The publish ports: the journal's released entries, to whoever else must know.

A `Publisher` keeps them itself, an `Engine` hands them to servers of others.

Rule 1: `publish` returns when the events can no longer be lost, or raises; after it
        raised, any first part of them may have been published.
Rule 2: the position is the publisher's own and is kept with what it published, so
        that the two cannot differ. It is asked for once, at opening, and followed.
Rule 3: events come in journal order, each at least once, and never before the commit
        that holds them was released.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from switch.journal.port import Commit
from switch.publish.events import Event, Position

__all__ = [
    "Engine",
    "Event",
    "Position",
    "PublishDamaged",
    "PublishError",
    "Publisher",
    "Refused",
]


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


class Refused(NamedTuple):
    """An event that an engine will never take, and why: it is set aside."""

    event: Event
    reason: str


class Engine(Protocol):
    """Rule 1: `send` returns when every event of the batch is acknowledged, or is
               among what it returns; after it raised, any of them may have been taken.
    Rule 2: events of one account are taken in their order, first occurrences of them,
            whatever failed on the way.
    Rule 3: a batch may be sent before the one before it has returned. It is behind that
            in every respect: after that raised, nothing more of it is sent.
    Rule 4: after anything raised, only `close` is called, and another engine is made.
            Where it goes on is kept beside it, as `switch.publish.positions` says.
    """

    @property
    def settled(self) -> int:
        """How many batches, from the first one on, need nothing more of this engine.
        The others would have to be sent again if it ended, though they are taken."""

    async def open(self) -> None:
        """Ready to send on return; raises when there is nobody to send to."""

    async def send(self, commits: Sequence[Commit]) -> Sequence[Refused]: ...

    async def close(self) -> None:
        """Whatever happened before; does not wait for what is not acknowledged."""
