"""The supervisor: a follower that ends is started again, and is not waited for."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from switch.companion import supervisor
from switch.follower.process import Settings, Status
from switch.follower.supervisor import FollowerProcess
from switch.observe.metrics import Histogram
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

    def spawn(name, settings):
        if waiting:
            words = [sys.executable, "-c", waiting.pop(0)]
            pipe = subprocess.PIPE
            spawned.append(subprocess.Popen(words, stdin=pipe, stdout=pipe))
        else:
            spawned.append(real(name, settings))
        return spawned[-1]

    monkeypatch.setattr(supervisor, "_spawn", spawn)
    return spawned


def heard(follower: FollowerProcess, status: Status) -> None:
    follower.status = status
    follower.heard(status)


def told(follower: FollowerProcess, head: int) -> dict[str, float]:
    """What a scrape shows while all up to `head` is answered."""
    figures = {}
    for sample in follower.samples(head):
        assert not isinstance(sample.value, Histogram)
        figures[" ".join((sample.name, *sample.labels))] = sample.value
    return figures


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
        assert told(follower, 3) == {
            "follower_up": 1,
            "follower_restarts": 0,
            "published_head": 3,
            "projected_head": 3,
            "follower_lag_commits events": 0,
            "follower_lag_commits read_model": 0,
            "follower_lag_seconds events": 0,
            "follower_lag_seconds read_model": 0,
            "follower_faulty events": 0,
            "follower_faulty read_model": 0,
        }
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
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MAX", 600.0)
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

    def spawn(name, settings):
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(11, "Resource temporarily unavailable")
        return real(name, settings)

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
        figures = told(follower, 4)
        assert figures["follower_faulty events"] == 1
        assert figures["follower_faulty read_model"] == 0
        assert figures["follower_lag_seconds events"] > 0
        assert figures["follower_lag_seconds read_model"] == 0
        # It was never open: how far it is nobody knows.
        assert "follower_lag_commits events" not in figures
        assert figures["follower_lag_commits read_model"] == 0
        await follower.stop(drain_seconds=0)

    asyncio.run(main())


def test_a_follower_that_does_not_get_on_falls_behind(bank):
    """Stopped, it is as a disk would hold it: it runs, and says nothing more."""

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        follower.start()
        bank.release()
        follower.released(4)
        await until_it_is_so(lambda: follower.status == Status(4, 4, 4))
        assert follower.pid is not None
        os.kill(follower.pid, signal.SIGSTOP)
        try:
            follower.released(9)
            await until_it_is_so(
                lambda: told(follower, 9)["follower_lag_seconds events"] > 0.05
            )
            figures = told(follower, 9)
            assert figures["follower_up"] == 1
            assert figures["follower_lag_commits events"] == 5
            assert figures["follower_lag_commits read_model"] == 5
            assert figures["published_head"] == 4
            ages = [
                figures[f"follower_lag_seconds {sink}"]
                for sink in ("events", "read_model")
            ]
            later = told(follower, 9)["follower_lag_seconds events"]
            assert 0.05 < min(ages) <= max(ages) <= later
        finally:
            os.kill(follower.pid, signal.SIGCONT)
        await follower.stop(drain_seconds=0)

    asyncio.run(main())


def test_a_sink_that_fails_is_where_it_was():
    follower = FollowerProcess(Settings(data_directory="/none", file_bytes_max=1))
    heard(follower, Status(9, 7, 8))
    heard(follower, Status(9, -1, -1, "OSError: no space", "OSError: no space"))
    figures = told(follower, 9)
    assert figures["published_head"] == 7
    assert figures["projected_head"] == 8
    assert figures["follower_lag_commits events"] == 2
    assert figures["follower_lag_commits read_model"] == 1
    assert figures["follower_faulty read_model"] == 1


def test_one_that_does_not_run_is_a_fault_but_for_its_first_start(bank, monkeypatch):
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MIN", 600.0)
    monkeypatch.setattr(supervisor, "RESTART_SECONDS_MAX", 600.0)
    spawning(monkeypatch, "raise SystemExit(3)")

    async def main() -> None:
        follower = FollowerProcess(bank.settings())
        assert follower.fault == "the follower is not running"
        follower.start()
        assert not follower.is_running
        assert follower.fault is None
        await until_it_is_so(lambda: follower.restarts == 1)
        assert follower.fault == "the follower is not running"
        figures = told(follower, 4)
        assert figures["follower_up"] == 0
        assert figures["follower_restarts"] == 1
        await follower.stop()

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
