"""The follower as a process of its own, beside a journal that another one writes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from switch.companion.parent import EXIT_JOURNAL
from switch.follower.process import Follower, Status
from tests.unit.follower.running import SECONDS_MAX, Bank, until
from tests.unit.small_bank import PANS

ROOT = Path(__file__).parents[3]


class Child:
    """A follower, with the two pipes of its parent."""

    def __init__(self, bank: Bank, **settings) -> None:
        text = msgspec.json.encode(bank.settings(**settings)).decode()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "switch.follower", text],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.statuses: list[Status] = []
        self.log = b""
        self._threads = [
            threading.Thread(target=self._read_statuses),
            threading.Thread(target=self._read_log),
        ]
        for thread in self._threads:
            thread.start()

    def _read_statuses(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.statuses.append(msgspec.json.decode(line, type=Status))

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log = self.process.stderr.read()

    @property
    def status(self) -> Status:
        return self.statuses[-1] if self.statuses else Status()

    def tell(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def until_at(self, number: int) -> None:
        until(lambda: self.status.published == self.status.projected == number)

    def stop(self, within_ms: int = 60_000) -> int:
        self.tell(b"s%d\n" % within_ms)
        return self.ended()

    def kill(self) -> None:
        self.process.kill()
        assert self.ended() == -signal.SIGKILL

    def ended(self) -> int:
        exit_code = self.process.wait(SECONDS_MAX)
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return exit_code


@pytest.fixture
def bank(tmp_path):
    bank = Bank(tmp_path)
    yield bank
    bank.close()


@pytest.fixture
def start(bank):
    children: list[Child] = []

    def begin(**settings) -> Child:
        children.append(Child(bank, **settings))
        return children[-1]

    yield begin
    for child in children:
        if child.process.poll() is None:
            child.kill()


def test_only_what_is_released_comes_out(bank, start):
    """The journal has four commits; two of them were answered."""
    bank.release(2)
    child = start()
    child.until_at(2)
    assert child.stop() == 0
    assert child.status == Status(2, 2, 2)
    assert bank.journal.head == 4
    assert bank.published_ids() == bank.expected_ids(2)
    assert bank.projected()[0] == 2


def test_nothing_is_released(bank, start):
    child = start()
    child.until_at(0)
    assert child.stop() == 0
    assert bank.published_ids() == []
    assert bank.projected() == (0, {})


def test_it_follows_the_head_and_stays_behind_it(bank, start):
    child = start()
    for number in range(1, 12):
        bank.append(1)
        bank.release(number)
        child.tell(b"w")
        until(lambda head: child.status.published == head, number)
        assert bank.published_ids() == bank.expected_ids(number)
        assert bank.journal.head > number
    assert child.stop() == 0
    assert bank.projected()[0] == 11
    for status in child.statuses:
        assert max(status.published, status.projected) <= status.released


def test_it_looks_by_itself_when_nobody_wakes_it(bank, start):
    child = start()
    child.until_at(0)
    bank.release()
    child.until_at(4)
    assert child.stop() == 0


def test_what_it_publishes_and_projects_is_what_the_journal_says(bank, start):
    bank.append(20)
    bank.release()
    child = start()
    assert child.stop() == 0
    assert bank.published_ids() == bank.expected_ids(24)
    assert bank.projected() == (24, bank.balances())
    events = bank.published()
    assert [event.commit for event in events] == sorted(e.commit for e in events)


@pytest.mark.parametrize("files", [[1, 2, 5], [20, 40, 41, 80]])
def test_a_kill_loses_nothing_and_doubles_nothing(bank, start, files):
    """Each child is killed when that many files have been begun."""
    bank.append(400)
    bank.release()
    for count in files:
        child = start(file_bytes_max=4096)
        until(lambda enough: len(bank.event_files()) >= enough, count)
        child.kill()
        ids = bank.published_ids()
        assert ids == bank.expected_ids(bank.journal.head)[: len(ids)]
    child = start(file_bytes_max=4096)
    assert child.stop() == 0
    assert bank.published_ids() == bank.expected_ids(bank.journal.head)
    assert bank.projected() == (bank.journal.head, bank.balances())


def test_a_kill_between_two_batches_of_rows(bank, start):
    """The read model counts each entry once, whenever its process ends."""
    for _ in range(4):
        bank.append(30)
        bank.release()
        child = start()
        until(lambda each: each.status.published == bank.journal.head, child)
        child.kill()
    child = start()
    assert child.stop() == 0
    assert bank.projected() == (bank.journal.head, bank.balances())


def test_it_ends_when_its_parent_is_gone(bank, start):
    bank.release()
    child = start()
    child.until_at(4)
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.ended() == 0


def test_it_ends_when_its_parent_does_not_listen_any_more(bank):
    """Standard output is closed, as by a parent that was killed."""
    text = msgspec.json.encode(bank.settings()).decode()
    with subprocess.Popen(
        [sys.executable, "-m", "switch.follower", text],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(SECONDS_MAX) == 0


def test_stopping_drains_what_was_released_a_moment_ago(bank, start):
    child = start()
    child.until_at(0)
    bank.append(50)
    bank.release()
    assert child.stop() == 0
    assert child.status == Status(54, 54, 54)
    assert bank.published_ids() == bank.expected_ids(54)
    assert bank.projected() == (54, bank.balances())


def test_stopping_does_not_wait_for_a_sink_that_cannot(bank, start):
    """A file is where the directory of events should be."""
    (bank.directory / "events").write_text("in the way")
    bank.release()
    child = start()
    until(lambda: child.status.publish_fault and child.status.projected == 4)
    assert child.stop(within_ms=300) == 0
    assert child.status.published == -1
    assert "FileExistsError" in (child.status.publish_fault or "")
    assert child.status.projected == 4
    assert child.status.project_fault is None
    assert bank.projected() == (4, bank.balances())
    assert b"cannot go on, will try again" in child.log


def test_a_read_model_that_fails_does_not_hold_up_the_events(bank, start):
    (bank.directory / "readmodel.db").mkdir()
    bank.release()
    child = start()
    until(lambda: child.status.project_fault)
    until(lambda: child.status.published == 4)
    bank.append(1)
    bank.release()
    until(lambda: child.status.published == 5)
    assert child.status.projected == -1
    assert child.stop(within_ms=0) == 0
    assert bank.published_ids() == bank.expected_ids(5)


def test_a_sink_that_can_again_goes_on(bank, start):
    (bank.directory / "events").write_text("in the way")
    bank.release()
    child = start()
    until(lambda: child.status.publish_fault)
    (bank.directory / "events").unlink()
    until(lambda: child.status.published == 4)
    assert child.status.publish_fault is None
    assert child.stop() == 0
    assert bank.published_ids() == bank.expected_ids(4)


def test_its_parent_may_be_told_in_pieces(bank, start):
    bank.release()
    child = start()
    for piece in (b"ww", b"w\nw", b"x\n", b"s6", b"00w", b"00"):
        child.tell(piece)
    child.until_at(4)
    child.tell(b"\n")
    assert child.ended() == 0


def test_signals_of_the_terminal_do_not_end_it(bank, start):
    child = start()
    child.until_at(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        child.process.send_signal(number)
    bank.release()
    child.until_at(4)
    assert child.stop() == 0


def test_it_runs_at_a_lower_priority(bank, start):
    child = start()
    child.until_at(0)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    other = os.getpriority(os.PRIO_PROCESS, child.process.pid)
    assert other == min(own + 10, 19)
    assert child.stop() == 0


def test_events_go_where_they_are_asked_to_go(bank, start, tmp_path):
    bank.release()
    child = start(events_directory=str(tmp_path / "elsewhere"))
    assert child.stop() == 0
    assert not (bank.directory / "events").exists()
    assert (tmp_path / "elsewhere" / "events-00000001.jsonl").stat().st_size > 0


def test_no_pan_is_in_its_files_or_its_log(bank, start):
    (bank.directory / "readmodel.db").write_bytes(b"no database")
    bank.release()
    child = start(log_level="debug")
    assert child.stop() == 0
    assert b"read model thrown away" in child.log
    texts = [child.log, (bank.directory / "readmodel.db").read_bytes()]
    texts += [path.read_bytes() for path in bank.event_files()]
    assert not [pan for pan in PANS for text in texts if pan.encode() in text]


def test_a_deleted_read_model_is_made_again(bank, start):
    bank.append(10)
    bank.release()
    assert start().stop() == 0
    (bank.directory / "readmodel.db").unlink()
    assert start().stop() == 0
    assert bank.projected() == (14, bank.balances())
    assert bank.published_ids() == bank.expected_ids(14)


def test_deleted_events_are_published_again(bank, start):
    bank.release()
    assert start().stop() == 0
    for path in bank.event_files():
        path.unlink()
    assert start().stop() == 0
    assert bank.published_ids() == bank.expected_ids(4)


def test_without_a_journal_it_ends_and_says_so(tmp_path, bank, start):
    bank.close()
    for name in ("journal.db", "released"):
        (tmp_path / name).unlink()
    child = start()
    assert child.ended() == EXIT_JOURNAL
    assert b"follower ends" in child.log
    assert b"JournalMissing" in child.log


def test_a_damaged_journal_ends_it_before_anything_of_it_is_published(bank, start):
    bank.append(3)
    bank.release()
    bank.journal._connection.execute(
        "UPDATE commits SET record = zeroblob(length(record)) WHERE number = 3"
    )
    child = start()
    assert child.ended() == EXIT_JOURNAL
    assert b"JournalDamaged" in child.log
    assert b"commit 3" in child.log
    assert set(bank.published_ids()) <= set(bank.expected_ids(2))


def test_a_follower_in_this_process_closes_what_it_opened(bank):
    bank.release()
    # SQLite keeps the descriptors of a file while another connection locks it
    bank.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    follower = Follower(bank.settings())
    while not follower.is_done():
        follower.step(at_once=True)
    assert follower.status() == Status(4, 4, 4)
    follower.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
