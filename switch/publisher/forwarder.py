"""One engine's way through the journal.

Rule 1: one batch is under way at a time; the next one is read meanwhile. A batch is
        whole commits, and the position behind it is only ever that of all of them.
Rule 2: an engine that fails is closed, and another is opened after a while, from the
        position. There is no error after which nothing is tried any more.
Rule 3: the loop is shared: whatever takes long is done in pieces.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from switch.companion.reading import Reading
from switch.journal.port import Commit, Journal, JournalError
from switch.observe.log import event
from switch.publish.events import Event, record_events
from switch.publish.port import Engine, PublishError
from switch.publish.positions import EnginePosition, PositionFiles
from switch.publisher.waker import Waker

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 5.0
# How long an engine may take to be closed, whatever it waits for.
CLOSE_SECONDS_MAX = 5.0
# Between two times that the position is written: a sync of the journal's disk.
POSITION_SECONDS = 1.0
# Read and decoded without a pause for the other engines.
ENTRIES_AT_ONCE = 512
DRAINING_PAUSE_SECONDS = 0.01

_logger = logging.getLogger("switch.publisher")


class Plan(Struct, frozen=True):
    """An engine, and how it is fed."""

    name: str
    make: Callable[[], Engine]
    entries_max: int
    # Between the beginnings of batches that are not full.
    interval_seconds: float
    # What its engines count of their own, one after the other.
    counts: dict[str, int] = {}


class EngineStatus(Struct, frozen=True):
    """`commit` is -1 while it is not known. Counts are of this process."""

    commit: int = -1
    entries: int = 0
    published: int = 0
    retries: int = 0
    refused: int = 0
    fault: str | None = None
    # Of the engine's own.
    counts: dict[str, int] = {}


class _Batch(NamedTuple):
    """Events, the position behind them, and whether there are more at once."""

    events: list[Event]
    position: EnginePosition
    is_full: bool


class Forwarder:
    """`run` returns when it was cancelled, or when the journal cannot be read."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        files: PositionFiles,
        head: Callable[[], int],
        waker: Waker,
    ) -> None:
        self.plan = plan
        self.status = EngineStatus()
        self._journal = journal
        self._reading = Reading(journal)
        self._files = files
        self._head = head
        self._waker = waker
        self._position: EnginePosition | None = None
        self._stored: EnginePosition | None = None
        self._stored_at = 0.0
        self._storing: asyncio.Future[None] | None = None
        self._draining = asyncio.Event()
        self._retry_seconds = RETRY_SECONDS_MIN

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def is_done(self) -> bool:
        """All that is released is acknowledged."""
        return self.status.fault is None and self.status.commit >= self._head()

    def drain(self) -> None:
        """No pauses any more: the end is near."""
        self._draining.set()
        self._waker.wake()

    async def run(self) -> None:
        try:
            while True:
                await self._run_once()
        finally:
            with suppress(Exception):
                await self._store_at_last()
            self._files.unlock()

    async def _run_once(self) -> None:
        """With one engine, until that fails."""
        try:
            engine = self.plan.make()
            try:
                await self._forward(engine)
            finally:
                with suppress(Exception):
                    async with asyncio.timeout(CLOSE_SECONDS_MAX):
                        await engine.close()
        except (JournalError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 -- whatever an engine raises: Rule 2
            self._failed(error)
        await self._pause(self._retry_seconds)
        self._retry_seconds = min(self._retry_seconds * 2, RETRY_SECONDS_MAX)

    async def _forward(self, engine: Engine) -> None:
        await self._wait_stored()
        self._begin()
        await engine.open()
        self._has_succeeded()
        ahead: _Batch | None = None
        while True:
            began_at = time.monotonic()
            if await self._has_moved():
                ahead = None
            batch = ahead or await self._read(self._known_position)
            ahead = None
            if batch.position.commit == self._known_position.commit:
                self._store()
                await self._waker.wait()
                continue
            ahead = await self._send_and_read_on(engine, batch)
            self._advance(batch)
            self._store()
            if not batch.is_full:
                rest = began_at + self.plan.interval_seconds - time.monotonic()
                await self._pause(rest)

    async def _send_and_read_on(self, engine: Engine, batch: _Batch) -> _Batch | None:
        sending = asyncio.create_task(self._send(engine, batch.events))
        try:
            ahead = await self._read(batch.position) if batch.is_full else None
            await sending
        finally:
            sending.cancel()
        return ahead

    def _begin(self) -> None:
        self._files.lock()
        self._files.obey()
        position = self._position or self._files.load()
        if position.commit > self._journal.head:
            raise PublishError(
                f"expected to have published up to commit {self._journal.head}, the "
                f"journal's last, got commit {position.commit} in "
                f"{self._files.position_path}"
            )
        self._reading.restart()
        self._position = self._stored = position
        self._set(commit=position.commit, entries=position.entries)

    async def _has_moved(self) -> bool:
        """Whether it goes on somewhere else now, as an operator asked."""
        if not self._files.is_asked_to_move():
            return False
        await self._wait_stored()
        moved = self._files.obey()
        if moved is None:
            return False
        event(
            _logger,
            logging.WARNING,
            "position moved",
            engine=self.name,
            commit=moved.commit,
            before=self._known_position.commit,
        )
        self._position = None
        self._begin()
        return True

    @property
    def _known_position(self) -> EnginePosition:
        assert self._position is not None
        return self._position

    async def _read(self, position: EnginePosition) -> _Batch:
        head = self._head()
        commit, shards = position.commit, dict(position.shards)
        events: list[Event] = []
        is_full = True
        while commit < head and is_full and len(events) < self.plan.entries_max:
            commits, is_full = self._reading.batch(commit, head, ENTRIES_AT_ONCE)
            await self._decode(commits, events, shards)
            commit = commits[-1].number
        following = EnginePosition(position.journal, commit, shards)
        return _Batch(events, following, is_full and commit < head)

    async def _decode(
        self, commits: Sequence[Commit], events: list[Event], shards: dict[int, int]
    ) -> None:
        undecoded = 0
        for commit in commits:
            for record in commit.records:
                events += record_events(commit.number, record)
                shards[record.shard] = record.first_sequence + record.count - 1
                undecoded += record.count
                if undecoded >= ENTRIES_AT_ONCE:
                    undecoded = 0
                    await asyncio.sleep(0)

    async def _send(self, engine: Engine, batch: Sequence[Event]) -> None:
        refused = await engine.send(batch)
        if not refused:
            return
        self._files.set_aside([(each.event, each.reason) for each in refused])
        self._set(refused=self.status.refused + len(refused))
        for each in refused:
            event(
                _logger,
                logging.ERROR,
                "event set aside",
                engine=self.name,
                id=each.event.id,
                reason=each.reason,
                file=self._files.refused_path,
            )

    def _advance(self, batch: _Batch) -> None:
        self._position = batch.position
        self._has_succeeded()
        self._set(
            commit=batch.position.commit,
            entries=batch.position.entries,
            published=self.status.published + len(batch.events),
        )

    def _store(self) -> None:
        """Meanwhile it goes on: a sync may wait for those of the journal."""
        if self._storing is not None:
            if not self._storing.done():
                return
            self._storing.result()
        position, now = self._known_position, time.monotonic()
        if position == self._stored or now - self._stored_at < POSITION_SECONDS:
            return
        self._stored_at = now
        loop = asyncio.get_running_loop()
        self._storing = loop.run_in_executor(None, self._store_now, position)

    def _store_now(self, position: EnginePosition) -> None:
        self._files.store(position)
        self._stored = position

    async def _wait_stored(self) -> None:
        """Nobody else may write the position before."""
        if self._storing is not None:
            await asyncio.wait([self._storing])
            storing, self._storing = self._storing, None
            storing.result()

    async def _store_at_last(self) -> None:
        with suppress(Exception):
            await self._wait_stored()
        if self._position is not None and self._position != self._stored:
            self._files.store(self._position)

    async def _pause(self, seconds: float) -> None:
        """Unless the end is near; then only for the others to get on."""
        if self._draining.is_set():
            await asyncio.sleep(DRAINING_PAUSE_SECONDS)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._draining.wait()

    def _has_succeeded(self) -> None:
        self._retry_seconds = RETRY_SECONDS_MIN
        self._set(fault=None)

    def _failed(self, error: Exception) -> None:
        fault = f"{type(error).__name__}: {error}"
        self._set(fault=fault, retries=self.status.retries + 1)
        event(
            _logger,
            logging.ERROR,
            "cannot go on, will try again",
            what=self.name,
            reason=fault,
            seconds=self._retry_seconds,
        )

    def _set(self, **changed: Any) -> None:
        self.status = replace(self.status, **changed)
