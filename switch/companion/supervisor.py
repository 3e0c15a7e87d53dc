"""Keeps a companion running beside the switch, from its event loop.

Rule 1: the switch never waits for a companion: it is woken by a byte that is dropped
        when the pipe is full, and it is asked nothing.
Rule 2: a companion is started by vfork: forking a process with the memory of a
        million accounts would stop it for a while.
"""

import asyncio
import logging
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

import switch
from switch.backoff import Backoff
from switch.companion.lag import ReleaseTimes
from switch.observe.log import event

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 10.0
# Running so long without an end forgets the ends before.
STEADY_SECONDS = 30.0
# What a process may take to end by itself once it was told, beyond the drain.
EXIT_SECONDS_MAX = 5.0
LINE_BYTES_MAX = 64 * 1024

StatusT = TypeVar("StatusT", bound=msgspec.Struct)


class CompanionProcess(ABC, Generic[StatusT]):
    """`status` is what it said last; `restarts` counts unexpected ends."""

    # The package that is run, `switch.NAME`.
    name: str
    # It looks by itself now and then; it is woken at most this often.
    wake_seconds_min: float

    def __init__(self, settings: msgspec.Struct, status: StatusT) -> None:
        self.settings = settings
        self.status = status
        self.restarts = 0
        self._times = ReleaseTimes(time.monotonic())
        self._woken_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._stopping = asyncio.Event()
        self._logger = logging.getLogger(f"switch.{self.name}")

    @abstractmethod
    def heard(self, status: StatusT) -> None:
        """It said something new; `status` is that already."""

    def begun(self) -> None:
        """A process is there, and has been told nothing yet."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def fault(self) -> str | None:
        """Why it is not there; None when it is, or is being started at first."""
        if self.is_running or (self._task is not None and self.restarts == 0):
            return None
        return f"the {self.name} is not running"

    def start(self) -> None:
        assert self._task is None
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    def released(self, number: int) -> None:
        """A commit was answered: the companion may have it."""
        now = time.monotonic()
        if now - self._woken_at >= self.wake_seconds_min:
            self._woken_at = now
            self._times.mark(number, now)
            self.wake()

    def wake(self) -> None:
        """Cheap, but a system call: for when something was released after a pause."""
        self._tell(b"w")

    async def stop(self, *, drain_seconds: float = 5.0) -> None:
        """Lets it do all that is released, within a bound, and ends it."""
        if self._task is None:
            return
        self._is_stopping = True
        self._stopping.set()
        self._tell(b"s%d\n" % int(drain_seconds * 1000))
        _, pending = await asyncio.wait(
            [self._task], timeout=drain_seconds + EXIT_SECONDS_MAX
        )
        if pending and self._process is not None:
            self._log(logging.WARNING, "does not end", pid=self.pid)
            self._process.kill()
        await self._task
        self._task = None

    # -- the process

    def _log(self, level: int, what: str, **fields: Any) -> None:
        event(self._logger, level, f"{self.name} {what}", **fields)

    def _tell(self, data: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(process.stdin.fileno(), data)

    async def _supervise(self) -> None:
        backoff = Backoff(RESTART_SECONDS_MIN, RESTART_SECONDS_MAX)
        while not self._is_stopping:
            started_at = time.monotonic()
            try:
                exit_code = await self._run_once()
            except (OSError, ValueError) as error:
                # Not started; or it says what is no status, and was ended for it.
                self._log(logging.ERROR, "has failed", reason=error)
                exit_code = -1
            if self._is_stopping:
                break
            self.restarts += 1
            if time.monotonic() - started_at > STEADY_SECONDS:
                backoff.reset()
            wait_seconds = backoff.seconds()
            self._log(
                logging.WARNING,
                "ended, will be started again",
                exit_code=exit_code,
                seconds=wait_seconds,
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_seconds)

    async def _run_once(self) -> int:
        process = _spawn(self.name, self.settings)
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        self._process = process
        self.begun()
        if self._is_stopping:  # asked while it was being started
            self._tell(b"s0\n")
        try:
            while line := await reader.readline():
                self.status = msgspec.json.decode(line, type=type(self.status))
                self.heard(self.status)
        except BaseException:
            process.kill()
            raise
        finally:
            transport.close()
            process.stdin.close()
            self._process = None
            exit_code = await loop.run_in_executor(None, process.wait)
        return exit_code


def _spawn(name: str, settings: msgspec.Struct) -> "subprocess.Popen[bytes]":
    # Where this package is, and nothing of the directory that we happen to be in.
    home = str(Path(switch.__file__).resolve().parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            *("-m", f"switch.{name}"),
            msgspec.json.encode(settings).decode(),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        # Ctrl-C on the terminal is for the switch alone. The session is the same: Linux
        # may share processors out by session first, and being nice would count for
        # nothing.
        process_group=0,
    )
