"""Snapshots while the switch runs: one shard after another, so that none waits long.

Rule 1: a snapshot is written only after everything in it is released; the dump is
        taken, then the commit that carries its last entries is waited for.
Rule 2: it is named with the commit that was durable before the dump, from which replay
        finds every entry that the dump may lack.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from switch.journal.port import JournalError, SnapshotStore
from switch.ledger import dump
from switch.shard._group import CommitGroup, Shard

_log = logging.getLogger("switch.shard")


class Snapshotter:
    """Takes a snapshot of every shard when enough entries have come since the last."""

    def __init__(
        self,
        group: CommitGroup,
        store: SnapshotStore,
        *,
        every_entries: int,
        sequences: Sequence[int],
    ) -> None:
        """`sequences`: of the snapshot that each shard has; -1: none."""
        self._group = group
        self._store = store
        self._every_entries = every_entries
        self._taken_at_entries = group.entries
        self._sequences = list(sequences)
        self.rounds = 0

    async def run(self, interval_s: float = 1.0) -> None:
        """Until cancelled. A store that cannot be written costs restart time only."""
        while True:
            await asyncio.sleep(interval_s)
            if self._group.entries - self._taken_at_entries < self._every_entries:
                continue
            try:
                await self.take_all(pause_s=0.01)
            except JournalError as error:
                _log.error("snapshot failed, a restart will replay more: %s", error)
                self._taken_at_entries = self._group.entries

    async def take_all(self, pause_s: float = 0.0) -> None:
        """A snapshot of each shard that changed. Raises JournalError."""
        complete_to = self._group.head
        self._taken_at_entries = self._group.entries
        for shard in self._group.shards:
            if shard.state.sequence != self._sequences[shard.state.shard]:
                await self._take(shard)
                await asyncio.sleep(pause_s)
        # A shard that was left out has had no entry since its snapshot: one that is
        # quiet for years does not make a start read the journal from its beginning.
        await asyncio.get_running_loop().run_in_executor(
            None, self._store.mark_complete, complete_to
        )
        self.rounds += 1

    async def _take(self, shard: Shard) -> None:
        loop = asyncio.get_running_loop()
        commit = self._group.head
        sequence = shard.state.sequence
        data = dump(shard.state)
        released: asyncio.Future[None] = loop.create_future()
        self._group.wait(released)
        await released
        await loop.run_in_executor(
            None, self._store.write, shard.state.shard, sequence, commit, data
        )
        self._sequences[shard.state.shard] = sequence
