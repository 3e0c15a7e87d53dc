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


def choose_ports(*wanted: int) -> list[int]:
    """The well-known ports, and a free one for each that somebody has."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(_listener(port)).getsockname()[1] for port in wanted]


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError:
        return socket.create_server((HOST, 0))


class Daemon:
    def __init__(self, data: Path, log: Path, port: int, http_port: int) -> None:
        self.data = data
        self.log = log
        self.port = port
        self.http_port = http_port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def start(self) -> None:
        command = (
            *(*SWITCH, "serve", "--data", str(self.data)),
            *("--listen", f"{HOST}:{self.port}", "--http", f"{HOST}:{self.http_port}"),
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
            self.check()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{self.url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(READY_POLL_S)
        raise exits.CommandError(
            f"daemon: expected it ready within {READY_TIMEOUT_S:g} s: {self._tail()}",
            exits.FAULT,
        )

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
