"""The demonstration's daemon: the real `switch serve`, as a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import aiohttp

from switch.cli import exits
from switch.observe.listening import IN_USE

READY_TIMEOUT_S: Final = 60.0
READY_POLL_S: Final = 0.1
STOP_TIMEOUT_S: Final = 20.0
LOG_LINES_SHOWN: Final = 5
HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)
SWITCH: Final = (sys.executable, "-m", "switch")
HOST: Final = "127.0.0.1"


def run_switch(*arguments: str) -> str:
    """A command of ours; its output, or what it complained of."""
    done = subprocess.run(
        (*SWITCH, *arguments), capture_output=True, text=True, check=False
    )
    if done.returncode not in (exits.OK, exits.NOT_SO):
        text = done.stderr.strip().removeprefix("switch: ")
        raise exits.CommandError(f"switch {arguments[0]}: {text}", done.returncode)
    return done.stdout


def free_ports(*wanted: int) -> list[int]:
    """Those that are free; 0, which lets the system choose, for one that is not."""
    return [port if _is_free(port) else 0 for port in wanted]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As a server would; it does not listen, so that it is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Daemon:
    """On the ports that are wanted, if nobody has them; `port` and `http_port` are
    known when it is ready."""

    def __init__(self, data: Path, log: Path, *wanted: int) -> None:
        self.data = data
        self.log = log
        self.port = self.http_port = 0
        self._wanted = wanted
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def start(self) -> None:
        self._start(*free_ports(*self._wanted))

    def _start(self, port: int, http_port: int) -> None:
        self.port = self.http_port = 0
        command = (
            *(*SWITCH, "serve", "--data", str(self.data)),
            *("--listen", f"{HOST}:{port}", "--http", f"{HOST}:{http_port}"),
        )
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C at the terminal is for us, and we stop it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_environment(),
            )

    async def wait_ready(self, session: aiohttp.ClientSession) -> None:
        give_up_at = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < give_up_at:
            if self._is_outrun():
                self._start(0, 0)
            self.check()
            await asyncio.sleep(READY_POLL_S)
            # Not before: what answers there may be somebody else's.
            if not self._find_ports():
                continue
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{self.url}/readyz") as response:
                    if response.status == 200:
                        return
        raise exits.CommandError(
            f"daemon: expected it ready within {READY_TIMEOUT_S:g} s: {self._tail()}",
            exits.FAULT,
        )

    def _is_outrun(self) -> bool:
        """Whether it ended because somebody took a port that was free a moment ago."""
        assert self._process is not None
        return self._process.poll() is not None and IN_USE in self._tail()

    def _find_ports(self) -> bool:
        """Where it listens, as its log says; whether it does."""
        for line in self.log.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):  # it is being written
                record = json.loads(line)
                if record["event"] == "listening" and record["logger"] == "switch.http":
                    self.http_port = record["port"]
                elif record["event"] == "listening":
                    self.port = int(record["address"].rpartition(":")[2])
        return bool(self.port and self.http_port)

    def check(self) -> None:
        """Raises when the daemon has ended by itself."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise exits.CommandError(
                f"daemon: ended with exit code {code}: {self._tail()}", exits.FAULT
            )

    async def account(
        self, session: aiohttp.ClientSession, account: str
    ) -> dict[str, Any] | None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with session.get(f"{self.url}/api/accounts/{account}") as response:
                if response.status == 200:
                    found: dict[str, Any] = await response.json()
                    return found
        return None

    def stop(self) -> None:
        """SIGTERM, so that it answers what it has; SIGKILL if that takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # also when a second Ctrl-C ends our waiting: nothing stays behind
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return " | ".join(lines[-LOG_LINES_SHOWN:]) or "it said nothing"


def verify(data: Path) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads(
        run_switch("journal", "verify", str(data), "--json")
    )
    return verdict


def _environment() -> dict[str, str]:
    """Ours without settings: the demonstration says all that it wants changed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SWITCH_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
