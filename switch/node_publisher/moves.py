"""What operators ask of a cluster's engines: how far they are, and to go on somewhere
else. Nodes may run; they find out within a second or two.

Rule: a rewind moves no shard forward, and a skip moves none back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial

import msgspec

from switch.cluster.rows import NAME as ROWS
from switch.journal.cassandra import checkpoints, log
from switch.journal.cassandra.chains import Chain, Span, behind, chain_of
from switch.journal.cassandra.following import further
from switch.journal.cassandra.publishers import (
    Published,
    current_name,
    forget,
    move,
    read_published,
    remembered,
)
from switch.journal.cassandra.released import released_end
from switch.journal.cassandra.retrying import PATIENCE, settled
from switch.journal.cassandra.store import LogStore
from switch.journal.port import Commit, ShardRecord
from switch.publish.port import PublishError

# Who has positions too, and is no engine.
_READERS = frozenset({ROWS})
# How much is done, from 0 to 1, and a few words.
Advance = Callable[[float, str], None]


class EngineReport(msgspec.Struct, frozen=True):
    engine: str
    configured: bool
    # That are out, and that wait: released by now, or about to be.
    entries: int
    waiting: int


class Move(msgspec.Struct, frozen=True):
    engine: str
    shards: int
    # Entries that are sent again, or are not sent.
    entries: int


class Forgotten(msgspec.Struct, frozen=True):
    engine: str
    # That were out.
    entries: int


class Place(msgspec.Struct, frozen=True):
    """A record of a shard, and the position before it."""

    before: Published
    commit: Commit
    record: ShardRecord

    @property
    def last(self) -> int:
        return self.record.first_sequence + self.record.count - 1


class ClusterEngines:
    def __init__(self, store: LogStore, shard_count: int, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._store = store
        self._shard_count = shard_count

    async def all_names(self) -> list[str]:
        """Those that are configured, and others for which logs are kept."""
        others = await self._others()
        return [*self.names, *others]

    async def forget(self, engine: str) -> Forgotten:
        """Logs are kept for it no longer."""
        if engine in self.names:
            raise PublishError(
                "expected an engine that no node has in its configuration, got "
                f"{engine}, which is configured"
            )
        others = await self._others()
        if engine not in others:
            known = " or ".join(others) or "but there is none"
            raise PublishError(
                f"expected an engine that logs are kept for, {known}, got {engine}"
            )
        positions = await self._positions(engine)
        await forget(self._store, engine)
        return Forgotten(engine, sum(each.sequence for each in positions.values()))

    async def report(self, engine: str, advance: Advance) -> EngineReport:
        positions = await self._positions(engine)
        waiting = 0
        for chain in await self._chains():
            position = positions.get(chain.shard)
            async for place in self._behind(chain, position):
                waiting += place.record.count
            advance((chain.shard + 1) / self._shard_count, f"{waiting:,} entries")
        entries = sum(each.sequence for each in positions.values())
        return EngineReport(engine, engine in self.names, entries, waiting)

    async def rewind(
        self,
        engine: str,
        advance: Advance,
        *,
        moment: int | None = None,
        event_id: str | None = None,
    ) -> Move:
        """To before the first entry of that time, in ms since 1970, in each shard; or
        to before that entry, in its shard; or else to the beginning."""
        self._expect(engine)
        positions = await self._positions(engine)
        if moment is None and event_id is None:
            return await self._move(engine, positions, {})
        wanted = dict(positions)
        for chain in await self._chains(event_id):
            found = await self._first(chain, None, moment, event_id)
            if found is not None and _is_before(found, positions.get(chain.shard)):
                wanted[chain.shard] = found.before
            advance((chain.shard + 1) / self._shard_count, f"shard {chain.shard}")
        return await self._move(engine, positions, wanted)

    async def skip(
        self,
        engine: str,
        advance: Advance,
        *,
        moment: int | None = None,
        event_id: str | None = None,
    ) -> Move:
        """The same, forward; or else to the end."""
        self._expect(engine)
        positions = await self._positions(engine)
        wanted = dict(positions)
        for chain in await self._chains(event_id):
            position = positions.get(chain.shard)
            first = None
            if moment is not None or event_id is not None:
                first = await self._first(chain, position, moment, event_id)
            # None: all of it is older.
            end = await self._end(chain, position) if first is None else first.before
            if end is not None:
                wanted[chain.shard] = end
            advance((chain.shard + 1) / self._shard_count, f"shard {chain.shard}")
        return await self._move(engine, positions, wanted)

    # -- the parts

    def _expect(self, engine: str) -> None:
        if engine not in self.names:
            known = " or ".join(self.names) or "but there is none"
            raise PublishError(f"expected an engine, {known}, got {engine}")

    async def _others(self) -> list[str]:
        known = _READERS.union(self.names)
        return [each for each in await remembered(self._store) if each not in known]

    async def _positions(self, engine: str) -> dict[int, Published]:
        name = await current_name(self._store, engine)
        found = {}
        for shard in range(self._shard_count):
            position = await read_published(self._store, name, shard)
            if position is not None:
                found[shard] = position
        return found

    async def _chains(self, event_id: str | None = None) -> list[Chain]:
        """Of that entry's shard, or of all."""
        shards: Iterable[int] = range(self._shard_count)
        if event_id is not None:
            shards = [_parse(event_id)[0]]
        ends: dict[str, int] = {}

        async def end_of(session: str) -> int:
            if session not in ends:
                ends[session] = await released_end(self._store, session)
            return ends[session]

        found = []
        for shard in shards:
            epochs = await settled(partial(self._store.read_epochs, shard), PATIENCE)
            found.append(await chain_of(shard, epochs.epochs, epochs.current, end_of))
        return found

    async def _first(
        self,
        chain: Chain,
        position: Published | None,
        moment: int | None,
        event_id: str | None,
    ) -> Place | None:
        sequence = None if event_id is None else _parse(event_id)[1]
        async for place in self._behind(chain, position):
            if moment is not None and place.commit.at >= moment:
                return place
            if sequence is not None and place.last >= sequence:
                return place
        if event_id is not None:
            raise PublishError(f"expected an entry of the journal, got {event_id}")
        return None

    async def _end(self, chain: Chain, position: Published | None) -> Published | None:
        """Behind all that is in it. Not all of it is read: there is a checkpoint."""
        head = await checkpoints.read_head(self._store, chain.shard, PATIENCE)
        if head is not None:
            of_checkpoint = Published(
                head.sequence, head.epoch, head.session, head.segment, head.commit
            )
            position = further(position, of_checkpoint)
        found = position
        async for place in self._behind(chain, position):
            found = msgspec.structs.replace(place.before, sequence=place.last)
        return found

    async def _behind(
        self, chain: Chain, position: Published | None
    ) -> AsyncIterator[Place]:
        """The shard's records behind a position, from what is still there on."""
        spans = behind(chain, None if position is None else position.start)
        sequence = 0 if position is None else position.sequence
        for span in await log.above_floors(self._store, spans, PATIENCE):
            async for place in self._of_span(chain.shard, span, sequence):
                yield place
                sequence = place.last

    async def _of_span(
        self, shard: int, span: Span, sequence: int
    ) -> AsyncIterator[Place]:
        session, at = span.session, span.start
        async for position, commit in log.between(
            self._store, session, at, span.end, PATIENCE
        ):
            before = Published(
                sequence, span.epoch.number, session, at.segment, at.number
            )
            at = position
            for record in commit.records:
                place = Place(before, commit, record)
                if record.shard == shard and place.last > sequence:
                    sequence = place.last
                    yield place

    async def _move(
        self,
        engine: str,
        positions: dict[int, Published],
        wanted: dict[int, Published],
    ) -> Move:
        differences = [
            abs(_sequence(wanted.get(shard)) - _sequence(positions.get(shard)))
            for shard in range(self._shard_count)
        ]
        await move(self._store, engine, wanted)
        return Move(engine, sum(map(bool, differences)), sum(differences))


def _sequence(position: Published | None) -> int:
    return 0 if position is None else position.sequence


def _is_before(place: Place, position: Published | None) -> bool:
    return position is not None and place.before.sequence < position.sequence


def _parse(event_id: str) -> tuple[int, int]:
    shard, separator, sequence = event_id.partition("-")
    if not (separator and shard.isdecimal() and sequence.isdecimal()):
        raise PublishError(f"expected an id, SHARD-SEQUENCE, got {event_id}")
    return int(shard), int(sequence)
