"""The supervisor: a follower that ends is started again, and is not waited for."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from switch.follower import supervisor
from switch.follower.process import Status
from switch.follower.supervisor import FollowerProcess
from tests.unit.follower.running import Bank, until_it_is_so

# Never reads, never ends by itself.
DEAF = "import time; time.sleep(600)"
BABBLING = "print('no status', flush=True); import time; time.sleep(600)"


@pytest.fixture
def bank(tmp_path):
    bank = Bank(tmp_path)
    yield bank
    bank.close()


@pytest.fixture
def quick_restarts(monkeypatch):
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MIN", 0.01)
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MAX", 0.02)


def spawning(monkeypatch, *programs: str) -> list[subprocess.Popen[bytes]]:
    """One after the other, and then the real one."""
    real, waiting = supervisor._spawn, list(programs)
    spawned: list[subprocess.Popen[bytes]] = []

    def spawn(settings):
        if waiting:
            words = [sys.executable, "-c", waiting.pop(0)]
            pipe = subprocess.PIPE
            spawned.append(subprocess.Popen(words, stdin=pipe, stdout=pipe))
        else:
            spawned.append(real(settings))
        return spawned[-1]

    monkeypatch.setattr(supervisor, "_spawn", spawn)
    return spawned


def test_it_runs_and_says_how_far_it_is(bank):
    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        assert not follower.is_running
        assert follower.pid is None
        assert follower.fault == "the follower is not running"
        bank.release(3)
        follower.start()
        await until_it_is_so(lambda: follower.status == Status(3, 3, 3))
        assert follower.is_running
        assert follower.fault is None
        pid = follower.pid
        assert pid is not None
        bank.release()
        follower.wake()
        await until_it_is_so(lambda: follower.status.published == 4)
        await follower.stop()
        assert not follower.is_running
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert follower.restarts == 0

    asyncio.run(main())
    assert bank.published_ids() == bank.expected_ids(4)


def test_one_that_is_killed_is_started_again(bank, quick_restarts):
    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        pids = set()
        for number in range(1, 4):
            bank.append(5)
            bank.release()
            head = bank.journal.head
            await until_it_is_so(
                lambda head=head: (
                    follower.is_running and follower.status.published == head
                )
            )
            assert follower.pid is not None
            pids.add(follower.pid)
            os.kill(follower.pid, signal.SIGKILL)
            await until_it_is_so(lambda n: follower.restarts == n, number)
        bank.append(5)
        bank.release()
        await until_it_is_so(lambda: follower.status.published == bank.journal.head)
        assert len(pids | {follower.pid}) == 4
        await follower.stop(drain_seconds=30)
        assert follower.restarts == 3

    asyncio.run(main())
    head = bank.journal.head
    assert bank.published_ids() == bank.expected_ids(head)
    assert bank.projected() == (head, bank.balances())


def test_stopping_drains_what_is_released(bank):
    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        await until_it_is_so(lambda: follower.status == Status(0, 0, 0))
        bank.append(100)
        bank.release()
        await follower.stop(drain_seconds=30)
        assert follower.status == Status(104, 104, 104)
        await follower.stop()

    asyncio.run(main())
    assert bank.published_ids() == bank.expected_ids(104)
    assert bank.projected() == (104, bank.balances())


def test_stopping_what_was_never_started():
    async def main() -> None:
        await FollowerProcess(Bank.settings).stop()  # type: ignore[arg-type]

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(12))
def test_stopping_at_any_moment_of_the_start(bank, turns):
    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await follower.stop(drain_seconds=0)
        assert not follower.is_running

    asyncio.run(main())


def test_stopping_while_it_waits_to_start_again(bank, monkeypatch):
    """The wait is over at once, and nothing is started any more."""
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MIN", 600.0)
    spawned = spawning(monkeypatch, "")

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        await until_it_is_so(lambda: follower.restarts == 1)
        await follower.stop()

    asyncio.run(main())
    assert [process.returncode for process in spawned] == [0]


def test_one_that_cannot_be_started_is_tried_again(bank, quick_restarts, monkeypatch):
    real = supervisor._spawn
    failures = 3

    def spawn(settings):
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(11, "Resource temporarily unavailable")
        return real(settings)

    monkeypatch.setattr(supervisor, "_spawn", spawn)
    bank.release()

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        await until_it_is_so(lambda: follower.status.published == 4)
        assert follower.restarts == 3
        await follower.stop()

    asyncio.run(main())


@pytest.mark.parametrize("text", [BABBLING, BABBLING.replace("no status", "{}" * 9)])
def test_one_that_babbles_is_ended_and_started_again(
    bank, quick_restarts, monkeypatch, text
):
    spawned = spawning(monkeypatch, text, text)
    bank.release()

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        await until_it_is_so(lambda: follower.status.published == 4)
        assert follower.restarts == 2
        await follower.stop(drain_seconds=30)

    asyncio.run(main())
    assert [process.returncode for process in spawned] == [-9, -9, 0]


def test_one_that_does_not_listen_holds_nothing_up(bank, monkeypatch):
    """Waking it more often than the pipe has room, and stopping it."""
    monkeypatch.setattr(supervisor, "EXIT_SECONDS_MAX", 0.1)
    spawned = spawning(monkeypatch, DEAF)

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        await until_it_is_so(lambda: follower.is_running)
        for _ in range(70_000):
            follower.wake()
        await follower.stop(drain_seconds=0.1)
        assert not follower.is_running

    asyncio.run(main())
    assert [process.returncode for process in spawned] == [-9]


def test_waking_what_does_not_run_does_nothing(bank):
    FollowerProcess(bank.settings()).wake()


def test_a_fault_of_a_sink_is_told(bank):
    (bank.directory / "events").write_text("in the way")
    bank.release()

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        await until_it_is_so(lambda: follower.status.projected == 4)
        assert follower.fault is not None
        assert "FileExistsError" in follower.fault
        await follower.stop(drain_seconds=0)

    asyncio.run(main())


def test_the_child_runs_this_code_wherever_we_are(bank, monkeypatch, tmp_path):
    """A directory with a module of the same name is not where it is from."""
    (tmp_path / "here" / "switch").mkdir(parents=True)
    (tmp_path / "here" / "switch" / "__init__.py").write_text("raise SystemExit(7)")
    (tmp_path / "here" / "json.py").write_text("raise SystemExit(8)")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", "")
    bank.release()

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        await until_it_is_so(lambda: follower.status.published == 4)
        await follower.stop()

    asyncio.run(main())
    assert json.loads((bank.event_files()[0]).read_text().splitlines()[0])["id"]
