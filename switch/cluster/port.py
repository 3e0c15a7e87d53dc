"""What a node needs of whoever decides about owners, and of whoever keeps the journal.

Both know the node by its session: a name that is never used again. A session that is
over takes nothing, gives nothing and answers nothing any more; the node begins another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from switch.journal.port import ShardRecord
from switch.ledger import Limits, State


class Member(Protocol):
    """A run of a node; others reach it at `address`."""

    @property
    def node(self) -> str: ...

    @property
    def session(self) -> str: ...

    @property
    def address(self) -> str: ...


class Owner(Protocol):
    @property
    def member(self) -> Member: ...


class Grant(Protocol):
    @property
    def create_revision(self) -> int: ...


class ShardOwnership(Protocol):
    """What one session holds, and what is known of the others. It prevents duels; that
    two owners do no harm to each other all the same is the journal's business."""

    async def join(self) -> None: ...

    async def leave(self) -> None:
        """Everything is released at once, and the session is over."""

    def now(self) -> float: ...

    def is_valid_until(self) -> float:
        """By `now()`: nothing is held from then on, whatever anybody else says."""

    def members(self) -> Sequence[Member]: ...

    def owner(self, shard: int) -> Owner | None: ...

    def wanted(self, shard: int) -> Member | None:
        """Where it should be."""

    def held(self, shard: int) -> Grant | None: ...

    async def acquire(self, shard: int) -> Grant:
        """Raises OwnershipError."""

    async def release(self, shard: int) -> None:
        """Raises OwnershipError; it is released all the same, in the end."""

    def lock(self, name: str) -> AbstractAsyncContextManager[object]:
        """Waits until nobody else has it; has it to the end of the block, or of the
        session. Raises OwnershipError."""

    def events(self) -> AsyncIterator[object]:
        """Whenever something of all this may have changed. Ends with the session."""


class JournalSession(Protocol):
    """One log, and the shards that come into it and leave it. Raises JournalError."""

    async def begin(self) -> None:
        """Once, before anything else."""

    async def read_ahead(self, shards: Sequence[int], limits: Limits, /) -> None:
        """Reads what `take` of these will need, as far as that may be done before they
        are held. Raises nothing, and binds nobody."""

    def forget_ahead(self) -> None:
        """What was read so and not taken."""

    async def take(
        self, shards: Mapping[int, int], limits: Limits, /
    ) -> dict[int, State]:
        """From whoever has them; `shards` maps each to the least number of its epoch.
        Not in the result are those that others took meanwhile."""

    async def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        """The commit's number, when it may be told. One at a time. Whatever it raises,
        the session is over."""

    async def confirm(self) -> None:
        """Returns if the session was not over when this was called."""

    async def checkpoint(
        self, shard: int, sequence: int, position: object, data: bytes
    ) -> None:
        """`data` is the shard after entry `sequence`, all of it told; `position` is
        what `position` was before it was taken."""

    async def renew_checkpoint(
        self, shard: int, sequence: int, position: object
    ) -> bool:
        """The checkpoint after entry `sequence`, which is the shard's last, stands at
        `position` from now on. False: there is none."""

    @property
    def position(self) -> object: ...

    async def give_up(self, shard: int) -> None:
        """To be called when nothing of it waits for a commit, and nothing more will.
        Given up it is, even when this raises."""

    def stop(self, error: Exception) -> None:
        """The session is over: nothing is told any more, not even what is in flight."""


class Follower(Protocol):
    """Does something with what was told of this node's shards, behind the answers. One
    for each session."""

    def opened(self, state: State) -> None: ...

    def closed(self, shard: int) -> None: ...

    def told(self, records: Sequence[ShardRecord]) -> None:
        """Called when they are, in order. Must not take long."""

    async def run(self) -> None:
        """Until it is cancelled. What it raises ends the session."""


# What goes on in a session beside all this, until it is cancelled. What it raises ends
# the session.
Beside = Callable[[ShardOwnership, JournalSession], Coroutine[Any, Any, None]]
