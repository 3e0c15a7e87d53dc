"""The follower's process. Its parent starts it with `switch.follower.supervisor`."""

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from switch.companion.parent import Parent, run_child
from switch.follower.consumer import Consumer
from switch.follower.sinks import PublishSink
from switch.journal.directory import DataDirectory
from switch.journal.released import Released
from switch.journal.sqlite import SqliteJournal
from switch.observe import log
from switch.projection.readmodel import ReadModel
from switch.publish.jsonlines import JsonLinesPublisher

POLL_SECONDS = 0.05
NICE_DEFAULT = 10
# A sync a batch: few of them, for a file that grows has the file system write its own
# journal, and the switch's syncs wait for that.
PUBLISH_INTERVAL_SECONDS = 0.1
PUBLISH_ENTRIES_MAX = 32_768
# A transaction costs a page of the indices an account that it meets, so larger ones
# are cheaper, and nobody minds rows that are a second old.
PROJECT_INTERVAL_SECONDS = 1.0
PROJECT_ENTRIES_MAX = 8192

_logger = logging.getLogger("switch.follower")


class Status(msgspec.Struct, frozen=True):
    """Commit numbers; -1: not known, because that sink is not open."""

    released: int = 0
    published: int = -1
    projected: int = -1
    publish_fault: str | None = None
    project_fault: str | None = None


class Settings(msgspec.Struct, frozen=True):
    data_directory: str
    file_bytes_max: int
    events_directory: str | None = None
    nice: int = NICE_DEFAULT
    log_level: str = "info"
    log_format: log.LogFormat = "auto"


class Follower:
    """Journal and sinks of one data directory, and a step that moves them on."""

    def __init__(self, settings: Settings) -> None:
        directory = DataDirectory.open(settings.data_directory, create=False)
        self.journal = SqliteJournal.open(directory.path, read_only=True)
        self._released = Released(directory.released, read_only=True)
        events = Path(settings.events_directory or directory.events)
        self.publishing = Consumer(
            "publishing",
            self.journal,
            lambda: PublishSink(
                JsonLinesPublisher(events, file_bytes_max=settings.file_bytes_max),
                self.journal,
            ),
            entries_max=PUBLISH_ENTRIES_MAX,
            interval_seconds=PUBLISH_INTERVAL_SECONDS,
        )
        self.projecting = Consumer(
            "the read model",
            self.journal,
            lambda: ReadModel(
                directory.read_model,
                journal_identity=self.journal.identity,
                journal_head=self.journal.head,
            ),
            entries_max=PROJECT_ENTRIES_MAX,
            interval_seconds=PROJECT_INTERVAL_SECONDS,
        )
        self._consumers = (self.publishing, self.projecting)

    @property
    def head(self) -> int:
        return self._released.number

    def step(self, *, at_once: bool = False) -> bool:
        """A batch of each; whether there is more to do now."""
        head = self.head
        more = [each.step(head, at_once=at_once) for each in self._consumers]
        return any(more)

    def is_done(self) -> bool:
        head = self.head
        return all(each.position >= head for each in self._consumers)

    def wait_seconds(self) -> float:
        head = self.head
        waits = [each.wait_seconds(head) for each in self._consumers]
        return min([POLL_SECONDS, *(wait for wait in waits if wait is not None)])

    def status(self) -> Status:
        return Status(
            self.head,
            self.publishing.position,
            self.projecting.position,
            self.publishing.fault,
            self.projecting.fault,
        )

    def close(self) -> None:
        for each in self._consumers:
            each.close()
        self._released.close()
        self.journal.close()


def run(settings: Settings, input_descriptor: int, output_descriptor: int) -> None:
    """Until the parent is gone or asks to finish."""
    parent = Parent(input_descriptor, output_descriptor)
    follower = Follower(settings)
    try:
        more = False
        while not parent.wants_an_end:
            more = follower.step()
            parent.tell(follower.status())
            parent.wait(0 if more else follower.wait_seconds())
        if parent.stop_within_ms is not None:
            _finish(follower, parent, parent.stop_within_ms)
    finally:
        follower.close()


def _finish(follower: Follower, parent: Parent, within_ms: int) -> None:
    """What has been answered goes out before the switch ends, if it can."""
    deadline = time.monotonic() + within_ms / 1000
    while not follower.is_done() and time.monotonic() < deadline:
        if not follower.step(at_once=True):
            parent.wait(min(follower.wait_seconds(), 0.01))
        if parent.is_gone:
            return
    parent.tell(follower.status(), at_once=True)


def main(arguments: Sequence[str] | None = None) -> int:
    def work(settings: Settings) -> None:
        run(settings, sys.stdin.fileno(), sys.stdout.fileno())

    return run_child("follower", Settings, work, arguments)
