"""The follower's process. Its parent starts it with `switch.follower.supervisor`.

Standard input comes from the parent: `w` wakes, `s` and a number of milliseconds in
decimal and a line break asks to finish within that time, the end of the input means
that the parent is gone. Standard output is a line of JSON (`Status`) whenever
something changed. Signals are for the parent: it decides when this process ends.
"""

import argparse
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from switch.follower.consumer import Consumer
from switch.follower.sinks import PublishSink
from switch.journal.directory import DataDirectory
from switch.journal.port import JournalError
from switch.journal.released import Released
from switch.journal.sqlite import SqliteJournal
from switch.observe import log
from switch.projection.readmodel import ReadModel
from switch.publish.jsonlines import JsonLinesPublisher

POLL_SECONDS = 0.05
STATUS_SECONDS_MIN = 0.1
NICE_DEFAULT = 10
# A sync a batch: few of them, for a file that grows has the file system write its own
# journal, and the switch's syncs wait for that.
PUBLISH_INTERVAL_SECONDS = 0.1
PUBLISH_ENTRIES_MAX = 32_768
# A transaction costs a page of the indices an account that it meets, so larger ones
# are cheaper, and nobody minds rows that are a second old.
PROJECT_INTERVAL_SECONDS = 1.0
PROJECT_ENTRIES_MAX = 8192
EXIT_JOURNAL = 74

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


class _Parent:
    """The two pipes to the process that started this one."""

    def __init__(self, input_descriptor: int, output_descriptor: int) -> None:
        self._input = input_descriptor
        self._output = output_descriptor
        self._told: Status | None = None
        self._told_at = 0.0
        self._rest = b""
        self.is_gone = False
        self.stop_within_ms: int | None = None

    def wait(self, seconds: float) -> None:
        """Until the parent says something, at most `seconds`."""
        if not select.select([self._input], [], [], seconds)[0]:
            return
        data = os.read(self._input, 4096)
        self.is_gone = not data
        *lines, self._rest = (self._rest + data.replace(b"w", b"")).split(b"\n")
        for line in lines:
            if line.startswith(b"s") and line[1:].isdigit():
                self.stop_within_ms = int(line[1:])

    def tell(self, status: Status, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if status == self._told:
            return
        if now - self._told_at < STATUS_SECONDS_MIN and not at_once:
            return
        try:
            os.write(self._output, msgspec.json.encode(status) + b"\n")
        except BrokenPipeError:
            self.is_gone = True
        self._told, self._told_at = status, now


def run(settings: Settings, input_descriptor: int, output_descriptor: int) -> None:
    """Until the parent is gone or asks to finish."""
    parent = _Parent(input_descriptor, output_descriptor)
    follower = Follower(settings)
    try:
        more = False
        while not parent.is_gone and parent.stop_within_ms is None:
            more = follower.step()
            parent.tell(follower.status())
            parent.wait(0 if more else follower.wait_seconds())
        if parent.stop_within_ms is not None:
            _finish(follower, parent, parent.stop_within_ms)
    finally:
        follower.close()


def _finish(follower: Follower, parent: _Parent, within_ms: int) -> None:
    """What has been answered goes out before the switch ends, if it can."""
    deadline = time.monotonic() + within_ms / 1000
    while not follower.is_done() and time.monotonic() < deadline:
        if not follower.step(at_once=True):
            parent.wait(min(follower.wait_seconds(), 0.01))
        if parent.is_gone:
            return
    parent.tell(follower.status(), at_once=True)


def main(arguments: Sequence[str] | None = None) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="switch.follower")
    parser.add_argument("settings", help="JSON, as the supervisor passes them")
    parsed = parser.parse_args(arguments)
    settings = msgspec.json.decode(parsed.settings, type=Settings)
    log.set_up(settings.log_level, settings.log_format)
    os.nice(settings.nice)
    try:
        run(settings, sys.stdin.fileno(), sys.stdout.fileno())
    except (JournalError, OSError) as error:
        log.event(
            _logger,
            logging.ERROR,
            "follower ends",
            reason=f"{type(error).__name__}: {error}",
        )
        return EXIT_JOURNAL
    return 0
