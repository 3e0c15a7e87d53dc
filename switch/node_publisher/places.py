"""Where one engine is in each shard: what it has settled, and what is written of it.

Rule 1: what is written is behind what was settled, and is where whoever has the shard
        next goes on.
Rule 2: it is written now and then, beside what goes on, and at once for a shard that
        leaves. A shard without new entries is written when its log has a new segment:
        it does not keep old ones.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

import msgspec

from switch.journal.cassandra.publishers import (
    Published,
    current_name,
    write_published,
)
from switch.journal.cassandra.retrying import PATIENCE, Patience, all_of
from switch.journal.cassandra.store import LogStore

# Between two times that positions are written, and so many of them in a second: each is
# a write at a quorum, beside those of the journal.
POSITION_SECONDS = 1.0
POSITIONS_PER_SECOND = 64
# Positions that are remembered until the engine has settled what is before them.
MARKS_MAX = 64
# What the end may take.
CLOSE_SECONDS_MAX = 2.0

Positions = Mapping[int, Published]


class Place(msgspec.Struct, frozen=True):
    """Of the shards that got on. Up to commit `reached` of the session nothing is left
    then; -1: something is."""

    positions: dict[int, Published]
    entries: int
    reached: int


class ShardPlaces:
    """`open` before anything else, with each engine anew."""

    def __init__(
        self, store: LogStore, engine: str, patience: Patience = PATIENCE
    ) -> None:
        self.engine = engine
        # Under which the positions are; `moved_to`, if an operator has moved it.
        self.name = engine
        self.moved_to: str | None = None
        self.settled: dict[int, Published] = {}
        self._stored: dict[int, Published] = {}
        self._store = store
        self._patience = patience
        self._next_at = 0.0
        self._storing: asyncio.Task[None] | None = None
        self._count = 0
        self._marks: list[tuple[int, dict[int, Published]]] = []

    async def open(self, *, is_new_engine: bool = True) -> None:
        """A new engine has settled nothing, and what the one before it had not is
        nowhere any more; the same one goes on counting."""
        await self._wait_stored()
        if is_new_engine:
            self._count = 0
        self._marks.clear()
        name = await current_name(self._store, self.engine, self._patience)
        if name != self.name:
            self.settled.clear()
            self._stored.clear()
        self.name, self.moved_to = name, None

    def begin(self, shard: int, published: Published | None) -> None:
        """The engine goes on there."""
        if published is not None and published != self.settled.get(shard):
            self.settled[shard] = self._stored[shard] = published

    def advance(self, positions: dict[int, Published]) -> None:
        """One more batch was acknowledged."""
        self._count += 1
        self._marks.append((self._count, positions))
        if len(self._marks) > MARKS_MAX:
            # Two in one, which counts when the later one does.
            (_, first), (count, second) = self._marks[:2]
            self._marks[:2] = [(count, {**first, **second})]

    def skip(self, positions: dict[int, Published]) -> None:
        """There was nothing to send before them, and nothing is under way."""
        if self._marks:
            count, last = self._marks[-1]
            self._marks[-1] = count, {**last, **positions}
        else:
            self.settled |= positions

    def settle(self, count: int) -> None:
        """So many batches of this engine, from its first one on."""
        while self._marks and self._marks[0][0] <= count:
            self.settled |= self._marks.pop(0)[1]

    def store(self) -> None:
        """Meanwhile it goes on."""
        if self._storing is not None:
            if not self._storing.done():
                return
            storing, self._storing = self._storing, None
            storing.result()
        now = time.monotonic()
        if now >= self._next_at:
            due = self._due()
            seconds = max(POSITION_SECONDS, len(due) / POSITIONS_PER_SECOND)
            self._next_at = now + seconds
            self._storing = asyncio.create_task(self._store_and_look(due))

    async def leave(self, shards: Iterable[int]) -> None:
        """They are somebody else's now."""
        await self._wait_stored()
        some = set(shards)
        await self._write({s: p for s, p in self._due().items() if s in some})
        for shard in some:
            self.settled.pop(shard, None)
            self._stored.pop(shard, None)

    async def close(self) -> None:
        """Writes what is settled, if it can."""
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                with suppress(Exception):
                    await self._wait_stored()
                await self._write(self._due())

    def _due(self) -> dict[int, Published]:
        return {
            shard: position
            for shard, position in self.settled.items()
            if _is_new(position, self._stored.get(shard))
        }

    async def _store_and_look(self, due: Positions) -> None:
        await self._write(due)
        name = await current_name(self._store, self.engine, self._patience)
        self.moved_to = None if name == self.name else name

    async def _write(self, positions: Positions) -> None:
        name = self.name
        await all_of(
            [
                partial(
                    write_published, self._store, name, shard, position, self._patience
                )
                for shard, position in positions.items()
            ]
        )
        self._stored |= positions

    async def _wait_stored(self) -> None:
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await storing


def _is_new(position: Published, stored: Published | None) -> bool:
    if stored is None or position.sequence != stored.sequence:
        return True
    return (position.session, position.segment) != (stored.session, stored.segment)
