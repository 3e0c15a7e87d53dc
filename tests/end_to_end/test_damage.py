"""Damage and full disks under a daemon: found, told, and never answered from."""

import ctypes
import os
import resource
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.end_to_end.harness import (
    Client,
    Daemon,
    make_bank,
    request,
    run_switch,
    verify,
    wait_until,
)

BALANCE = 10**9
ACCOUNTS = 4
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
FILE_BYTES_MAX = 512 * 1024
BATCH_SIZE = 50


@pytest.fixture
def daemon(tmp_path):
    with Daemon(tmp_path) as daemon:
        daemon.pans = make_bank(daemon.data, ACCOUNTS, BALANCE)
        yield daemon


def trade(daemon: Daemon, first: int, count: int) -> list[dict[int | str, str]]:
    """Purchases one after the other, so that each is a commit of its own."""
    with Client(daemon.port) as client:
        return [client.ask(_purchase(daemon, n)) for n in range(first, first + count)]


def _purchase(daemon: Daemon, number: int, mti: str = "0100") -> dict[int | str, str]:
    return request(mti, number, daemon.pans[number % ACCOUNTS], number)


def check_refused(daemon: Daemon, *said: str) -> None:
    """It ends without having listened, and says what and where in one line."""
    daemon.spawn()
    assert daemon.wait() == 74
    assert not daemon.log_records("listening")
    *_, last = daemon.log_tail().splitlines()
    assert last.startswith("switch: ")
    for part in said:
        assert part in last
    wait_until(lambda: not daemon.processes(), "its processes to end")


def is_all_released(daemon: Daemon) -> bool:
    metrics = daemon.metrics()
    return metrics["switch_released_head"] == metrics["switch_journal_head"]


def commits(data: Path) -> dict[int, bytes]:
    """The records of the journal, read by another library."""
    uri = f"file:{data / 'journal.db'}?mode=ro"
    connection = sqlite3.connect(uri, uri=True)
    try:
        return dict(connection.execute("SELECT number, record FROM commits"))
    finally:
        connection.close()


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


# -- the journal ---------------------------------------------------------------------


def test_a_torn_commit_that_nobody_was_answered_is_left_out(daemon):
    """The process dies while it writes: bytes of a commit, and no end of them."""
    daemon.start()
    trade(daemon, 1, 20)
    daemon.kill()
    log = daemon.data / "journal.db-wal"
    frames = log.read_bytes()
    # A frame is a header of 24 bytes and a page; this one does not verify.
    with log.open("ab") as file:
        file.write(frames[-(24 + 16384) : -100][:9000])
    daemon.start()
    assert sum(daemon.account(f"A{i}")["held"] for i in range(ACCOUNTS)) == sum(
        range(1, 21)
    )
    assert len(trade(daemon, 21, 1)) == 1
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_a_torn_commit_that_was_answered_is_told_and_nothing_is_answered(daemon):
    daemon.start()
    trade(daemon, 1, 20)
    # The number of an answered commit is noted a moment after its replies have left.
    wait_until(lambda: is_all_released(daemon), "the last commit to count as answered")
    daemon.kill()
    log = daemon.data / "journal.db-wal"
    os.truncate(log, log.stat().st_size - 100)
    check_refused(daemon, "was answered, but the journal ends before it", "journal.db")


