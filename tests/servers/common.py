"""What every real server has in common: where it is kept, how it is started and ended.

Rule 1: what is fetched or built is under `.cache/servers/NAME-VERSION`, checked, and
        has that name only when it is whole. A test run fetches nothing.
Rule 2: a server listens on loopback addresses and free ports only, keeps its files in
        a directory of the test's, and ends with the process that started it, however
        that ends: the kernel kills it.
"""

import ctypes
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "servers"
HOST = "127.0.0.1"
# Below those of clients.
PORT_MIN, PORT_MAX = 20_000, 32_000
WAIT_SECONDS_MAX = 120.0
POLL_SECONDS = 0.02
FETCHES_MAX = 4
FETCH_PAUSE_SECONDS = 5.0
OUTPUT_CHARACTERS_SHOWN = 4000
GO_DIRECTORY = Path("/usr/local/go/bin")
# etcd wants it; distributions have older ones.
GO_VERSION_MIN = (1, 26)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class ServerError(Exception):
    """A server that cannot be fetched, built or started: what to do about it."""


# -- fetching


@contextmanager
def being_fetched(name: str) -> Iterator[Path | None]:
    """An empty directory that gets the name `name` in the cache when all went well;
    None when it is there already. Two at once wait for each other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    whole = CACHE / name
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if whole.exists():
            yield None
            return
        draft = CACHE / f"{name}.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        yield draft
        draft.rename(whole)


def cached(name: str) -> Path:
    path = CACHE / name
    if not path.exists():
        raise ServerError(f"expected {path}; `python -m tests.servers get` fetches it")
    return path


def check_sums(directory: Path, sums: Path) -> None:
    """Every file of `sums`, a list as sha256sum writes it, is there as it should be,
    and there is no other."""
    wanted = {}
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        wanted[name] = digest
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.iterdir()
    }
    if found != wanted:
        names = sorted(k for k in found | wanted if found.get(k) != wanted.get(k))
        raise ServerError(f"expected what {sums} says, got others: {', '.join(names)}")


def fetch(*words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    """As `run`, some times: networks fail."""
    for attempt in range(1, FETCHES_MAX + 1):
        try:
            run(*words, cwd=cwd, env=env)
            return
        except ServerError:
            if attempt == FETCHES_MAX:
                raise
            time.sleep(FETCH_PAUSE_SECONDS * attempt)


def run(*words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    """A step of fetching or building; what it printed, only if it failed."""
    try:
        done = subprocess.run(
            list(map(str, words)),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise ServerError(f"expected a program {words[0]}, got none") from None
    if done.returncode:
        shown = done.stdout[-OUTPUT_CHARACTERS_SHOWN:]
        raise ServerError(f"{' '.join(map(str, words))} failed:\n{shown}")


def get_jars(name: str, pom: str, sums: Path) -> bool:
    """What a project of Maven depends on, into `libs`. Whether it had to be fetched."""
    with being_fetched(name) as directory:
        if directory is None:
            return False
        project = directory / "project"
        project.mkdir()
        (project / "pom.xml").write_text(pom)
        fetch(
            *("mvn", "--batch-mode", "--no-transfer-progress", "--quiet"),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={directory / 'libs'}",
            cwd=project,
        )
        check_sums(directory / "libs", sums)
        shutil.rmtree(project)
    return True


def go() -> str:
    """One that is new enough: on PATH, where Go's own installer puts it, or beside this
    Python, where `prepare_servers` of scripts/_environment.sh puts the wheel's."""
    beside = Path(sys.executable).parent
    for path in (None, GO_DIRECTORY, beside):
        found = shutil.which("go", path=path)
        if found is not None and _go_version(found) >= GO_VERSION_MIN:
            return found
    wanted = ".".join(map(str, GO_VERSION_MIN))
    raise ServerError(f"expected a program go, {wanted} or newer, got none")


def _go_version(program: str) -> tuple[int, ...]:
    """(1, 26) of `go version go1.26.3 linux/amd64`."""
    told = subprocess.run([program, "version"], capture_output=True, text=True)
    found = re.search(r"go(\d+)\.(\d+)", told.stdout.removeprefix("go version"))
    return tuple(map(int, found.groups())) if found else ()


# -- running


def free_ports(count: int) -> list[int]:
    """That were free a moment ago, all different; and none that the kernel gives to
    whoever connects, which might have it when the server is started again."""
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        port = PORT_MIN + secrets.randbelow(PORT_MAX - PORT_MIN)
        with suppress(OSError):
            sockets.append(socket.create_server((HOST, port)))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what()}"
        time.sleep(POLL_SECONDS)


def accepts(port: int, host: str = HOST) -> bool:
    try:
        socket.create_connection((host, port), 1.0).close()
    except OSError:
        return False
    return True


def command_lines() -> Iterator[tuple[int, str]]:
    """Of every process on this machine, by its number."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                line = (path / "cmdline").read_bytes()
            except OSError:
                continue  # ended meanwhile
            yield int(path.name), line.decode("utf-8", "replace")


def is_free(address: str, ports: Iterable[int]) -> bool:
    """Whether nobody listens on any of them."""
    try:
        for port in ports:
            socket.create_server((address, port)).close()
    except OSError:
        return False
    return True


class Server:
    """A process with a directory; `start` waits until `is_ready`. Started again it has
    the same ports and files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    # -- of each server

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    # -- of all

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def output(self) -> Path:
        return self.directory / "output.log"

    def spawn(self) -> None:
        """Begins to start. To the kernel its parent is the thread that calls this."""
        assert not self.is_running
        self.starts += 1
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                list(self.command()),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def start(self) -> None:
        self.spawn()
        self.wait_ready()

    def wait_ready(self) -> None:
        wait_until(self._is_ready_or_ended, lambda: f"{self.command()[0]} is ready")

    def _is_ready_or_ended(self) -> bool:
        if not self.is_running:
            text = self.output.read_text("utf-8", "replace")
            raise ServerError(f"it ended:\n{text[-OUTPUT_CHARACTERS_SHOWN:]}")
        return self.is_ready()

    def kill(self) -> None:
        """kill -9; nothing happens when it is not running."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """It hangs, with its connections, until `resume`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(WAIT_SECONDS_MAX)
            self.process = None


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
