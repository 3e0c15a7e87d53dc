"""The servers of the load benchmark: how each is built, started, fed and ended."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.01
SWITCH = (sys.executable, "-m", "switch")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Something that makes the figures worthless."""


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


class Server(msgspec.Struct):
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    http_port: int = 0

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds_of(pid) for pid in self.processes())

    def memory_mib(self) -> float:
        return sum(_resident_kib(pid) for pid in self.processes()) / 1024

    def processes(self) -> list[int]:
        """Its process and all below it."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                children = (task / "children").read_text().split()
                found.extend(int(child) for child in children)
        return found

    def is_ready(self) -> bool:
        if not self.http_port:
            return _accepts(self.port)
        url = f"http://{HOST}:{self.http_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                ready: bool = response.status == 200
                return ready
        except (urllib.error.URLError, OSError):
            return False

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"not ready: {self.log.read_text()[-4000:]}")
            time.sleep(POLL_SECONDS)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def cpu_seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


@contextlib.contextmanager
def running(
    command: list[str], port: int, log: Path, http_port: int = 0
) -> Iterator[Server]:
    """The server, once it is ready; ended at the end, by force if it takes long."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    try:
        server = Server(process, port, log, http_port)
        server.wait_until_ready()
        yield server
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# -- the three -----------------------------------------------------------------------


class Cards(msgspec.Struct, frozen=True):
    accounts: Path
    cards: Path


def build_ceiling(folder: Path) -> Path:
    binary = folder / "ceiling"
    source = str(ROOT / "bench/load/ceiling.c")
    options = ["-O3", "-Wall", "-Wextra", "-Werror", "-pthread"]
    run("gcc", *options, "-o", str(binary), source)
    return binary


def build_plain_environment() -> Path:
    """The Python of the plain rival, whose `iso8583` is not ours."""
    home = ROOT / ".cache/bench-plain"
    python = home / "bin/python"
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    stamp = home / "requirements"
    wanted = "\n".join([sys.version, *extras["bench"]])
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        run(str(python), "-m", "pip", "install", "--quiet", *extras["bench"])
        stamp.write_text(wanted)
    return python


def plain_version(python: Path) -> str:
    program = "import importlib.metadata as m; print(m.version('pyiso8583'))"
    return run(str(python), "-c", program).strip()


def ceiling_command(binary: Path, port: int, folder: Path) -> list[str]:
    return [str(binary), str(port), str(folder / "journal")]


def plain_command(python: Path, port: int, folder: Path, cards: Cards) -> list[str]:
    script = str(ROOT / "bench/load/plain.py")
    return [str(python), script, str(port), str(folder / "journal"), str(cards.cards)]


def import_cards(data: Path, cards: Cards) -> None:
    run(*SWITCH, "accounts", "import", str(cards.accounts), "--data", str(data))
    run(*SWITCH, "cards", "import", str(cards.cards), "--data", str(data))


def begin_import(data: Path, server: Server, accounts: Path) -> subprocess.Popen[bytes]:
    """Into the running switch."""
    token = run(
        *(*SWITCH, "tokens", "add", f"bench-{time.monotonic_ns()}"),
        *("--role", "admin", "--data", str(data)),
    )
    command = [*SWITCH, "accounts", "import", str(accounts), "--reason", "benchmark"]
    return subprocess.Popen(
        [*command, "--http", f"{HOST}:{server.http_port}"],
        cwd=ROOT,
        env=os.environ | {"SWITCH_TOKEN": token.strip()},
        stdout=subprocess.DEVNULL,
    )


def switch_command(ports: dict[str, int], http_port: int, data: Path) -> list[str]:
    """Defaults all through: full durability, read model and publishing on. `ports`
    are of its links."""
    command = [*SWITCH, "serve", "--data", str(data), "--http", f"{HOST}:{http_port}"]
    for name, port in ports.items():
        command += ["--set", f"links.{name}.address={HOST}:{port}"]
    return command


@contextlib.contextmanager
def switch_running(
    data: Path,
    log: Path,
    others: dict[str, int] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """With `others`, ports by name, as links beside the one that is to be driven."""
    port, http_port = free_port(), free_port()
    command = switch_command({"main": port} | (others or {}), http_port, data)
    command += options
    with running(command, port, log, http_port) as server:
        yield server


# -- the load ------------------------------------------------------------------------


def drive(
    port: int,
    cards: Cards,
    seconds: float,
    connections: int,
    window: int,
    rate: float = 0.0,
) -> dict[str, Any]:
    """`rate`: requests a second; 0 is as many as the windows let through."""
    paced = ("--rate", str(rate)) if rate else ()
    report: dict[str, Any] = json.loads(
        run(
            *(*SWITCH, "load", "--to", f"{HOST}:{port}", "--cards", str(cards.cards)),
            *("--connections", str(connections), "--window", str(window)),
            *("--seconds", str(seconds), *paced, "--json"),
        )
    )
    if report["unanswered"] or not report["answered"]:
        raise BenchError(f"requests stayed unanswered: {report}")
    return report


def write_cards(folder: Path, count: int, balance: int) -> Cards:
    """One card an account, and money for as long as the benchmark runs."""
    cards = Cards(folder / "accounts.csv", folder / "cards.csv")
    with cards.accounts.open("w") as accounts, cards.cards.open("w") as issued:
        accounts.write("account,currency,balance,credit_limit\n")
        issued.write("pan,account,expiry,status\n")
        for index in range(count):
            account = f"B{index:09d}"
            accounts.write(f"{account},EUR,{balance},0\n")
            issued.write(f"{_pan(index)},{account},4912,active\n")
    return cards


def _pan(index: int) -> str:
    """A number of no real range, with its check digit (ISO/IEC 7812-1)."""
    body = f"990000{index:09d}"
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(body))
    total = sum(value - 9 if value > 9 else value for value in doubled)
    return f"{body}{-total % 10}"


def copy(folder: Path, target: Path) -> None:
    shutil.copytree(folder, target)


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
