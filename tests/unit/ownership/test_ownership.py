import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from switch.ownership.memory import MemoryOwnership
from switch.ownership.port import Ownership, OwnershipError
from switch.ownership.process import ProcessLock

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from switch.ownership.process import ProcessLock
lock = ProcessLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_it(tmp_path, holder):
    lock: Ownership = ProcessLock(tmp_path / "lock")
    with pytest.raises(OwnershipError) as caught:
        lock.acquire()
    assert f"{tmp_path} is in use by process {holder.pid}" in str(caught.value)
    assert caught.value.owner == str(holder.pid)
    assert not lock.held


def test_a_killed_process_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = ProcessLock(tmp_path / "lock")
    lock.acquire()
    assert lock.held
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_within_one_process_too(tmp_path):
    first, second = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(OwnershipError, match=f"process {os.getpid()}"):
        second.acquire()
    first.release()
    first.release()
    assert not first.held
    second.acquire()
    second.release()
    assert (tmp_path / "lock").exists()


def test_an_older_longer_pid_is_overwritten(tmp_path):
    (tmp_path / "lock").write_text("99999999999\n")
    lock = ProcessLock(tmp_path / "lock")
    lock.acquire()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_forked_child_does_not_keep_it(tmp_path):
    """In a process of its own: forking the test runner would fork its threads."""
    program = f"""
import os, subprocess, sys, time
from switch.ownership.process import ProcessLock
lock = ProcessLock({str(tmp_path / "lock")!r})
lock.acquire()
child = os.fork()
if child == 0:
    assert not lock.held
    time.sleep(60)
    os._exit(0)
try:
    other = ProcessLock(lock.path)
    try:
        other.acquire()
        raise SystemExit("the child gave it away")
    except Exception as error:
        assert "in use" in str(error), error
    lock.release()
    other.acquire()
finally:
    os.kill(child, 9)
    os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("place", ["/proc/self/lock", "missing/lock"])
def test_a_place_that_takes_no_file(tmp_path, place):
    lock = ProcessLock(tmp_path / place)
    with pytest.raises(OwnershipError, match=r"cannot be locked.*may write, got"):
        lock.acquire()
    assert not lock.held


def test_in_memory():
    holders: dict[str, MemoryOwnership] = {}
    first: Ownership = MemoryOwnership("node", holders)
    second: Ownership = MemoryOwnership("node", holders)
    first.acquire()
    with pytest.raises(OwnershipError, match="node is held"):
        second.acquire()
    second.release()
    assert first.held
    first.release()
    second.acquire()
    assert second.held
    assert not first.held
