"""What keeps the journal's tables small: one node of the cluster drops, pass after
pass, what of the logs nobody needs and is older than it is to be kept.

Rule 1: it is safe whoever does it, and if two do. The lock saves work, nothing else.
Rule 2: whoever has ever written a position counts as a reader, whether this node knows
        it or not, until an operator has it forgotten. A reader that is behind keeps the
        log, for as long as it is.
Rule 3: a session that has not ended and that no node has had for a while is ended: it
        was lost when it had no shards, or all of them were given up, and nobody takes
        anything over from it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from switch.cluster.port import ShardOwnership
from switch.cluster.rows import NAME as ROWS
from switch.journal.cassandra.chains import Moved
from switch.journal.cassandra.publishers import remembered
from switch.journal.cassandra.retention import tidy
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import LogStore
from switch.journal.cassandra.takeover import end_session
from switch.journal.errors import JournalError
from switch.observe.log import event
from switch.observe.metrics import Sample
from switch.ownership.port import OwnershipError

LOCK = "retention"
# Between two passes, and at least so many times as long as the last one took.
PASS_S = 60.0
RESTS = 9
# Logs that are looked at in one pass.
SESSIONS_AT_ONCE_MAX = 256

_log = logging.getLogger("switch.cluster")


class Retention:
    """Of a node. `run` is for each of its sessions."""

    def __init__(
        self,
        store: LogStore,
        shard_count: int,
        *,
        kept_ms: int,
        clock: Callable[[], int],
        readers: Collection[str] = (ROWS,),
        patience: Patience = PATIENCE,
    ) -> None:
        """`readers` are those that need the whole log as long as they have not written
        a position."""
        self.passes = 0
        self.dropped = 0
        self._store = store
        self._shard_count = shard_count
        self._kept_ms = kept_ms
        self._clock = clock
        self._readers = frozenset(readers)
        self._patience = patience
        self._gone: set[str] = set()
        self._suspects: frozenset[str] = frozenset()
        self._last = ""  # of those that were looked at

    async def run(self, ownership: ShardOwnership, session: str) -> None:
        while True:
            try:
                async with ownership.lock(LOCK):
                    await self._go_on(ownership, session)
            except OwnershipError as error:
                event(_log, logging.INFO, "no lock for retention", reason=error)
            await asyncio.sleep(PASS_S)

    async def _go_on(self, ownership: ShardOwnership, session: str) -> None:
        while True:
            started = time.monotonic()
            living = [member.session for member in ownership.members()]
            try:
                await self.once(living, session)
            except (JournalError, Moved) as error:
                event(_log, logging.WARNING, "logs not tidied", reason=error)
            took = time.monotonic() - started
            await asyncio.sleep(max(PASS_S, RESTS * took))

    async def once(self, living: Iterable[str], session: str) -> int:
        """One pass, by a session: how many segments were dropped. `living` are the
        sessions of the nodes that are there. Raises JournalError or Moved."""
        store, patience = self._store, self._patience
        publishers = await remembered(store, patience)
        some = self._some(await settled(store.list_sessions, patience))
        found = await tidy(
            store,
            some,
            range(self._shard_count),
            sorted(self._readers.union(publishers)),
            self._clock() - self._kept_ms,
            patience,
        )
        self.passes += 1
        self.dropped += found.dropped
        self._gone |= found.gone
        suspects = found.unsealed - {*living, session}
        for other in sorted(suspects & self._suspects):
            await end_session(store, other, session, patience)
            event(_log, logging.INFO, "session ended for good", session=other)
        self._suspects = self._suspects.difference(some) | suspects
        if found.dropped:
            event(_log, logging.INFO, "segments dropped", segments=found.dropped)
        return found.dropped

    def samples(self) -> Iterator[Sample]:
        """For a scrape."""
        yield Sample("retention_passes", self.passes)
        yield Sample("segments_dropped", self.dropped)

    def _some(self, sessions: Iterable[str]) -> list[str]:
        """Those of which something is left; a part of them, if they are many: the next
        ones in their order."""
        left = sorted(set(sessions) - self._gone)
        after = [each for each in left if each > self._last]
        some = (after + left)[: min(SESSIONS_AT_ONCE_MAX, len(left))]
        self._last = some[-1] if len(some) < len(left) else ""
        return some
