"""What a disk does to an append: nothing is answered that is not kept, and whoever
cannot know says so and stops."""

import errno
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
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
from tests.disks import Quiet
from tests.simulation.power_loss import Disk, failing
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


SMALL_BYTES = 3 << 20
MOUNT = f"mount -t tmpfs -o size={SMALL_BYTES} tmpfs"


class SmallDisk(Quiet, apsw.VFS):
    """As a file system of so many bytes is, on which a directory's files are."""

    def __init__(self, directory: Path, size: int) -> None:
        self.vfs = "small-disk"
        super().__init__(self.vfs, "")
        self._directory = directory
        self._size = size

    def take(self, count: int) -> None:
        used = sum(path.stat().st_size for path in self._directory.iterdir())
        if used + count > self._size:
            raise apsw.FullError("no room")

    def xOpen(self, name, flags):  # noqa: N802
        return SmallDiskFile(self, name, flags)


class SmallDiskFile(Quiet, apsw.VFSFile):
    def __init__(self, disk: SmallDisk, name, flags) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data, offset):  # noqa: N802
        more = offset + len(data) - self.xFileSize()
        if more > 0:
            self._disk.take(more)
        super().xWrite(data, offset)


def append_for_ever(journal: SqliteJournal) -> None:
    while True:
        journal.append(1, batch(journal.head + 1, size=20_000))
        journal.tend()


def fill_up_and_go_on(directory: Path, vfs: str | None = None) -> None:
    journal = SqliteJournal.open(directory, shard_count=SHARD_COUNT, vfs=vfs)
    ballast = directory / "ballast"
    ballast.write_bytes(bytes(SMALL_BYTES // 3))
    with pytest.raises(JournalFull, match="disk full"):
        append_for_ever(journal)
    ballast.unlink()
    head = journal.head
    assert head > 10
    journal.append(1, batch(head + 1))
    assert len(list(journal.read(0))) == head + 1
    # For all of the log the file has no room; of a VFS in C that would not be heard.
    with suppress(apsw.FullError):
        journal.close()
    journal = SqliteJournal.open(directory, vfs=vfs)
    assert journal.head == head + 1 == len(list(journal.read(0)))
    with suppress(apsw.FullError):
        journal.close()


def in_namespace(script: str) -> "subprocess.CompletedProcess[str]":
    """Where a user's own mounts are seen by nobody else."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def small_disks() -> list[str]:
    """The kernel's own too, on a machine that lets us mount one."""
    can_mount = shutil.which("unshare") and not in_namespace(f"{MOUNT} /mnt").returncode
    return ["simulated", "mounted"] if can_mount else ["simulated"]


SMALL_DISKS = small_disks()


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
        disk.fault = failing("write", "journal.db-wal", apsw.FullError, skip)
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
        disk.fault = failing("write", "journal.db-wal", apsw.FullError, 3)
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
        disk.fault = failing("write", "journal.db", apsw.FullError)
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

    @pytest.mark.parametrize("kind", SMALL_DISKS)
    def test_what_fits_is_kept_and_with_more_room_it_goes_on(self, tmp_path, kind):
        if kind == "simulated":
            disk = SmallDisk(tmp_path, SMALL_BYTES)
            fill_up_and_go_on(tmp_path, vfs=disk.vfs)
            disk.unregister()
            return
        program = f"""
from pathlib import Path
from tests.unit.journal.test_faults import fill_up_and_go_on
fill_up_and_go_on(Path({str(tmp_path)!r}))
"""
        done = in_namespace(
            f"{MOUNT} {tmp_path} && exec {sys.executable} -c {shlex.quote(program)}"
        )
        assert done.returncode == 0, done.stderr


class TestFailingDisk:
    @pytest.mark.parametrize(
        ("kind", "skip"), [("sync", 0), ("write", 0), ("write", 1), ("write", 3)]
    )
    def test_the_outcome_is_unknown_and_it_stops(self, disk, kind, skip):
        journal = make(disk)
        disk.fault = failing(kind, "journal.db-wal", apsw.IOError, skip)
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
        disk.fault = failing("sync", "journal.db", apsw.IOError)
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
        disk.fault = failing("read", "journal.db", apsw.IOError, skip=3)
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
        disk.fault = failing("open", "journal.db-wal", apsw.CantOpenError)
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