def test_a_flipped_bit_in_the_middle_is_told_and_nothing_is_answered(daemon):
    daemon.start()
    trade(daemon, 1, 40)
    daemon.kill()
    daemon.start()  # what was in the log is now in the file
    daemon.kill()
    records = commits(daemon.data)
    damaged = sorted(records)[len(records) // 2]
    record = records[damaged]
    path = daemon.data / "journal.db"
    flip(path, path.read_bytes().index(record) + len(record) // 2)
    check_refused(daemon, f"commit {damaged}", str(path))
    verdict = verify(daemon.data)
    assert not verdict["ok"]
    assert f"commit {damaged}" in "".join(verdict["problems"])


def test_a_flipped_bit_behind_the_snapshots_is_found_by_verify(daemon):
    daemon.start()
    trade(daemon, 1, 40)
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]
    records = commits(daemon.data)
    damaged = sorted(records)[len(records) // 2]
    path = daemon.data / "journal.db"
    flip(path, path.read_bytes().index(records[damaged]) + 40)
    verdict = verify(daemon.data)
    assert not verdict["ok"]
    assert f"commit {damaged}" in "".join(verdict["problems"])
    # Without the snapshots the start has to read it.
    for snapshots in daemon.data.glob("snapshots.db*"):
        snapshots.unlink()
    check_refused(daemon, f"commit {damaged}", str(path))


def test_a_journal_that_is_gone_is_told_and_not_begun_again(daemon):
    daemon.start()
    trade(daemon, 1, 5)
    assert daemon.stop() == 0
    (daemon.data / "journal.db").unlink()
    check_refused(daemon, str(daemon.data))
    assert not (daemon.data / "journal.db").exists()


def test_another_key_is_told(daemon, tmp_path):
    daemon.start()
    assert daemon.stop() == 0
    other = tmp_path / "other"
    make_bank(other, 1, 1)
    shutil.copy(other / "pan.key", daemon.data / "pan.key")
    check_refused(daemon, "another PAN key")


# -- the disk ------------------------------------------------------------------------


def without_override() -> None:
    """In the child: root is bound by file modes like everybody else."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.parametrize("what", ["an empty directory", "a bank", "a bank's journal"])
def test_a_place_that_cannot_be_written_is_told_by_name(daemon, tmp_path, what):
    if what == "an empty directory":
        daemon.data = tmp_path / "empty"
        daemon.data.mkdir()
    before = sorted(path.name for path in daemon.data.iterdir())
    locked = daemon.data / "journal.db" if what == "a bank's journal" else daemon.data
    locked.chmod(0o400 if locked.is_file() else 0o500)
    try:
        daemon.spawn(without_override)
        assert daemon.wait() == 74
    finally:
        locked.chmod(0o700)
    assert str(daemon.data) in daemon.log_tail().splitlines()[-1]
    assert not daemon.log_records("listening")
    assert sorted(path.name for path in daemon.data.iterdir()) == before


def limit_files() -> None:
    """In the child: no file may grow beyond this, which is how a disk fills."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_disk_that_fills_ends_it_and_nothing_unanswered_is_answered(daemon):
    daemon.start(limit_files)
    told: dict[int, dict[int | str, str]] = {}
    asked = 0
    with Client(daemon.port) as client:
        while True:
            numbers = range(asked + 1, asked + 1 + BATCH_SIZE)
            asked += BATCH_SIZE
            try:
                client.send(*(_purchase(daemon, number) for number in numbers))
            except (BrokenPipeError, ConnectionResetError):
                break
            bodies = [client.receive_body() for _ in numbers]
            answers = [
                client.codec.decode(b).to_dict() for b in bodies if b is not None
            ]
            told |= {int(answer[11]): answer for answer in answers}
            if None in bodies:
                break
    assert daemon.wait() == 74
    assert "journal.db" in daemon.log_tail().splitlines()[-1]
    wait_until(lambda: not daemon.processes(), "its processes to end")
    assert len(told) > BATCH_SIZE
    assert {answer[39] for answer in told.values()} == {"00"}

    daemon.start()  # now there is room
    held = sum(daemon.account(f"A{i}")["held"] for i in range(ACCOUNTS))
    assert sum(told) <= held <= sum(range(1, asked + 1))
    with Client(daemon.port) as client:
        for number, answer in told.items():
            assert client.ask(_purchase(daemon, number, "0101")) == answer
        for number in range(1, asked + 1):
            assert client.ask(_purchase(daemon, number))[39] == "00"
    held = sum(daemon.account(f"A{i}")["held"] for i in range(ACCOUNTS))
    assert held == sum(range(1, asked + 1))
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_what_cannot_be_imported_leaves_nothing(daemon, tmp_path):
    rows = tmp_path / "more.csv"
    rows.write_text(
        "account,currency,balance,credit_limit\nNEW,EUR,1,0\nNEW2,XXX1,1,0\n"
    )
    before = verify(daemon.data)
    done = run_switch("accounts", "import", rows, "--data", daemon.data)
    assert done.returncode == 2
    assert "line 3" in done.stderr
    assert verify(daemon.data) == before
