"""The engine for files of JSON lines: what `switch.publish.jsonlines` keeps itself, for
those whose position is kept elsewhere.

A batch that was cut short is sent again: its first lines are in the files twice then.
"""

import asyncio
import os
from collections.abc import Callable, Sequence

from switch.journal.port import Commit
from switch.publish.events import events_of
from switch.publish.jsonlines import JsonLinesPublisher
from switch.publish.port import PublishError, Refused


class LinesEngine:
    """See `switch.publish.port.Engine`. Disks block, so each call has a thread."""

    def __init__(
        self, directory: str | os.PathLike[str], *, file_bytes_max: int
    ) -> None:
        self._directory = directory
        self._file_bytes_max = file_bytes_max
        self._publisher: JsonLinesPublisher | None = None
        self._turn = asyncio.Lock()
        self._working: asyncio.Future[None] | None = None
        self._is_broken = False
        self._sent = 0

    @property
    def settled(self) -> int:
        return self._sent

    async def open(self) -> None:
        def make() -> None:
            self._publisher = JsonLinesPublisher(
                self._directory, file_bytes_max=self._file_bytes_max
            )

        await self._in_thread(make)

    async def send(self, commits: Sequence[Commit]) -> Sequence[Refused]:
        publisher = self._publisher
        assert publisher is not None

        def publish() -> None:
            publisher.publish(
                event for commit in commits for event in events_of(commit)
            )

        async with self._turn:
            if self._is_broken:
                raise PublishError("expected all batches before, got one that failed")
            # Unless it gets to its end.
            self._is_broken = True
            await self._in_thread(publish)
            self._is_broken = False
            self._sent += 1
        return ()

    async def close(self) -> None:
        if self._working is not None:
            # Whoever waited for it was cancelled: it goes on all the same.
            await asyncio.wait([self._working])
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    async def _in_thread(self, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._working = loop.run_in_executor(None, work)
        await asyncio.shield(self._working)
