"""Cards and owners in memory, for tests."""

from __future__ import annotations

import asyncio
from collections import deque


class MemoryCards:
    """See `switch.peer.port.CardLookup`. `faults`: what the next look-ups raise."""

    def __init__(self, shards: dict[bytes, int] | None = None) -> None:
        self.shards = {} if shards is None else shards
        self.faults: deque[Exception] = deque()
        self.asked: list[bytes] = []

    async def shard_of(self, pan_hash: bytes) -> int | None:
        self.asked.append(pan_hash)
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.popleft()
        return self.shards.get(pan_hash)


class MemoryOwners:
    """See `switch.peer.port.Owners`."""

    def __init__(self, owners: dict[int, str] | None = None) -> None:
        self.owners = {} if owners is None else owners

    def owner_of(self, shard: int) -> str | None:
        return self.owners.get(shard)
