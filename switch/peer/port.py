"""What passing requests on needs to know, and from whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from switch.peer.connection import PeerConnection


class CardLookup(Protocol):
    async def shard_of(self, pan_hash: bytes) -> int | None:
        """The shard that has the card; None if no shard has. May raise anything: the
        look-up is then tried again while there is time."""


class Owners(Protocol):
    def owner_of(self, shard: int) -> str | None:
        """The name of the node that has it now, as far as is known here."""


# Returns when the connection is made, or raises OSError.
Dial = Callable[[str, PeerConnection], Awaitable[None]]
