"""The publisher's process. Its parent starts it with `switch.publisher.supervisor`."""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import uvloop
from msgspec.structs import replace

from switch.companion.parent import Parent, run_child
from switch.journal.directory import DataDirectory
from switch.journal.released import Released
from switch.journal.sqlite import SqliteJournal
from switch.observe import log
from switch.publish.positions import PositionFiles
from switch.publish.settings import KafkaSettings, NsqSettings
from switch.publisher.engines import plans_of
from switch.publisher.forwarder import EngineStatus, Feeder, Forwarder, Plan
from switch.publisher.waker import POLL_SECONDS, Waker

NICE_DEFAULT = 5
DRAIN_POLL_SECONDS = 0.01

_logger = logging.getLogger("switch.publisher")


class Status(msgspec.Struct, frozen=True):
    engines: dict[str, EngineStatus] = {}


class Settings(msgspec.Struct, frozen=True):
    data_directory: str
    kafka: KafkaSettings = KafkaSettings()
    nsq: NsqSettings = NsqSettings()
    nice: int = NICE_DEFAULT
    log_level: str = "info"
    log_format: log.LogFormat = "auto"


class Feeding:
    """Engines at work, until the parent is gone or asks to finish."""

    def __init__(self, parent: Parent, waker: Waker) -> None:
        self.feeders: Sequence[Feeder[Any]] = ()
        self._parent = parent
        self._waker = waker

    async def run(self, input_descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(input_descriptor, self._heard, loop, input_descriptor)
        tasks = [asyncio.create_task(each.run()) for each in self.feeders]
        try:
            while not self._parent.wants_an_end and not any(t.done() for t in tasks):
                self._parent.tell(self.status())
                await self._waker.wait(POLL_SECONDS)
            if self._parent.stop_within_ms is not None:
                await self._finish(tasks, self._parent.stop_within_ms)
        finally:
            loop.remove_reader(input_descriptor)
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._waker.close()
        for task in ended:
            task.result()

    def status(self) -> Status:
        return Status(
            {
                each.name: replace(each.status, counts=each.plan.counts)
                for each in self.feeders
            }
        )

    def _heard(self, loop: asyncio.AbstractEventLoop, input_descriptor: int) -> None:
        self._parent.hear()
        self._waker.wake()
        if self._parent.is_gone:
            loop.remove_reader(input_descriptor)  # it would be readable for ever

    async def _finish(
        self, tasks: Sequence["asyncio.Task[None]"], within_ms: int
    ) -> None:
        """What has been answered goes out before the switch ends, if it can."""
        deadline = time.monotonic() + within_ms / 1000
        for each in self.feeders:
            each.drain()
        while not all(
            each.is_done or each.status.fault is not None for each in self.feeders
        ):
            if time.monotonic() >= deadline or self._parent.is_gone:
                break
            if any(task.done() for task in tasks):
                break
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        self._parent.tell(self.status(), at_once=True)


class Publisher(Feeding):
    """Journal and engines of one data directory. `run` raises JournalError: nothing can
    be gone on with then."""

    def __init__(
        self, settings: Settings, plans: Sequence[Plan], parent: Parent
    ) -> None:
        super().__init__(parent, waker := Waker())
        directory = DataDirectory.open(settings.data_directory, create=False)
        self._journal = SqliteJournal.open(directory.path, read_only=True)
        self._released = Released(directory.released, read_only=True)
        self.feeders = [
            Forwarder(
                plan,
                self._journal,
                PositionFiles(directory.publish, plan.name, self._journal.identity),
                lambda: self._released.number,
                waker,
            )
            for plan in plans
        ]

    async def run(self, input_descriptor: int) -> None:
        try:
            await super().run(input_descriptor)
        finally:
            self._released.close()
            self._journal.close()


def main(arguments: Sequence[str] | None = None) -> int:
    def work(settings: Settings) -> None:
        descriptor = sys.stdin.fileno()
        parent = Parent(descriptor, sys.stdout.fileno())

        async def publish() -> None:
            plans = list(plans_of(settings.kafka, settings.nsq))
            await Publisher(settings, plans, parent).run(descriptor)

        uvloop.run(publish())

    return run_child("publisher", Settings, work, arguments)
