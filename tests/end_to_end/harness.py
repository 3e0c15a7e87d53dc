"""A real `switch serve`, as whoever is outside sees it: process, sockets, files.

Rule 1: nothing stays behind. A daemon is known by its data directory, which stands in
        the command line of all its processes; `close` ends whatever is left of them.
Rule 2: the system chooses the ports; the daemon's log says which.
"""

import csv
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import iso8583
from switch.link._framing import FrameReader, Framing
from switch.replay.bank import with_check_digit
from tests.scraping import values_of
from tests.servers.common import command_lines

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
SWITCH = (sys.executable, "-m", "switch")
WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.005
LOG_CHARACTERS_SHOWN = 4000

EURO = "978"
EXPIRY = "4912"
TERMINAL, MERCHANT = "TERM0001", "MERCHANT0000001"
ACQUIRER = "123456"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Polls; fails, saying what did not come, after a time that no machine needs."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(POLL_SECONDS)


def environment() -> dict[str, str]:
    """Ours without settings of the developer's: a test says all that it wants."""
    return {k: v for k, v in os.environ.items() if not k.startswith("SWITCH_")}


def run_switch(
    *arguments: str | Path, program: Sequence[str] = SWITCH
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*program, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS_MAX,
        check=False,
    )


# -- the bank ------------------------------------------------------------------------


def pan_of(index: int) -> str:
    """A card number of the range that no scheme issues, with its check digit."""
    return with_check_digit(f"999999{index:09d}")


def import_accounts(data: Path, rows: Iterable[Sequence[object]]) -> None:
    _import(data, "accounts", ("account", "currency", "balance", "credit_limit"), rows)


def import_cards(data: Path, rows: Iterable[Sequence[object]]) -> None:
    _import(data, "cards", ("pan", "account", "expiry", "status"), rows)


def _import(
    data: Path, what: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    path = data.parent / f"{what}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    done = run_switch(what, "import", path, "--data", data)
    # The only place where the numbers stand in clear, and it is not the daemon's.
    path.unlink()
    assert done.returncode == 0, done.stderr


def make_bank(data: Path, count: int, balance: int, credit_limit: int = 0) -> list[str]:
    """`count` accounts A0, A1, … in euro with a card each; the card numbers."""
    pans = [pan_of(index) for index in range(count)]
    import_accounts(
        data, ((f"A{i}", "EUR", balance, credit_limit) for i in range(count))
    )
    import_cards(data, ((pan, f"A{i}", EXPIRY, "active") for i, pan in enumerate(pans)))
    return pans


def verify(data: Path) -> dict[str, Any]:
    done = run_switch("journal", "verify", data, "--json")
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if verdict["ok"] else 1), done.stderr
    return verdict


def events(data: Path) -> Iterator[dict[str, Any]]:
    """What was published, in the order of the files."""
    for path in sorted((data / "events").glob("events-*.jsonl")):
        with path.open("rb") as file:
            yield from map(json.loads, file)


# -- the daemon ----------------------------------------------------------------------


