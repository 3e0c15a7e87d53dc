"""A commit group's commits on a log that is waited for by the loop, not by a thread.

One commit is in flight at a time; what gathers meanwhile is the next one. It has the
calls of `switch.shard.committer.Committer`, whose journal blocks a thread.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

from switch.journal.port import ShardRecord
from switch.observe.metrics import SECONDS_BOUNDS, SIZE_BOUNDS


class Writer(Protocol):
    """`switch.journal.cassandra.writer.SessionWriter`."""

    async def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        """The commit's number, when its answers may go."""

    def stop(self, error: Exception) -> None: ...


class SessionCommitter:
    """`committed(number)` and `failed(error)` are called by the loop. After a failure
    nothing more is written, and nothing of what is in flight is told."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._committed: Callable[[int], object] | None = None
        self._failed: Callable[[Exception], object] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self.seconds_total = 0.0
        self.seconds_counts = [0] * (len(SECONDS_BOUNDS) + 1)
        self.entries_total = 0
        self.entries_counts = [0] * (len(SIZE_BOUNDS) + 1)

    def start(
        self,
        committed: Callable[[int], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._committed = committed
        self._failed = failed

    def submit(self, at: int, records: list[ShardRecord]) -> None:
        """Called when the commit before it is told of, at the earliest from
        `committed` itself."""
        assert self._committed is not None
        if not self._is_over:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._append(at, records))

    def stop(self, error: Exception) -> None:
        """Nothing is told of any more: not by the writer, nor here."""
        self._is_over = True
        self._writer.stop(error)

    async def _append(self, at: int, records: list[ShardRecord]) -> None:
        assert self._committed is not None
        assert self._failed is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            number = await self._writer.append(at, records)
        except Exception as error:  # noqa: BLE001 -- whatever it is, say so
            if not self._is_over:
                self._is_over = True
                self._failed(error)
            return
        self._count(loop.time() - started, records)
        # Not from here: what goes wrong in it is the loop's to report, at once.
        loop.call_soon(self._tell, number)

    def _tell(self, number: int) -> None:
        assert self._committed is not None
        if not self._is_over:
            self._committed(number)

    def _count(self, seconds: float, records: list[ShardRecord]) -> None:
        entries = sum(record.count for record in records)
        self.seconds_total += seconds
        self.seconds_counts[bisect_left(SECONDS_BOUNDS, seconds)] += 1
        self.entries_total += entries
        self.entries_counts[bisect_left(SIZE_BOUNDS, entries)] += 1
