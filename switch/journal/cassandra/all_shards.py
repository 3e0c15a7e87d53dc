"""What somebody who follows all shards of a cluster may have next, whoever owns them.

    session a   ──1──2──1──────2─┤       has ended: up to its end
    session b   ────────3──1───3──2──►   goes on: up to the last commit that counts

Rule 1: of a session that goes on, a commit is taken when it counts for sure: when there
        is one behind it, or a shard was given away behind it, or, if it stays the last
        one, by what `released` says.
Rule 2: nobody is asked for news but the logs. A record in a log in which its shard is
        not known to be says that the shard has moved, and its epochs are read again.
        Which sessions there are is asked now and then; when one has come or ended, all
        shards are looked at. So where there is nothing new, a session that goes on
        costs two readings each time, and a shard nothing.
Rule 3: no log is kept for it. What was dropped before it was read is in a checkpoint,
        whose state it is given instead; entries up to that state may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec

from switch.journal.cassandra import checkpoints, log, recovery
from switch.journal.cassandra.chains import Chain, Moved, Span, behind, chain_of
from switch.journal.cassandra.log import Stored
from switch.journal.cassandra.publishers import Published
from switch.journal.cassandra.released import counts
from switch.journal.cassandra.retrying import PATIENCE, Patience, all_of, settled
from switch.journal.cassandra.store import LogStore, Position, SessionRow
from switch.journal.cassandra.ways import OPEN, EntriesMissing, Reading, Way, Ways
from switch.journal.errors import JournalMismatch
from switch.journal.port import Commit, ShardRecord
from switch.ledger import Limits, State

# Between two times that it is asked which sessions there are.
LOOK_SECONDS = 3.0
# A log of which a reading brought so much may have more. When it brought less, and the
# last commit waits, the rest is left to the next time.
MORE_PARTS = 32
MORE_BYTES = 1 << 20


class Reached(msgspec.Struct, frozen=True):
    """How far somebody is in a shard: nowhere, or at a position behind an entry. What
    the entries up to `base` have done is known from a state."""

    published: Published | None = None
    base: int = 0

    @property
    def sequence(self) -> int:
        return 0 if self.published is None else self.published.sequence


class _Tail(msgspec.Struct):
    """Of a session that goes on: up to where it was read, and counts; the last commit,
    of which that is not known, and since when it has been the last one."""

    at: Position
    released: int
    looked_at: Position | None = None
    last: int = 0
    seen_at: float = 0.0


class AllShardsReader:
    """Whatever it raises, it is to be made anew: Moved, when something was dropped, or
    moved, while it was read; JournalMismatch, when these places are not this log's."""

    def __init__(
        self,
        store: LogStore,
        shard_count: int,
        reached: Mapping[int, Reached],
        begin_from: Callable[[State], None],
        patience: Patience = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        ended: dict[str, int] | None = None,
    ) -> None:
        """`begin_from` is given the state of a shard of which entries were dropped that
        were not read: it is behind all of these. `ended` sessions, and where, are
        remembered for the next reader."""
        self._store = store
        self._reached = dict(reached)
        self._begin_from = begin_from
        self._patience = patience
        self._clock = clock
        self._ways = Ways()
        self._tails: dict[str, _Tail] = {}
        self._ended = {} if ended is None else ended
        self._shards = frozenset(range(shard_count))
        self._stale = set(self._shards)  # whose epochs are to be read
        self._look_at = 0.0
        self._now = 0.0
        self._last_read = ""

    @property
    def waits_since(self) -> float | None:
        """Since when a commit has been seen that may not be read yet."""
        waiting = [
            tail.seen_at for tail in self._tails.values() if tail.last > tail.released
        ]
        return min(waiting, default=None)

    async def read(self, entries_max: int) -> Reading:
        """A piece of each log, until there are so many entries."""
        self._now = self._clock()
        if self._now >= self._look_at:
            self._look_at = self._now + LOOK_SECONDS
            await self._look()
        while self._stale:
            some, self._stale = sorted(self._stale), set()
            await all_of([partial(self._renew, shard) for shard in some])
        reading = Reading([], {}, 0, has_more=False)
        for session, ends in self._in_turn():
            reading = await self._read_piece(session, ends, reading)
            self._last_read = session
            if reading.entries >= entries_max:
                reading = msgspec.structs.replace(reading, has_more=True)
                break
        for shard, position in reading.positions.items():
            base = self._reached.get(shard, Reached()).base
            self._reached[shard] = Reached(position, base)
        if self._stale:
            reading = msgspec.structs.replace(reading, has_more=True)
        return reading

    # -- which sessions there are

    async def _look(self) -> None:
        names = await settled(self._store.list_sessions, self._patience)
        known = {*self._ended, *self._tails}
        new = [name for name in names if name not in known]
        quiet = [name for name, tail in self._tails.items() if _is_quiet(tail)]
        rows = await all_of([partial(self._row, name) for name in (*new, *quiet)])
        for row in rows:
            if row is None:
                continue  # it is just being made
            if row.session not in known:
                self._stale |= self._shards
            if row.sealed_at is not None:
                self._end(row.session, row.sealed_at)
            elif row.session in self._tails:
                await self._expect_there(row.session)
            else:
                await self._follow(row.session)
        for tail in self._tails.values():
            tail.looked_at = tail.at

    async def _follow(self, session: str) -> None:
        """From a place before all that its shards will have, in epochs that are not
        read yet."""
        start = await log.start_of(self._store, session, self._patience)
        self._tails[session] = _Tail(start, start.number)

    async def _expect_there(self, session: str) -> None:
        at = self._tails[session].at
        if await log.is_dropped(self._store, session, at, self._patience):
            raise Moved

    async def _row(self, session: str) -> SessionRow | None:
        return await settled(lambda: self._store.read_session(session), self._patience)

    def _end(self, session: str, end: int) -> None:
        self._ended[session] = end
        if self._tails.pop(session, None) is not None:
            self._stale |= self._shards

    # -- where a shard is

    async def _renew(self, shard: int) -> None:
        found = await settled(lambda: self._store.read_epochs(shard), self._patience)
        chain = await chain_of(shard, found.epochs, found.current, self._end_of)
        reached = self._reached.get(shard, Reached())
        spans = _left(chain, reached)
        above = await log.above_floors(self._store, spans, self._patience)
        if log.are_cut(spans, above):
            # Asked behind the floors: what is below them is in this checkpoint.
            reached = await self._behind_checkpoint(shard, reached)
            self._reached[shard] = reached
        self._ways.by_shard[shard] = Way(above, reached.sequence, reached.base)

    async def _end_of(self, session: str) -> int:
        end = self._ended.get(session)
        if end is not None:
            return end
        row = await self._row(session)
        if row is not None and row.sealed_at is not None:
            self._end(session, row.sealed_at)
            return row.sealed_at
        return OPEN

    async def _behind_checkpoint(self, shard: int, reached: Reached) -> Reached:
        head = await checkpoints.read_head(self._store, shard, self._patience)
        if head is None or head.sequence <= max(reached.sequence, reached.base):
            return reached
        found = await checkpoints.read(self._store, shard, self._patience)
        assert found is not None
        state = recovery.state_of(*found, Limits())
        self._begin_from(state)
        return Reached(reached.published, state.sequence)

    # -- reading

    def _in_turn(self) -> Sequence[tuple[str, dict[int, int]]]:
        """The logs that may have something, behind the one that was read last."""
        groups = self._ways.groups(lambda span: span.end)
        for session in groups.keys() - self._tails.keys() - self._ended.keys():
            del groups[session]
            self._look_at = self._now  # it has come since
        for session in self._tails:
            groups.setdefault(session, {})
        return sorted(
            groups.items(), key=lambda item: (item[0] <= self._last_read, item[0])
        )

    async def _read_piece(
        self, session: str, ends: dict[int, int], before: Reading
    ) -> Reading:
        tail = self._tails.get(session)
        starts = [] if tail is None else [tail.at]
        at = min([*starts, *([self._ways.start(ends)] if ends else [])])
        batch = await settled(
            partial(log.read_batch, self._store, session, at), self._patience
        )
        there = max(ends.values()) if tail is None else tail.at.number
        if not batch and at.number < there:
            await log.explain_gap(self._store, session, at, there, self._patience)
        if not batch:
            return before
        end = there
        if tail is not None:
            # Where a shard was given away, that was a released commit.
            given = [each for each in ends.values() if each < OPEN]
            tail.released = max(tail.released, *given, 0)
            end = await self._counting(session, tail, batch[-1])
        commits, entries = before.commits, before.entries
        for position, commit in log.decoded(session, batch, end):
            at = position
            records = self._records(session, commit, ends)
            if tail is not None:
                self._note_moves(session, commit, ends)
            if records:
                commits.append(msgspec.structs.replace(commit, records=records))
                entries += sum(record.count for record in records)
        for shard in ends:
            self._ways.get_on(shard, at, before.positions)
        is_whole = at == batch[-1].position
        has_more = tail is None or is_whole or at < tail.at or _may_have_more(batch)
        if tail is not None:
            tail.at = max(tail.at, at)
        return Reading(commits, before.positions, entries, before.has_more or has_more)

    async def _counting(self, session: str, tail: _Tail, last: Stored) -> int:
        """Up to where the session counts for sure, of what was read."""
        number = last.position.number
        tail.released = max(tail.released, number - 1)
        if number > tail.released:
            if tail.last != number:
                tail.last, tail.seen_at = number, self._now
            elif tail.seen_at < self._now and await counts(
                self._store, session, last, self._patience
            ):
                tail.released = number
        return tail.released

    def _records(
        self, session: str, commit: Commit, ends: dict[int, int]
    ) -> tuple[ShardRecord, ...]:
        try:
            return tuple(self._ways.cut(session, commit, ends))
        except EntriesMissing as error:
            if ends[error.shard] < OPEN:
                raise
            # It was elsewhere meanwhile, and is back.
            raise Moved from None

    def _note_moves(self, session: str, commit: Commit, ends: dict[int, int]) -> None:
        for record in commit.records:
            way = self._ways.by_shard[record.shard]
            last = record.first_sequence + record.count - 1
            if last > way.sequence and not way.covers(session, commit.number):
                self._stale.add(record.shard)


def _left(chain: Chain, reached: Reached) -> list[Span]:
    """What is left to be read of it."""
    published = reached.published
    try:
        return behind(chain, None if published is None else published.start)
    except Moved:
        assert published is not None
        raise JournalMismatch(
            f"a position in shard {chain.shard} that is of another log",
            expected="an epoch of the shard",
            got=f"epoch {published.epoch} of session {published.session}",
        ) from None


def _is_quiet(tail: _Tail) -> bool:
    return tail.looked_at == tail.at


def _may_have_more(batch: Collection[Stored]) -> bool:
    parts = [part for stored in batch for part in stored.parts]
    size = sum(len(part.data) for part in parts)
    return len(parts) >= MORE_PARTS or size >= MORE_BYTES
