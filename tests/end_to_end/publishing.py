"""What tests of engines share: a bank, purchases without end, and what is killed."""

import json
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.end_to_end.harness import (
    Client,
    Daemon,
    make_bank,
    request,
    run_switch,
    wait_until,
)
from tests.servers.common import Server

ACCOUNTS = 12
BALANCE = 10**9
VICTIMS = ("switch", "publisher", "server", "hang")


def make_daemon(folder: Path, *words: str) -> Daemon:
    daemon = Daemon(folder, *words)
    daemon.pans = make_bank(daemon.data, ACCOUNTS, BALANCE)
    return daemon


def trade(daemon: Daemon, count: int, first: int = 1) -> None:
    with Client(daemon.port) as client:
        for number in range(first, first + count):
            pan = daemon.pans[number % ACCOUNTS]
            mti = ("0100", "0200")[number % 2]
            answer = client.ask(request(mti, number, pan, number % 7 + 1))
            assert answer[39] == "00"


class Load(threading.Thread):
    """Purchases on whatever daemon there is, until it is told to end."""

    def __init__(self, port: Callable[[], int], pans: list[str], seed: int) -> None:
        super().__init__()
        self.answered = 0
        self._port, self._pans = port, pans
        self._random = random.Random(seed)
        self._ending = threading.Event()

    def run(self) -> None:
        stan = 0
        while not self._ending.is_set():
            try:
                with Client(self._port()) as client:
                    while not self._ending.is_set():
                        stan += 1
                        pan = self._random.choice(self._pans)
                        mti = self._random.choice(("0100", "0200"))
                        client.ask(request(mti, stan % 999_999 + 1, pan, 1))
                        self.answered += 1
            except (OSError, AssertionError):
                self._ending.wait(0.02)

    def wait_for(self, more: int) -> None:
        goal = self.answered + more
        wait_until(lambda: self.answered >= goal or not self.is_alive(), "answers")

    def end(self) -> None:
        self._ending.set()
        self.join()


def harm(victim: str, daemon: Daemon, server: Server, load: Load, answers: int) -> None:
    """Kills it, or makes the server hang, and starts it again: a server after so many
    answers, if there are any."""
    if victim == "switch":
        daemon.kill()
        daemon.start()
    elif victim == "publisher":
        for pid in daemon.publishers():
            os.kill(pid, signal.SIGKILL)
    elif victim == "server":
        server.kill()
        load.wait_for(answers)
        server.start()
    else:
        server.pause()
        load.wait_for(answers)
        server.resume()


def set_aside(data: Path, engine: str) -> list[dict[str, Any]]:
    path = data / "publish" / f"{engine}.refused"
    return [json.loads(line) for line in path.read_text().splitlines()]


def said_json(*words: str | Path) -> Any:
    done = run_switch(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
