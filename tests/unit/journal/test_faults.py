"""What a disk does to an append: nothing is answered that is not kept, and whoever
cannot know says so and stops."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import apsw
import pytest

from switch.journal import wal
from switch.journal.connection import translate
from switch.journal.errors import (
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalReadOnly,
    JournalStopped,
    JournalUnknown,
)
from switch.journal.sqlite import SqliteJournal
from tests.simulation.power_loss import Disk
from tests.unit.journal.build import SHARD_COUNT, batch, fill

ROOT = Path(__file__).parents[3]
NOBODY = 65534


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "data").mkdir()
    disk = Disk(tmp_path / "data")
    yield disk
    disk.unregister()


def make(disk: Disk, count: int = 3) -> SqliteJournal:
    journal = SqliteJournal.open(disk.directory, shard_count=SHARD_COUNT, vfs=disk.vfs)
    for number in range(journal.head + 1, count + 1):
        journal.append(1, batch(number))
    return journal


def failing(kind: str, error: type[apsw.Error], name: str, skip: int = 0):
    """A fault for the (skip + 1)-th operation of this kind on this file, and later."""
    left = skip

    def fault(operation: str, file: str) -> None:
        nonlocal left
        if (operation, file) == (kind, name):
            left -= 1
            if left < 0:
                raise error("scripted")

    return fault


@contextmanager
def a_users_directory():
    """A new directory, looked at by a user whom modes stop: root puts its rights aside
    meanwhile."""
    with tempfile.TemporaryDirectory(prefix="switch-test-") as name:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(name, NOBODY, NOBODY)
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)
                os.setegid(0)


def _error(code: int) -> apsw.Error:
    """What SQLite would raise."""
    error = apsw.exception_for(code)
    assert isinstance(error, apsw.Error)
    return error


class TestFullDisk:
    @pytest.mark.parametrize("skip", range(6))
    def test_nothing_is_kept_and_it_goes_on(self, disk, skip):
        journal = make(disk)
        disk.fault = failing("write", apsw.FullError, "journal.db-wal", skip)
        with pytest.raises(JournalFull, match=r"disk full.*\(commit 4, .*journal\.db"):
            journal.append(1, batch(4, size=40_000))
        assert journal.head == 3
        assert len(list(journal.read(0))) == 3
        with pytest.raises(JournalFull):
            journal.append_many(1, [batch(4), batch(5, size=100_000)])
        disk.fault = None
        assert journal.append(1, batch(4)) == 4
        assert [commit.records for commit in journal.read(3)] == [tuple(batch(4))]
        journal.close()

    def test_a_crash_then_finds_only_what_was_kept(self, disk, tmp_path):
        journal = make(disk)
        disk.fault = failing("write", apsw.FullError, "journal.db-wal", 3)
        with pytest.raises(JournalFull):
            journal.append(1, batch(4, size=100_000))
        disk.fault = None
        journal.append(1, batch(4))
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(disk.directory / name, copy)
        other = SqliteJournal.open(copy)
        assert [commit.records for commit in other.read(3)] == [tuple(batch(4))]
        other.close()
        journal.close()

    def test_copying_the_log_waits_for_room(self, disk):
        journal = make(disk)
        disk.fault = failing("write", apsw.FullError, "journal.db")
        for number in range(4, 80):
            assert journal.append(1, batch(number, size=200_000)) == number
            journal.tend()
        disk.fault = None
        journal.close()
        journal = make(disk, 80)
        assert len(list(journal.read(0))) == 80
        journal.close()

    def test_one_on_which_it_cannot_even_be_opened(self):
        """As a kernel says it, and SQLite."""
        error = _error(apsw.SQLITE_IOERR_SHMSIZE)
        with pytest.raises(JournalFull, match=r"disk full, make room: .*\(x\.db\)"):
            raise translate(error, "x.db", None)
        # An append may be durable by then.
        assert isinstance(translate(error, "x.db", 4), JournalUnknown)
        other = _error(apsw.SQLITE_IOERR_READ)
        assert not isinstance(translate(other, "x.db", None), JournalFull)

    def test_a_real_one(self, tmp_path):
        """On a file system of 3 MiB, where a mount is allowed."""
        program = f"""
            mount -t tmpfs -o size=3m tmpfs {tmp_path} && exec {sys.executable} -c '
