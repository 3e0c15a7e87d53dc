"""A commit group's commits on a log that is waited for by the loop, not by a thread.

One commit is in flight at a time; what gathers meanwhile is the next one. It has the
calls of `switch.shard.committer.Committer`, whose journal blocks a thread.

Rule 1: what is told may be told: the log has released it, and `check` has been asked
        after that.
Rule 2: what needs no commit is told when the log has said that it is not over, asked
        after it was decided.
Rule 3: after a failure nothing more is written, and nothing of what is in flight is
        told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from switch.journal.port import ShardRecord
from switch.shard.commit_times import CommitTimes


class Log(Protocol):
    """A session's: `switch.journal.cassandra.session.Session`."""

    async def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        """The commit's number, when its answers may go."""

    async def confirm(self) -> None:
        """Returns if the session was not over when this was called."""

    def stop(self, error: Exception) -> None: ...


def _nothing_else() -> None:
    pass


class SessionCommitter:
    """`committed(number, records)` and `failed(error)` are called by the loop."""

    def __init__(
        self,
        log: Log,
        *,
        times: CommitTimes | None = None,
        check: Callable[[], None] = _nothing_else,
    ) -> None:
        """`times` are those of the session before, if they go on. `check()` raises what
        the log does not know of that ends the session: that its lease ran out."""
        self.head = 0  # the last commit that was told
        self.times = CommitTimes() if times is None else times
        self._log = log
        self._check = check
        self._committed: Callable[[int, Sequence[ShardRecord]], object] | None = None
        self._failed: Callable[[Exception], object] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    def start(
        self,
        committed: Callable[[int, Sequence[ShardRecord]], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._committed = committed
        self._failed = failed

    def submit(self, at: int, records: list[ShardRecord]) -> None:
        """With no records, what waits needs no commit. Called when the commit before it
        is told of, at the earliest from `committed` itself."""
        assert self._committed is not None
        if not self._is_over:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._settle(at, records))

    def stop(self, error: Exception) -> None:
        """Nothing is told of any more: not by the log, nor here."""
        self._is_over = True
        self._log.stop(error)

    async def close(self) -> None:
        """After `stop`: returns when nothing is in flight."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _settle(self, at: int, records: list[ShardRecord]) -> None:
        assert self._failed is not None
        try:
            await self._append(at, records)
        except Exception as error:  # noqa: BLE001 -- whatever it is, say so
            if not self._is_over:
                self._is_over = True
                self._failed(error)

    async def _append(self, at: int, records: list[ShardRecord]) -> None:
        assert self._committed is not None
        number = self.head
        if records:
            loop = asyncio.get_running_loop()
            started = loop.time()
            number = await self._log.append(at, records)
            self.times.count(loop.time() - started, records)
        else:
            await self._log.confirm()
        self._check()
        if not self._is_over:
            self.head = number
            self._committed(number, records)
