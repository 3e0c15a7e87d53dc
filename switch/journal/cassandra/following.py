"""What a publisher may publish next, of many shards at once.

    shard 1   ── session a ──┤ session c ──►
    shard 2   ──── session b ────┤ session c ──►

Rule 1: what was released may be published: of the session that goes on, up to where
        its node says that it is released; of ended ones, up to their end. Nothing that
        was merely read or acknowledged.
Rule 2: a log is read once for all shards that go on in it. A shard's records come in
        their order: the sessions that had it one after the other.
Rule 3: a reading is bounded, and takes a piece of each log that there is something in:
        a shard that is far behind does not keep the others waiting until it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

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
from switch.journal.errors import JournalDamaged
from switch.journal.port import Commit, ShardRecord

_OPEN: Final = 2**63 - 1  # the end of an epoch that goes on


class Reading(msgspec.Struct, frozen=True):
    """Some commits, of the shards' records alone; for each shard that got on, the
    position behind them; and whether there was more that may be read."""

    commits: list[Commit]
    positions: dict[int, Published]
    entries: int
    has_more: bool


class _Way(msgspec.Struct):
    """A shard's: what is left of its spans, and the last entry that was read."""

    spans: list[Span]
    sequence: int


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
        self._ways: dict[int, _Way] = {}
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
        open_span = Span(own.id, own.begins_after, _OPEN)
        chain = Chain(shard, own, (*before.spans, open_span))
        spans = behind(chain, None if published is None else published.start)
        spans = await log.above_floors(self._store, spans, self._patience)
        # Asked again behind the floors: what is below them is out, then.
        again = await self._published(shard)
        if again != stored:
            await self._write_back(shard, further(stored, again))
            raise Moved
        self._ways[shard] = _Way(spans, 0 if published is None else published.sequence)
        return published

    def remove(self, shard: int) -> None:
        self._ways.pop(shard, None)

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
        """By session: the shards that go on in its log, and up to where."""
        groups: dict[str, dict[int, int]] = {}
        for shard, way in self._ways.items():
            while way.spans[0].end <= way.spans[0].start.number:
                way.spans.pop(0)
            span = way.spans[0]
            end = span.end
            if span.session == self._session:
                end = min(end, released.number)
            if span.start.number < end:
                groups.setdefault(span.session, {})[shard] = end
        return groups

    async def _read_piece(
        self, session: str, ends: dict[int, int], positions: dict[int, Published]
    ) -> list[Commit]:
        at = min(self._ways[shard].spans[0].start for shard in ends)
        end = max(ends.values())
        batch = await settled(
            partial(log.read_batch, self._store, session, at), self._patience
        )
        if not batch:
            await log.explain_gap(self._store, session, at, end, self._patience)
        commits: list[Commit] = []
        previous: int | None = None
        for stored in batch:
            if stored.position.number > end:
                break
            commit, previous = log.decode(session, stored, previous)
            at = stored.position
            records = tuple(self._new(session, commit, ends))
            if records:
                commits.append(msgspec.structs.replace(commit, records=records))
        for shard in ends:
            self._get_on(shard, at, positions)
        return commits

    def _new(
        self, session: str, commit: Commit, ends: dict[int, int]
    ) -> Iterator[ShardRecord]:
        for record in commit.records:
            end = ends.get(record.shard)
            if end is None:
                continue
            way = self._ways[record.shard]
            last = record.first_sequence + record.count - 1
            is_in_span = way.spans[0].start.number < commit.number <= end
            if not is_in_span or last <= way.sequence:
                continue
            if way.sequence and record.first_sequence > way.sequence + 1:
                raise JournalDamaged(
                    f"entries of shard {record.shard} are missing",
                    path=log.place(session),
                    commit=commit.number,
                    expected=f"entry {way.sequence + 1}",
                    got=f"entry {record.first_sequence}: what was before it is dropped",
                )
            way.sequence = last
            yield record

    def _get_on(
        self, shard: int, at: Position, positions: dict[int, Published]
    ) -> None:
        way = self._ways[shard]
        span = way.spans[0]
        if at > span.start:
            way.spans[0] = Span(span.epoch, at, span.end)
            positions[shard] = Published(
                way.sequence, span.epoch.number, span.session, at.segment, at.number
            )

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