from pathlib import Path
from switch.journal.errors import JournalFull
from switch.journal.sqlite import SqliteJournal
from tests.unit.journal.build import batch
directory = Path("{tmp_path}")
journal = SqliteJournal.open(directory, shard_count=4)
ballast = directory / "ballast"
ballast.write_bytes(bytes(1_000_000))
try:
    while True:
        journal.append(1, batch(journal.head + 1, size=20_000))
        journal.tend()
except JournalFull as error:
    print(error)
ballast.unlink()
head = journal.head
assert head > 10
journal.append(1, batch(head + 1))
assert len(list(journal.read(0))) == head + 1
journal.close()
journal = SqliteJournal.open(directory)
assert journal.head == head + 1 == len(list(journal.read(0)))
print("survived")'"""
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        try:
            subprocess.run([*unshare, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no mounts here")
        done = subprocess.run(
            [*unshare, "sh", "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if "permission denied" in done.stderr:
            pytest.skip("no mounts here")
        assert "disk full" in done.stdout, done.stderr
        assert "survived" in done.stdout, done.stderr


class TestFailingDisk:
    @pytest.mark.parametrize(
        ("kind", "skip"), [("sync", 0), ("write", 0), ("write", 1), ("write", 3)]
    )
    def test_the_outcome_is_unknown_and_it_stops(self, disk, kind, skip):
        journal = make(disk)
        disk.fault = failing(kind, apsw.IOError, "journal.db-wal", skip)
        with pytest.raises(
            JournalUnknown, match=r"append failed.*\(commit 4, .*journal"
        ):
            journal.append(1, batch(4, size=40_000))
        # Works again, or pretends to: it is not asked a second time.
        disk.fault = None
        written = len(disk.history.operations)
        for _ in range(2):
            with pytest.raises(JournalStopped, match="earlier fault: append failed"):
                journal.append(1, batch(4))
        with pytest.raises(JournalStopped):
            journal.append_many(1, [batch(4)])
        journal.tend()
        journal.close()
        assert not [
            operation
            for operation in disk.history.operations[written:]
            if operation.kind in ("write", "sync")
        ]
        # Opening again settles it: the commit is whole, or not there.
        journal = make(disk, 0)
        assert journal.head in (3, 4)
        assert len(list(journal.read(0))) == journal.head
        assert journal.append(1, batch(journal.head + 1)) == journal.head
        journal.close()

    def test_a_full_disk_that_fails_then_leaves_the_outcome_unknown(self, disk):
        """Whoever is told that it is full may try the same append again."""
        journal = make(disk)
        is_full = False

        def fault(operation: str, file: str) -> None:
            nonlocal is_full
            if is_full and (operation, file) == ("read", "journal.db-wal"):
                raise apsw.IOError("scripted")
            if (operation, file) == ("write", "journal.db-wal"):
                is_full = True
                raise apsw.FullError("scripted")

        disk.fault = fault
        with pytest.raises(JournalUnknown, match="append failed: disk full"):
            journal.append(1, batch(4, size=100_000))
        disk.fault = None
        with pytest.raises(JournalStopped):
            journal.append(1, batch(4))
        journal.close()

    def test_the_log_of_a_process_before_is_synced_as_it_is(
        self, tmp_path, monkeypatch
    ):
        log = tmp_path / "journal.db-wal"
        journal = fill(tmp_path, 3)
        shutil.copy(log, tmp_path / "kept")
        journal.close()
        (tmp_path / "kept").rename(log)
        before = log.read_bytes()
        assert len(before) > 40_000
        synced = Mock()
        monkeypatch.setattr(os, "fsync", synced)
        wal.write_again(str(log))
        assert log.read_bytes() == before
        synced.assert_called_once()
        synced.side_effect = OSError(errno.EIO, "bad disk")
        with pytest.raises(JournalError, match=r"log cannot be synced: .*bad disk"):
            SqliteJournal.open(tmp_path)
        monkeypatch.undo()
        assert log.read_bytes() == before
        SqliteJournal.open(tmp_path).close()

    def test_while_the_log_is_copied(self, disk, monkeypatch):
        monkeypatch.setattr("switch.journal.sqlite.LOG_PAGES_MAX", 8)
        journal = make(disk, 10)
        disk.fault = failing("sync", apsw.IOError, "journal.db")
        journal.tend()
        disk.fault = None
        with pytest.raises(JournalStopped, match="IOError"):
            journal.append(1, batch(11))
        journal.close()
        journal = make(disk, 0)
        assert len(list(journal.read(0))) == 10
        journal.close()

    def test_while_reading(self, disk):
        make(disk, 30).close()
        journal = make(disk, 30)
        disk.fault = failing("read", apsw.IOError, "journal.db", skip=3)
        with pytest.raises(JournalError, match=r"cannot be read: .*journal\.db"):
            list(journal.read(0))
        with pytest.raises(JournalError, match=r"cannot be read: .*journal\.db"):
            SqliteJournal.open(disk.directory, vfs=disk.vfs)
        disk.fault = None
        assert len(list(journal.read(0))) == 30
        journal.close()

    def test_a_limit_on_the_size_of_files(self, tmp_path):
        """A real short write, by a limit of the kernel; it reports no full disk."""
        program = f"""
import resource
from pathlib import Path
from switch.journal.errors import JournalStopped, JournalUnknown
from switch.journal.sqlite import SqliteJournal
from tests.unit.journal.build import batch
directory = Path({str(tmp_path)!r})
journal = SqliteJournal.open(directory, shard_count=4)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    while True:
        journal.append(1, batch(journal.head + 1, size=5_000))
except JournalUnknown as error:
    print(journal.head)
try:
    journal.append(1, batch(journal.head + 1))
except JournalStopped:
    print("stopped")
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        head, stopped = done.stdout.split()
        assert stopped == "stopped"
        journal = SqliteJournal.open(tmp_path)
        assert journal.head == int(head)
        assert len(list(journal.read(0))) == journal.head > 10
        journal.close()


class TestReadOnly:
    def test_a_file_that_cannot_be_written(self, disk, tmp_path):
        make(disk).close()

        class ReadOnlyDisk(Disk):
            def xOpen(self, name, flags):  # noqa: N802
                if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
                    flags[0] = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY
                return super().xOpen(name, flags)

        other = ReadOnlyDisk(disk.directory)
        with pytest.raises(JournalReadOnly, match=r"cannot be written.*journal\.db"):
            SqliteJournal.open(disk.directory, vfs=other.vfs)
        other.unregister()

    def test_a_directory_that_takes_no_new_file(self, disk):
        make(disk).close()
        disk.fault = failing("open", apsw.CantOpenError, "journal.db-wal")
        with pytest.raises(JournalReadOnly, match=r"may read and write.*journal\.db"):
            SqliteJournal.open(disk.directory, vfs=disk.vfs)

    def test_a_directory_of_the_kernel(self):
        """Not even root makes a file there."""
        with pytest.raises(JournalReadOnly, match=r"cannot be created.*/proc/self"):
            SqliteJournal.open("/proc/self")

    def test_modes(self):
        with a_users_directory() as directory:
            SqliteJournal.open(directory).close()
            (directory / "journal.db").chmod(0o400)
            with pytest.raises(JournalReadOnly, match="file cannot be written"):
                SqliteJournal.open(directory)
            (directory / "journal.db").chmod(0o600)
            directory.chmod(0o500)
            with pytest.raises(JournalReadOnly):
                SqliteJournal.open(directory)
            directory.chmod(0o700)


class TestAnotherWriter:
    def test_that_holds_the_file(self, disk, monkeypatch):
        monkeypatch.setattr("switch.journal.connection.BUSY_TIMEOUT_MS", 10)
        journal = make(disk)
        other = apsw.Connection(journal.path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalBusy, match=r"another writer.*commit 4"):
            journal.append(1, batch(4))
        other.execute("ROLLBACK")
        other.close()
        assert journal.append(1, batch(4)) == 4
        journal.close()

    def test_that_took_the_number(self, disk):
        journal = make(disk)
        other = apsw.Connection(journal.path)
        other.execute("INSERT INTO commits VALUES (4, x'00')")
        other.close()
        with pytest.raises(JournalDamaged, match="commit 4"):
            journal.append(1, batch(4))
        with pytest.raises(JournalStopped):
            journal.append(1, batch(4))
        journal.close()
