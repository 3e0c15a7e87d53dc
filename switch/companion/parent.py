"""The child's end of the two pipes to the process that started it.

Standard input comes from the parent: `w` wakes, `s` and a number of milliseconds in
decimal and a line break asks to finish within that time, the end of the input means
that the parent is gone. Standard output is a line of JSON, the child's status,
whenever something changed. Signals are for the parent: it decides when a child ends.
"""

import argparse
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from switch.journal.port import JournalError
from switch.observe import log

STATUS_SECONDS_MIN = 0.1
EXIT_JOURNAL = 74


class Parent:
    def __init__(self, input_descriptor: int, output_descriptor: int) -> None:
        self._input = input_descriptor
        self._output = output_descriptor
        self._told: msgspec.Struct | None = None
        self._told_at = 0.0
        self._rest = b""
        self.is_gone = False
        self.stop_within_ms: int | None = None

    @property
    def wants_an_end(self) -> bool:
        return self.is_gone or self.stop_within_ms is not None

    def wait(self, seconds: float) -> None:
        """Until the parent says something, at most `seconds`."""
        if select.select([self._input], [], [], seconds)[0]:
            self.hear()

    def hear(self) -> None:
        """What it said; to be called when there is something."""
        data = os.read(self._input, 4096)
        self.is_gone = not data
        *lines, self._rest = (self._rest + data.replace(b"w", b"")).split(b"\n")
        for line in lines:
            if line.startswith(b"s") and line[1:].isdigit():
                self.stop_within_ms = int(line[1:])

    def tell(self, status: msgspec.Struct, *, at_once: bool = False) -> None:
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


class ChildSettings(Protocol):
    @property
    def nice(self) -> int: ...
    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> log.LogFormat: ...


SettingsT = TypeVar("SettingsT", bound=ChildSettings)


def run_child(
    name: str,
    kind: type[SettingsT],
    work: Callable[[SettingsT], None],
    arguments: Sequence[str] | None = None,
    *,
    also: type[Exception] = JournalError,
) -> int:
    """A companion's process, from what the supervisor passed to its exit code. It ends
    by an error of the journal, of the system, or `also`, and is started again."""
    settings = msgspec.json.decode(_argument(f"switch.{name}", arguments), type=kind)
    log.set_up(settings.log_level, settings.log_format)
    os.nice(settings.nice)
    try:
        work(settings)
    except (JournalError, OSError, also) as error:
        reason = f"{type(error).__name__}: {error}"
        logger = logging.getLogger(f"switch.{name}")
        log.event(logger, logging.ERROR, f"{name} ends", reason=reason)
        return EXIT_JOURNAL
    return 0


def _argument(program: str, arguments: Sequence[str] | None) -> str:
    """For a process that the supervisor's signals shall not end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("settings", help="JSON, as the supervisor passes them")
    settings: str = parser.parse_args(arguments).settings
    return settings
