"""Where one engine is: what it has acknowledged, what it has settled, what is written.

Rule 1: `last` is behind what was acknowledged; that goes on from there. What is written
        is behind what was settled, and is where the next engine goes on.
Rule 2: it is written beside what goes on, for a sync may wait for those of the journal;
        by one at a time.
"""

import asyncio
import time
from contextlib import suppress

from switch.publish.port import PublishError
from switch.publish.positions import EnginePosition, PositionFiles

# Between two times that the position is written: a sync of the journal's disk.
POSITION_SECONDS = 1.0
# Positions that are remembered until the engine has settled what is before them.
MARKS_MAX = 64


class Places:
    """`open` before anything else, with each engine anew."""

    def __init__(self, files: PositionFiles) -> None:
        self.files = files
        self._last: EnginePosition | None = None
        self._settled: EnginePosition | None = None
        self._stored: EnginePosition | None = None
        self._stored_at = 0.0
        self._storing: asyncio.Future[None] | None = None
        # Batches of this engine so far, and positions behind some that are not settled.
        self._count = 0
        self._marks: list[tuple[int, EnginePosition]] = []

    @property
    def last(self) -> EnginePosition:
        assert self._last is not None
        return self._last

    @property
    def is_asked_to_move(self) -> bool:
        return self.files.is_asked_to_move()

    async def open(self, journal_head: int) -> None:
        """Where the engine before this one had settled, or what the file says."""
        self._count = 0
        if await self.move(journal_head) is not None:
            return
        if self._settled is None:
            self._stored = self.files.load()
        self._begin(self._settled or self._stored, journal_head)

    async def move(self, journal_head: int) -> EnginePosition | None:
        """Where an operator wants it to go on, if one does."""
        await self._wait_stored()
        self.files.lock()
        moved = self.files.obey()
        if moved is not None:
            self._settled = None
            self._stored = moved
            self._begin(moved, journal_head)
        return moved

    def _begin(self, position: EnginePosition | None, journal_head: int) -> None:
        assert position is not None
        if position.commit > journal_head:
            raise PublishError(
                f"expected to have published up to commit {journal_head}, the "
                f"journal's last, got commit {position.commit} in "
                f"{self.files.position_path}"
            )
        self._last = self._settled = position
        self._marks.clear()

    def advance(self, position: EnginePosition) -> None:
        """One more batch was acknowledged."""
        self._count += 1
        self._last = position
        if len(self._marks) == MARKS_MAX:
            # What is written may be older than what was settled.
            del self._marks[1::2]
        self._marks.append((self._count, position))

    def settle(self, count: int) -> None:
        """So many batches of this engine, from its first one on."""
        while self._marks and self._marks[0][0] <= count:
            self._settled = self._marks.pop(0)[1]

    def store(self) -> None:
        """Meanwhile it goes on."""
        if self._storing is not None:
            if not self._storing.done():
                return
            self._storing.result()
        position, now = self._settled, time.monotonic()
        assert position is not None
        if position == self._stored or now - self._stored_at < POSITION_SECONDS:
            return
        self._stored_at = now
        loop = asyncio.get_running_loop()
        self._storing = loop.run_in_executor(None, self._store_now, position)

    def _store_now(self, position: EnginePosition) -> None:
        self.files.store(position)
        self._stored = position

    async def _wait_stored(self) -> None:
        """Nobody else may write the position before."""
        if self._storing is not None:
            await asyncio.wait([self._storing])
            storing, self._storing = self._storing, None
            storing.result()

    async def close(self) -> None:
        """Stores what is settled, if it can."""
        with suppress(Exception):
            await self._wait_stored()
        with suppress(Exception):
            if self._settled is not None and self._settled != self._stored:
                self.files.store(self._settled)
        self.files.unlock()
