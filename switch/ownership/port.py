"""The ownership port: who may write.

`Ownership` is of one process and its directory. `ClusterOwnership` is of a node and the
shards of a cluster: it prevents duels, and tells who owns what. That two owners do no
harm to each other all the same is the journal's business, for which a grant has a
number that no other grant of the shard has.

    OwnershipError              another owner is there, or it cannot be found out
    ├── SessionOver             this node holds nothing any more, and has to join again
    ├── ShardTaken              another one owns it
    ├── NodeNameTaken           another process is there under that name
    └── OwnershipUnavailable    nothing can be taken now, and nothing was
"""

# ruff: noqa: N818
from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec


class OwnershipError(Exception):
    """Raised when another owner is there, or when it cannot be found out."""

    def __init__(
        self,
        what: str,
        *,
        path: str | os.PathLike[str] | None = None,
        owner: str | None = None,
    ) -> None:
        self.path = None if path is None else os.fspath(path)
        self.owner = owner
        super().__init__(what)


class Ownership(Protocol):
    """Held from `acquire` to `release`, or to the end of the process."""

    @property
    def held(self) -> bool: ...

    def acquire(self) -> None:
        """Returns as the only owner, or raises OwnershipError at once."""

    def release(self) -> None: ...


# -- in a cluster


class SessionOver(OwnershipError):
    pass


class ShardTaken(OwnershipError):
    pass


class NodeNameTaken(OwnershipError):
    pass


class OwnershipUnavailable(OwnershipError):
    pass


class Member(msgspec.Struct, frozen=True, gc=False):
    """A run of a node: `session` is never used again. Others reach it at `address`."""

    node: str
    session: str
    address: str


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Of a shard or a lock. The later one of two has the greater `create_revision`,
    but for a store that was restored from a copy."""

    session: str
    create_revision: int


class Owner(msgspec.Struct, frozen=True, gc=False):
    member: Member
    create_revision: int


class MembersChanged(msgspec.Struct, frozen=True):
    """And with them what is wanted where."""

    members: tuple[Member, ...]


class OwnerChanged(msgspec.Struct, frozen=True):
    """`owner` is None when nobody has the shard."""

    shard: int
    owner: Owner | None


class Gained(msgspec.Struct, frozen=True):
    shard: int
    grant: Grant


class Lost(msgspec.Struct, frozen=True):
    """Without having been released: nothing of this grant may be answered any more."""

    shard: int
    grant: Grant
    reason: str


class SessionEnded(msgspec.Struct, frozen=True):
    """Everything that was held is lost, and this is the last event."""

    reason: str


OwnershipEvent = MembersChanged | OwnerChanged | Gained | Lost | SessionEnded


class ClusterOwnership(Protocol):
    """What one session of a node holds, from `join` to its end.

    Rule 1: nothing is held at or after `is_valid_until()`, by `now()`, which is this
            machine's own clock: whoever answers for a shard looks at it first. Once it
            has passed, the session is over, whatever anybody else says.
    Rule 2: `members`, `owner` and `wanted` are what was last heard, and may be behind.
            `acquire` and `lock` are decided where all agree.
    Rule 3: events of one shard that nobody has taken yet become one, so that there are
            never more than shards and members; `Lost` is never left out.
    """

    @property
    def member(self) -> Member:
        """This one."""

    async def join(self) -> None:
        """Returns when others see this node and this node sees them."""

    async def leave(self) -> None:
        """Ends the session: everything is released at once."""

    def now(self) -> float: ...

    def is_valid_until(self) -> float: ...

    def members(self) -> tuple[Member, ...]:
        """That are there, by name."""

    def owner(self, shard: int) -> Owner | None: ...

    def wanted(self, shard: int) -> Member | None:
        """Where it should be, as every node thinks that knows the same members."""

    def held(self, shard: int) -> Grant | None:
        """What this node may rely on now."""

    async def acquire(self, shard: int) -> Grant:
        """The shard that nobody has, or that this session has already."""

    async def release(self, shard: int) -> None:
        """Not held from the call on; free for others on return, or at the latest when
        the session ends."""

    def lock(self, name: str) -> AbstractAsyncContextManager[Grant]:
        """Waits in line until nobody else has it. Held until the end of the block, or
        of the session, which whoever is in it has to look at."""

    def events(self) -> AsyncIterator[OwnershipEvent]:
        """For one that listens. It ends with the session."""
