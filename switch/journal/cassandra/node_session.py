"""A node's session, and how far those are who follow its shards behind the answers."""

from __future__ import annotations

from functools import partial

from switch.journal.cassandra import log
from switch.journal.cassandra.chains import Moved, Span, behind, chain_of
from switch.journal.cassandra.publishers import (
    Published,
    read_published,
    write_published,
)
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.session import Session
from switch.journal.cassandra.store import Epoch, LogStore, Position
from switch.journal.cassandra.writer import UNTIMED, SessionWriter, Timed
from switch.journal.port import ShardRecord

# Above it, whoever follows begins anew.
UNMARKED_RECORDS_MAX = 16_384


class CassandraSession(Session):
    def __init__(
        self,
        store: LogStore,
        name: str,
        node: str,
        shard_count: int,
        patience: Patience = PATIENCE,
        timed: Timed = UNTIMED,
    ) -> None:
        writer = SessionWriter(store, name, shard_count, patience=patience, timed=timed)
        super().__init__(store, writer, node, patience)

    # -- how far those are who follow it, by name

    async def mark(
        self, name: str, shard: int, sequence: int, position: object
    ) -> None:
        """It is done with the shard's entries up to `sequence`, which are those told
        up to `position`."""
        assert isinstance(position, Position)
        epoch = self.epochs.get(shard)
        if epoch is None:
            return  # it has gone: its next owner reads on from an older mark
        published = Published(
            sequence, epoch.id.number, epoch.id.session, *_both(position, epoch)
        )
        await write_published(self._store, name, shard, published, self._patience)

    async def unmarked(self, name: str, shard: int) -> list[ShardRecord] | None:
        """What the shard had behind the mark when it came here; None if there is no
        mark, or too much behind it."""
        published = await read_published(self._store, name, shard, self._patience)
        own = self.epochs.get(shard)
        if published is None or own is None:
            return None
        found = await settled(lambda: self._store.read_epochs(shard), self._patience)
        chain = await chain_of(shard, found.epochs, own.parent, self._end_of)
        try:
            spans = behind(chain, published.start)
        except Moved:
            return None
        spans = await log.above_floors(self._store, spans, self._patience)
        again = await read_published(self._store, name, shard, self._patience)
        if again != published:
            return None
        records: list[ShardRecord] = []
        for span in spans:
            more = await self._records_of(shard, span)
            if more is None or len(records) + len(more) > UNMARKED_RECORDS_MAX:
                return None
            records += more
        return [r for r in records if r.first_sequence + r.count > published.sequence]

    async def _records_of(self, shard: int, span: Span) -> list[ShardRecord] | None:
        """None if they are not all there, or too many."""
        records: list[ShardRecord] = []
        position, previous = span.start, None
        while position.number < span.end:
            batch = await settled(
                partial(log.read_batch, self._store, span.session, position),
                self._patience,
            )
            if not batch or len(records) > UNMARKED_RECORDS_MAX:
                return None
            for stored in batch:
                if position.number >= span.end:
                    break
                commit, previous = log.decode(span.session, stored, previous)
                position = stored.position
                records += [each for each in commit.records if each.shard == shard]
        return records

    async def _end_of(self, session: str) -> int:
        row = await settled(lambda: self._store.read_session(session), self._patience)
        assert row is not None
        assert row.sealed_at is not None, "a parent that has not ended"
        return row.sealed_at


def _both(position: Position, epoch: Epoch) -> tuple[int, int]:
    """Not before the epoch: it has begun since, perhaps."""
    start = max(position, epoch.begins_after)
    return start.segment, start.number