class Daemon:
    """`switch serve` on `folder/data`; each start writes a log of its own."""

    @property
    def program(self) -> Sequence[str]:
        """What is started in the place of the command `switch`."""
        return SWITCH

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.options = options
        self.starts = 0
        # Where it is told to listen: on ports that the system chooses.
        self.listen: tuple[str, ...] = ("--listen", f"{HOST}:0")
        self.port = 0
        self.http_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.pans: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> Path:
        return self.folder / f"serve-{self.starts}.log"

    @property
    def command(self) -> list[str]:
        return [
            *(*self.program, "serve", "--data", str(self.data)),
            *(*self.listen, "--http", f"{HOST}:0", *self.options),
        ]

    def spawn(self, prepare: Callable[[], None] | None = None) -> None:
        """Begins to start. `prepare` runs in the child before it is the switch."""
        assert self.process is None
        self.starts += 1
        self.port = self.http_port = 0
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=prepare,
            )

    def start(self, prepare: Callable[[], None] | None = None) -> None:
        self.spawn(prepare)
        self.wait_ready()

    def wait_ready(self) -> None:
        wait_until(self._is_ready, f"ready: {self.log_tail()}")

    def _is_ready(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"ended with {code}: {self.log_tail()}"
        if not self.http_port and not self._find_ports():
            return False
        return self.get("/readyz")[0] == 200

    def _find_ports(self) -> bool:
        if self.listen:
            self.port = self.link_port("main")
        for record in self.log_records("listening"):
            if record["logger"] == "switch.http" and (self.port or not self.listen):
                self.http_port = record["port"]
        return bool(self.http_port)

    def link_port(self, link: str) -> int:
        """Where a link listens; 0 while it does not."""
        ports = [
            int(record["address"].rpartition(":")[2])
            for record in self.log_records("listening")
            if record.get("link") == link
        ]
        return ports[-1] if ports else 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def processes(self) -> list[int]:
        """Every process that has the data directory in its command line."""
        return [pid for pid, line in command_lines() if str(self.data) in line]

    def followers(self) -> list[int]:
        return [
            pid
            for pid, line in command_lines()
            if str(self.data) in line and "switch.follower" in line
        ]

    def publishers(self) -> list[int]:
        return [
            pid
            for pid, line in command_lines()
            if str(self.data) in line
            and ("switch.publisher" in line or "switch.node_publisher" in line)
        ]

    def send_signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        assert self.process is not None
        code = self.process.wait(WAIT_SECONDS_MAX)
        self.process = None
        return code

    def stop(self) -> int:
        self.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """The switch alone: its follower has to notice by itself."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """Whatever happened before: no process is left, and none runs on."""
        if self.process is not None:
            self.process.kill()
            self.wait()
        for pid in self.processes():
            _kill(pid)

    # -- what it says

    def log_text(self) -> str:
        """Of all starts."""
        logs = sorted(self.folder.glob("serve-*.log"))
        return "".join(path.read_text("utf-8", "replace") for path in logs)

    def log_tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-LOG_CHARACTERS_SHOWN:]

    def log_records(self, event: str) -> list[dict[str, Any]]:
        """Of this start: the records of one event."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [record for record in found if record["event"] == event]

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            HOST, self.http_port, timeout=WAIT_SECONDS_MAX
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def account(self, name: str) -> dict[str, Any]:
        status, body = self.get(f"/api/accounts/{name}")
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def figures(self, name: str) -> tuple[int, int, int]:
        """Balance, held, available."""
        found = self.account(name)
        return found["balance"], found["held"], found["available"]

    def metrics(self) -> dict[str, float]:
        status, body = self.get("/metrics")
        assert status == 200
        return values_of(body)

    def metrics_of(self, name: str) -> float:
        """The sum of a metric over all its series."""
        return sum(v for k, v in self.metrics().items() if k.partition("{")[0] == name)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


# -- a client ------------------------------------------------------------------------


class Client:
    """A blocking connection, made to a port or `over` one that there is; sends and
    receives whole messages."""

    def __init__(
        self,
        port: int,
        spec: str = "iso87-ascii",
        *,
        framing: str = "binary2",
        over: socket.socket | None = None,
    ) -> None:
        self.codec = iso8583.Codec(iso8583.load_spec(spec))
        self.framing = Framing(framing)
        self.socket = over or socket.create_connection((HOST, port), WAIT_SECONDS_MAX)
        self._reader = FrameReader(self.framing)
        self._bodies: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, *messages: dict[int | str, str]) -> None:
        frames = (self.framing.encode(self.codec.encode(each)) for each in messages)
        self.socket.sendall(b"".join(frames))

    def send_body(self, body: bytes) -> None:
        self.socket.sendall(self.framing.encode(body))

    def receive_body(self) -> bytes | None:
        """The next message; None when the connection has ended."""
        while not self._bodies:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._bodies = list(self._reader.feed(data))
        return self._bodies.pop(0)

    def receive(self) -> dict[int | str, str]:
        body = self.receive_body()
        assert body is not None, "the connection has ended"
        return dict(self.codec.decode(body).to_dict())

    def ask(self, message: dict[int | str, str]) -> dict[int | str, str]:
        self.send(message)
        return self.receive()


def request(
    mti: str, stan: int, pan: str, amount: int, **more: str
) -> dict[int | str, str]:
    """A purchase of `amount` cents; `more` is fields: `f39="00"`."""
    fields: dict[int | str, str] = {
        "mti": mti,
        2: pan,
        3: "000000",
        4: f"{amount:012d}",
        7: "1124120000",
        11: f"{stan:06d}",
        12: "120000",
        13: "1124",
        14: EXPIRY,
        32: ACQUIRER,
        37: f"{stan:012d}",
        41: TERMINAL,
        42: MERCHANT,
        49: EURO,
    }
    return fields | {int(name[1:]): value for name, value in more.items()}


def original_of(mti: str, stan: int) -> str:
    """Field 90 for what `request` made."""
    return f"{mti}{stan:06d}1124120000{ACQUIRER:0>11}{'':0>11}"


def network(stan: int, function: str) -> dict[int | str, str]:
    return {"mti": "0800", 7: "1124120000", 11: f"{stan:06d}", 70: function}
