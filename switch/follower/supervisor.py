"""Keeps a follower running beside the switch, from its event loop.

Rule 1: the switch never waits for the follower: it is woken by a byte that is dropped
        when the pipe is full, and it is asked nothing.
Rule 2: the follower is started by vfork: forking a process with the memory of a
        million accounts would stop it for a while.
"""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

import switch
from switch.follower.lag import ReleaseTimes
from switch.follower.process import Settings, Status
from switch.observe.log import event
from switch.observe.metrics import Sample

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 10.0
# Running so long without an end forgets the ends before.
STEADY_SECONDS = 30.0
# What a process may take to end by itself once it was told, beyond the drain.
EXIT_SECONDS_MAX = 5.0
LINE_BYTES_MAX = 64 * 1024
# It looks by itself every 50 ms; it is woken at most this often.
WAKE_SECONDS_MIN = 0.02

_logger = logging.getLogger("switch.follower")


class FollowerProcess:
    """`status` is what the follower said last; `restarts` counts unexpected ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.status = Status()
        self.restarts = 0
        # Commits; -1: not known yet. A sink that has failed is where it was.
        self.published = -1
        self.projected = -1
        self._times = ReleaseTimes(time.monotonic())
        self._woken_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def fault(self) -> str | None:
        """Why events or rows do not get on; None when they do."""
        if not self.is_running:
            is_first_start = self._task is not None and self.restarts == 0
            return None if is_first_start else "the follower is not running"
        return self.status.publish_fault or self.status.project_fault

    def start(self) -> None:
        assert self._task is None
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    def released(self, number: int) -> None:
        """A commit was answered: the follower may have it."""
        now = time.monotonic()
        if now - self._woken_at >= WAKE_SECONDS_MIN:
            self._woken_at = now
            self._times.mark(number, now)
            self.wake()

    def samples(self, head: int) -> Iterator[Sample]:
        """What there is to tell, with all up to `head` answered."""
        status, now = self.status, time.monotonic()
        yield Sample("follower_up", int(self.is_running))
        yield Sample("follower_restarts", self.restarts)
        yield Sample("published_head", max(self.published, 0))
        yield Sample("projected_head", max(self.projected, 0))
        for sink, position, fault in (
            ("events", self.published, status.publish_fault),
            ("read_model", self.projected, status.project_fault),
        ):
            age = self._times.age(max(position, 0), head, now)
            yield Sample("follower_lag_seconds", age, (sink,))
            yield Sample("follower_faulty", int(fault is not None), (sink,))
            if position >= 0:
                lag = max(head - position, 0)
                yield Sample("follower_lag_commits", lag, (sink,))

    def wake(self) -> None:
        """Cheap, but a system call: for when something was released after a pause."""
        self._tell(b"w")

    async def stop(self, *, drain_seconds: float = 5.0) -> None:
        """Lets the follower publish and project all that is released, within a
        bound, and ends it."""
        if self._task is None:
            return
        self._is_stopping = True
        self._stopping.set()
        self._tell(b"s%d\n" % int(drain_seconds * 1000))
        _, pending = await asyncio.wait(
            [self._task], timeout=drain_seconds + EXIT_SECONDS_MAX
        )
        if pending and self._process is not None:
            event(_logger, logging.WARNING, "follower does not end", pid=self.pid)
            self._process.kill()
        await self._task
        self._task = None

    # -- the process

    def _tell(self, data: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(process.stdin.fileno(), data)

    def _heard(self, status: Status) -> None:
        self.status = status
        if status.published >= 0:
            self.published = status.published
        if status.projected >= 0:
            self.projected = status.projected
        self._times.forget(max(min(self.published, self.projected), 0))

    async def _supervise(self) -> None:
        wait_seconds = RESTART_SECONDS_MIN
        while not self._is_stopping:
            started_at = time.monotonic()
            try:
                exit_code = await self._run_once()
            except (OSError, ValueError) as error:
                # Not started; or it says what is no status, and was ended for it.
                event(_logger, logging.ERROR, "follower has failed", reason=error)
                exit_code = -1
            if self._is_stopping:
                break
            self.restarts += 1
            if time.monotonic() - started_at > STEADY_SECONDS:
                wait_seconds = RESTART_SECONDS_MIN
            event(
                _logger,
                logging.WARNING,
                "follower ended, will be started again",
                exit_code=exit_code,
                seconds=wait_seconds,
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_seconds)
            wait_seconds = min(wait_seconds * 2, RESTART_SECONDS_MAX)

    async def _run_once(self) -> int:
        process = _spawn(self.settings)
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        self._process = process
        if self._is_stopping:  # asked while it was being started
            self._tell(b"s0\n")
        try:
            while line := await reader.readline():
                self._heard(msgspec.json.decode(line, type=Status))
        except BaseException:
            process.kill()
            raise
        finally:
            transport.close()
            process.stdin.close()
            self._process = None
            exit_code = await loop.run_in_executor(None, process.wait)
        return exit_code


def _spawn(settings: Settings) -> "subprocess.Popen[bytes]":
    # Where this package is, and nothing of the directory that we happen to be in.
    home = str(Path(switch.__file__).resolve().parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            *("-m", "switch.follower"),
            msgspec.json.encode(settings).decode(),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        # Ctrl-C on the terminal is for the switch alone.
        start_new_session=True,
    )
