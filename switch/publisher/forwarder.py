"""One engine's way through the journal.

Rule 1: a batch is whole commits. So many are under way at once as the plan says, handed
        over in the journal's order. The position behind a batch counts when that, and
        every one before it, was acknowledged.
Rule 2: what is written as the position is behind what the engine has settled: what it
        still owes to anybody is sent again by the next one.
Rule 3: an engine that fails is closed, and another is opened after a while, from there.
        There is no error after which nothing is tried any more.
Rule 4: the loop is shared: whatever takes long is done in pieces.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from switch.backoff import Backoff
from switch.companion.reading import Reading
from switch.journal.port import Commit, Journal, JournalError
from switch.observe.log import event
from switch.publish.port import Engine, Refused
from switch.publish.positions import EnginePosition, PositionFiles
from switch.publisher.places import Places
from switch.publisher.waker import Waker

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 5.0
# How long an engine may take to be closed, whatever it waits for.
CLOSE_SECONDS_MAX = 5.0
# Read without a pause for the other engines.
ENTRIES_AT_ONCE = 512
DRAINING_PAUSE_SECONDS = 0.01

_logger = logging.getLogger("switch.publisher")


def _nobody(_head: int) -> None:
    """Wants to know."""


class Plan(Struct, frozen=True):
    """An engine, and how it is fed."""

    name: str
    make: Callable[[], Engine]
    entries_max: int
    # Between the beginnings of batches that are not full.
    interval_seconds: float
    # Of batches that are under way.
    batches_max: int = 1
    # What its engines count of their own, one after the other.
    counts: dict[str, int] = {}
    # Is told the released head, each time that it is looked at.
    saw: Callable[[int], object] = _nobody


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
    # Whose commits these are, where there is more than one log.
    session: str = ""


PlaceT = TypeVar("PlaceT")


class Batch(NamedTuple, Generic[PlaceT]):
    """Commits, the place behind them, and whether there are more at once."""

    commits: list[Commit]
    place: PlaceT
    is_full: bool


class _Sending(NamedTuple, Generic[PlaceT]):
    """A batch that is under way; when that began."""

    batch: Batch[PlaceT]
    task: "asyncio.Task[None]"
    began_at: float


class Feeder(ABC, Generic[PlaceT]):
    """What feeds an engine, wherever the journal is. `run` returns when it was
    cancelled, or when the journal cannot be read and that ends it."""

    def __init__(self, plan: Plan, waker: Waker) -> None:
        self.plan = plan
        self.status = EngineStatus()
        self._waker = waker
        self._draining = asyncio.Event()
        self._backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)

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
            await self._end()

    # -- where it is, and what there is: for whoever knows the journal

    # Whether a journal that cannot be read ends it.
    journal_ends_it = True

    @abstractmethod
    def _head(self) -> int:
        """The last commit that is released."""

    @abstractmethod
    async def _begin(self) -> None:
        """With another engine: where the one before it had settled."""

    @property
    @abstractmethod
    def _wants_to_move(self) -> bool:
        """Whether to call `_move` when nothing is under way."""

    @abstractmethod
    async def _move(self) -> None:
        """It goes on somewhere else now."""

    @abstractmethod
    async def _read(self, before: Batch[PlaceT] | None) -> Batch[PlaceT]:
        """What follows the batch before, or what was acknowledged."""

    @abstractmethod
    def _advance(self, batch: Batch[PlaceT]) -> None:
        """It was acknowledged, and so was all before it."""

    @abstractmethod
    def _settle(self, count: int) -> None:
        """The engine has settled so many batches; that is written when it is time."""

    @abstractmethod
    def _set_aside(self, refused: Sequence[Refused]) -> object:
        """Where they are now."""

    @abstractmethod
    async def _end(self) -> None:
        """Writes what was settled, if it can. Called once, at the end."""

    # -- with one engine, until that fails

    async def _run_once(self) -> None:
        try:
            engine = self.plan.make()
            try:
                await self._forward(engine)
            finally:
                with suppress(Exception):
                    async with asyncio.timeout(CLOSE_SECONDS_MAX):
                        await engine.close()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, JournalError) and self.journal_ends_it:
                raise
            seconds = self._backoff.seconds()
            self._failed(error, seconds)
            self.plan.saw(self._head())
            await self._pause(seconds)

    async def _forward(self, engine: Engine) -> None:
        await self._begin()
        await engine.open()
        self._has_succeeded()
        under_way: deque[_Sending[PlaceT]] = deque()
        try:
            while True:
                if self._wants_to_move:
                    while under_way:
                        await self._finish_one(engine, under_way)
                    await self._move()
                await self._hand_over(engine, under_way)
                if under_way:
                    await self._finish_one(engine, under_way)
                else:
                    self._settle(engine.settled)
                    await self._waker.wait()
        finally:
            for sending in under_way:
                sending.task.cancel()
            tasks = [sending.task for sending in under_way]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hand_over(
        self, engine: Engine, under_way: deque[_Sending[PlaceT]]
    ) -> None:
        """What is there, as far as the bound lets it."""
        while len(under_way) < self.plan.batches_max:
            before = under_way[-1].batch if under_way else None
            if before is not None and not before.is_full:
                return
            began_at = time.monotonic()
            batch = await self._read(before)
            if not batch.commits:
                return
            task = asyncio.create_task(self._send(engine, batch))
            under_way.append(_Sending(batch, task, began_at))

    async def _finish_one(
        self, engine: Engine, under_way: deque[_Sending[PlaceT]]
    ) -> None:
        sending = under_way[0]
        await sending.task
        under_way.popleft()
        self._advance(sending.batch)
        self._has_succeeded()
        self._settle(engine.settled)
        if not sending.batch.is_full:
            rest = sending.began_at + self.plan.interval_seconds - time.monotonic()
            await self._pause(rest)

    async def _send(self, engine: Engine, batch: Batch[PlaceT]) -> None:
        refused = await engine.send(batch.commits)
        if not refused:
            return
        file = self._set_aside(refused)
        self._set(refused=self.status.refused + len(refused))
        for each in refused:
            event(
                _logger,
                logging.ERROR,
                "event set aside",
                engine=self.name,
                id=each.event.id,
                reason=each.reason,
                file=file,
            )

    async def _pause(self, seconds: float) -> None:
        """Unless the end is near; then only for the others to get on."""
        if self._draining.is_set():
            await asyncio.sleep(DRAINING_PAUSE_SECONDS)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._draining.wait()

    def _has_succeeded(self) -> None:
        self._backoff.reset()
        self._set(fault=None)

    def _failed(self, error: Exception, seconds: float) -> None:
        fault = f"{type(error).__name__}: {error}"
        self._set(fault=fault, retries=self.status.retries + 1)
        event(
            _logger,
            logging.ERROR,
            "cannot go on, will try again",
            what=self.name,
            reason=fault,
            seconds=seconds,
        )

    def _set(self, **changed: Any) -> None:
        self.status = replace(self.status, **changed)


class Forwarder(Feeder[EnginePosition]):
    """Through the journal of a data directory."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        files: PositionFiles,
        head: Callable[[], int],
        waker: Waker,
    ) -> None:
        super().__init__(plan, waker)
        self._journal = journal
        self._reading = Reading(journal)
        self._released = head
        self._places = Places(files)

    def _head(self) -> int:
        return self._released()

    async def _begin(self) -> None:
        await self._places.open(self._journal.head)
        self._has_begun()

    @property
    def _wants_to_move(self) -> bool:
        return self._places.is_asked_to_move

    async def _move(self) -> None:
        """As an operator asked."""
        before = self._places.last
        moved = await self._places.move(self._journal.head)
        if moved is None:
            return
        event(
            _logger,
            logging.WARNING,
            "position moved",
            engine=self.name,
            commit=moved.commit,
            before=before.commit,
        )
        self._has_begun()

    def _has_begun(self) -> None:
        """From the place where it is now, and nothing that was read before counts."""
        self._reading.restart()
        position = self._places.last
        self._set(commit=position.commit, entries=position.entries)

    async def _read(
        self, before: Batch[EnginePosition] | None
    ) -> Batch[EnginePosition]:
        position = self._places.last if before is None else before.place
        head = self._head()
        self.plan.saw(head)
        commit, shards = position.commit, dict(position.shards)
        commits: list[Commit] = []
        count = 0
        is_full = True
        while commit < head and is_full and count < self.plan.entries_max:
            entries_max = min(ENTRIES_AT_ONCE, self.plan.entries_max - count)
            some, is_full = self._reading.batch(commit, head, entries_max)
            commits += some
            commit = some[-1].number
            for each in some:
                for record in each.records:
                    shards[record.shard] = record.first_sequence + record.count - 1
                    count += record.count
            await asyncio.sleep(0)
        following = EnginePosition(position.journal, commit, shards)
        return Batch(commits, following, is_full and commit < head)

    def _advance(self, batch: Batch[EnginePosition]) -> None:
        before, position = self._places.last, batch.place
        self._places.advance(position)
        self._set(
            commit=position.commit,
            entries=position.entries,
            published=self.status.published + position.entries - before.entries,
        )

    def _settle(self, count: int) -> None:
        self._places.settle(count)
        self._places.store()

    def _set_aside(self, refused: Sequence[Refused]) -> object:
        files = self._places.files
        files.set_aside([(each.event, each.reason) for each in refused])
        return files.refused_path

    async def _end(self) -> None:
        await self._places.close()
