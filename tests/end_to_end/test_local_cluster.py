"""`scripts/cluster`, small, from its start to its end."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, WAIT_SECONDS_MAX, wait_until
from tests.servers.local.commands import READY, READY_SECONDS_MAX
from tests.servers.local.layout import Place
from tests.servers.local.processes import Processes, left_over

PROGRAM = (sys.executable, "-m", "tests.servers.local")
UP = ("--small", "--nodes", "2", "--shards", "4", "--rate", "30")


def run(action: str, directory: Path, *options: str) -> "tuple[int, str]":
    done = subprocess.run(
        [*PROGRAM, action, "--directory", str(directory), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * WAIT_SECONDS_MAX,
    )
    return done.returncode, done.stdout


# It starts five servers, and then nodes.
@pytest.mark.timeout(600)
def test_up_shows_it_status_tells_of_it_down_ends_it(tmp_path):
    place = Place(tmp_path / "cluster")
    process = subprocess.Popen(
        [*PROGRAM, "up", "--directory", str(place.directory), *UP],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []

    is_ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if READY in line:
                is_ready.set()

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    try:
        assert is_ready.wait(READY_SECONDS_MAX), "".join(lines)
        code, said = run("status", place.directory)
        assert code == 0, said
        names = {"up", "cassandra1", "etcd1", "kafka", "nsqd", "node1", "node2"}
        assert names <= {line.split()[0] for line in said.splitlines() if line}
        code, said = run("up", place.directory, *UP)
        assert code == 74
        assert "a cluster runs already" in said
        records = Processes(place.processes).all()
        wait_until(lambda: "shards open: 4 of 4" in "".join(lines), "the table")
        code, said = run("down", place.directory)
        assert code == 0
        assert "it has stopped, and with it" in said
        assert process.wait(WAIT_SECONDS_MAX) == 0, "".join(lines)
    finally:
        process.kill()
        process.wait()
        reading.join(WAIT_SECONDS_MAX)
        assert process.stdout is not None
        process.stdout.close()
    text = "".join(lines)
    assert "journal verify: ok" in text
    assert "node2: 0 of" not in text
    assert not any(record.is_running for record in records)
    assert not list(left_over(place.directory))
    assert not place.fresh.exists()
