"""Several who follow a session, as one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from switch.cluster.port import Follower
from switch.journal.port import ShardRecord
from switch.ledger import State


class Followers:
    """See `switch.cluster.port.Follower`."""

    def __init__(self, *each: Follower) -> None:
        self._each = each

    def opened(self, state: State) -> None:
        for follower in self._each:
            follower.opened(state)

    def closed(self, shard: int) -> None:
        for follower in self._each:
            follower.closed(shard)

    def told(self, records: Sequence[ShardRecord]) -> None:
        for follower in self._each:
            follower.told(records)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for follower in self._each:
                    tasks.create_task(follower.run())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
