"""What a publisher may publish next, of many shards at once.

    shard 1   ── session a ──┤ session c ──►
    shard 2   ──── session b ────┤ session c ──►

Rule 1: what was released may be published: of the session that goes on, up to where
        its node says that it is released; of ended ones, up to their end. Nothing that
        was merely read or acknowledged.
Rule 2: a reading is bounded, and takes a piece of each log that there is something in:
        a shard that is far behind does not keep the others waiting until it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from switch.journal.cassandra import log
from switch.journal.cassandra.chains import Chain, Moved, Span, behind, chain_of
from switch.journal.cassandra.publishers import (
    Published,
    read_published,
    write_published,
)
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import Epoch, EpochId, LogStore, Position
from switch.journal.cassandra.ways import OPEN, Reading, Way, Ways
from switch.journal.port import Commit


class ShardReader:
    """Reads on for one publisher, in the shards of one session and what was before."""

    def __init__(
        self,
        store: LogStore,
        publisher: str,
        session: str,
        patience: Patience = PATIENCE,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._session = session
        self._patience = patience
        self._ways = Ways()
        self._ends: dict[str, int] = {}  # of sessions that have ended: for ever

    async def add(
        self, shard: int, epoch: int, at_least: Published | None = None
    ) -> Published | None:
        """The session has the shard in this epoch. Goes on where the publisher is, or
        at `at_least`, whichever is further: returns it. Raises Moved when others have
        got further, or the epoch is not there: to be tried again, if at all."""
        stored = await self._published(shard)
        published = further(stored, at_least)
        found = await settled(lambda: self._store.read_epochs(shard), self._patience)
        own = _epoch_of(found.epochs, EpochId(epoch, self._session))
        before = await chain_of(shard, found.epochs, own.parent, self._end_of)
        open_span = Span(own.id, own.begins_after, OPEN)
        chain = Chain(shard, own, (*before.spans, open_span))
        spans = behind(chain, None if published is None else published.start)
        spans = await log.above_floors(self._store, spans, self._patience)
        # Asked again behind the floors: what is below them is out, then.
        again = await self._published(shard)
        if again != stored:
            await self._write_back(shard, further(stored, again))
            raise Moved
        sequence = 0 if published is None else published.sequence
        self._ways.by_shard[shard] = Way(spans, sequence)
        return published

    def remove(self, shard: int) -> None:
        self._ways.by_shard.pop(shard, None)

    async def read(self, released: Position, entries_max: int) -> Reading:
        """The next commits, at least as many entries if there are. Whatever this
        raises, the reader is to be made anew. Raises Moved when a log was dropped."""
        commits: list[Commit] = []
        positions: dict[int, Published] = {}
        entries = 0
        while entries < entries_max:
            groups = self._groups(released)
            if not groups:
                return Reading(commits, positions, entries, has_more=False)
            for session, ends in groups.items():
                for commit in await self._read_piece(session, ends, positions):
                    commits.append(commit)
                    entries += sum(record.count for record in commit.records)
        return Reading(commits, positions, entries, bool(self._groups(released)))

    def _groups(self, released: Position) -> dict[str, dict[int, int]]:
        def end_of(span: Span) -> int:
            is_own = span.session == self._session
            return min(span.end, released.number) if is_own else span.end

        return self._ways.groups(end_of)

    async def _read_piece(
        self, session: str, ends: dict[int, int], positions: dict[int, Published]
    ) -> list[Commit]:
        at = self._ways.start(ends)
        end = max(ends.values())
        batch = await settled(
            partial(log.read_batch, self._store, session, at), self._patience
        )
        if not batch:
            await log.explain_gap(self._store, session, at, end, self._patience)
        commits: list[Commit] = []
        for position, commit in log.decoded(session, batch, end):
            at = position
            records = tuple(self._ways.cut(session, commit, ends))
            if records:
                commits.append(msgspec.structs.replace(commit, records=records))
        for shard in ends:
            self._ways.get_on(shard, at, positions)
        return commits

    async def _write_back(self, shard: int, position: Published | None) -> None:
        """It may be on one replica only, and be read or not: now it will be read."""
        assert position is not None
        await write_published(
            self._store, self._publisher, shard, position, self._patience
        )

    async def _published(self, shard: int) -> Published | None:
        return await read_published(self._store, self._publisher, shard, self._patience)

    async def _end_of(self, session: str) -> int:
        """Of one that had a shard before this one: it was ended then."""
        end = self._ends.get(session)
        if end is not None:
            return end
        row = await settled(lambda: self._store.read_session(session), self._patience)
        if row is None or row.sealed_at is None:
            raise Moved
        self._ends[session] = row.sealed_at
        return row.sealed_at


def further(one: Published | None, other: Published | None) -> Published | None:
    """As Cassandra compares them."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda each: (each.sequence, each.encode()))


def _epoch_of(epochs: Sequence[Epoch], wanted: EpochId) -> Epoch:
    for epoch in epochs:
        if epoch.id == wanted:
            return epoch
    raise Moved
