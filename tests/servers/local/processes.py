"""Which processes are the cluster's: a file for each, so that whoever comes after a
crash ends those, and no other that has got the same number since.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from tests.servers.common import command_lines

STOP_SECONDS_MAX = 20.0
KILL_SECONDS_MAX = 5.0
POLL_SECONDS = 0.05
SUPERVISOR = "up"


class Record(msgspec.Struct, frozen=True):
    """`began` is when, in the kernel's ticks since the machine's start."""

    name: str
    pid: int
    began: int
    where: str = ""

    @property
    def is_running(self) -> bool:
        return _began(self.pid) == self.began

    def signal(self, number: int) -> None:
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def has_ended_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self.is_running:
            if time.monotonic() >= until:
                return False
            time.sleep(POLL_SECONDS)
        return True


class Processes:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, name: str, pid: int, where: str = "") -> None:
        began = _began(pid)
        if began is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            record = Record(name, pid, began, where)
            draft = self._directory / f"{name}.new"
            draft.write_bytes(msgspec.json.encode(record))
            draft.rename(self._directory / f"{name}.json")

    def all(self) -> list[Record]:
        """Of the last run, whether they still are there or not."""
        return [
            msgspec.json.decode(path.read_bytes(), type=Record)
            for path in sorted(self._directory.glob("*.json"))
        ]

    def supervisor(self) -> Record | None:
        """`scripts/cluster up`, if it runs."""
        running = (record for record in self.all() if record.is_running)
        return next((record for record in running if record.name == SUPERVISOR), None)

    def forget(self) -> None:
        for path in self._directory.glob("*.json"):
            path.unlink()


def end(record: Record) -> str:
    """How it ended: SIGTERM, and if that is of no use, SIGKILL."""
    record.signal(signal.SIGTERM)
    # One that was stopped does not hear it until it goes on.
    record.signal(signal.SIGCONT)
    if record.has_ended_within(STOP_SECONDS_MAX):
        return "stopped"
    record.signal(signal.SIGKILL)
    record.has_ended_within(KILL_SECONDS_MAX)
    return "killed"


def left_over(data: Path) -> Iterator[Record]:
    """Processes that work on these files and that no record knows, such as those that
    a node has started."""
    for pid, line in command_lines():
        if f"{data}/" not in line or pid == os.getpid():
            continue
        if (began := _began(pid)) is not None:
            yield Record("a process of it", pid, began)


def _began(pid: int) -> int | None:
    """None: there is none, or it has ended and nobody has looked."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in brackets, may hold anything.
    words = text.rpartition(")")[2].split()
    return None if words[0] in ("Z", "X") else int(words[19])
