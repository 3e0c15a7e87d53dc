"""How this program opens SQLite, and what SQLite's errors mean for a journal."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from switch.journal.errors import (
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
    JournalUnknown,
    JournalVersion,
)

# Before it, a checkpoint racing with a reset of the log could lose commits.
# -- https://sqlite.org/wal.html, "The WAL-Reset Bug"
SQLITE_VERSION_MIN = (3, 51, 3)
PAGE_SIZE = 16_384
# Another process that reads holds its locks for microseconds; only a foreign writer
# makes this run out.
BUSY_TIMEOUT_MS = 5_000
SYNCHRONOUS_MODES = ("OFF", "NORMAL", "FULL", "EXTRA")
# More than a publisher, a projector and a person looking: the rest open their own.
READERS_IDLE_MAX = 4


def check_library() -> None:
    text = apsw.sqlite_lib_version()
    if tuple(int(part) for part in text.split(".")[:3]) < SQLITE_VERSION_MIN:
        raise JournalVersion(
            "SQLite without the fix of the WAL-reset bug",
            expected=".".join(map(str, SQLITE_VERSION_MIN)) + " or later",
            got=f"{text} in {apsw.__file__}",
        )


def connect(
    path: str, *, read_only: bool, vfs: str | None, synchronous: str
) -> apsw.Connection:
    check_library()
    if synchronous not in SYNCHRONOUS_MODES:
        raise ValueError(
            f"synchronous: expected {SYNCHRONOUS_MODES}, got {synchronous}"
        )
    if read_only:
        flags = apsw.SQLITE_OPEN_READONLY
        if not Path(path).exists():
            raise JournalMissing("nothing here to read", path=path)
    else:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        _create_private(path)
    connection = apsw.Connection(path, flags=flags, vfs=vfs)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if not read_only and connection.readonly("main"):
            # SQLite opens a file that it may not write for reading, in silence.
            raise JournalReadOnly("file cannot be written", path=path)
        connection.execute("PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: str) -> None:
    """SQLite gives its other files the mode of this one, and would make it 0644."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise JournalReadOnly(
            "cannot be created",
            path=path,
            expected="a directory that this user may write",
            got=error.strerror,
        ) from error


class Readers:
    """Connections for reading, each used by one thread at a time."""

    def __init__(self, path: str, vfs: str | None) -> None:
        self._path = path
        self._vfs = vfs
        self._idle: deque[apsw.Connection] = deque()
        self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """All that is read within it is from one moment."""
        with opening(self._path):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = connect(
                    self._path, read_only=True, vfs=self._vfs, synchronous="FULL"
                )
            keep = False
            try:
                with connection:
                    yield connection
                keep = len(self._idle) < READERS_IDLE_MAX and not self._closed
            finally:
                if keep:
                    self._idle.append(connection)
                else:
                    connection.close()

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def initialise(
    connection: apsw.Connection, path: str, schema: str, application_id: int
) -> None:
    """Makes an empty file ours. After a crash in here it is empty still, or ready:
    the caller creates its rows in the same transaction through `schema`."""
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    mode = connection.execute("PRAGMA journal_mode = WAL").get
    if mode != "wal":
        raise JournalError(
            "file system without shared memory maps",
            path=path,
            expected="journal mode wal",
            got=mode,
        )
    with connection:
        connection.execute(schema)
        connection.execute(f"PRAGMA application_id = {application_id}")


def is_empty(connection: apsw.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_schema").get


def check_owner(
    connection: apsw.Connection, path: str, application_id: int, what: str
) -> None:
    got = connection.execute("PRAGMA application_id").get
    if got != application_id:
        raise JournalMismatch(
            f"a SQLite file, but no {what}",
            path=path,
            expected=f"application id {application_id:#x}",
            got=f"{got:#x}",
        )


@contextmanager
def opening(path: str) -> Iterator[None]:
    """SQLite's errors while a file is opened, in our words."""
    try:
        yield
    except (apsw.CantOpenError, apsw.PermissionsError, apsw.ReadOnlyError) as error:
        raise JournalReadOnly(
            "cannot be opened",
            path=path,
            expected="a file and a directory that this user may read and write",
            got=str(error),
        ) from error
    except apsw.Error as error:
        raise translate(error, path, None) from error


def translate(error: apsw.Error, path: str, commit: int | None) -> JournalError:
    """What `error` says about the append of `commit`, or about reading."""
    code = getattr(error, "extendedresult", 0)
    got = f"{type(error).__name__} {code}: {error}"
    # Opening, the map that readers share is the first thing to be made; after an
    # append it is the last, and whether that is durable is another question.
    no_room_for_map = commit is None and code == apsw.SQLITE_IOERR_SHMSIZE
    if isinstance(error, apsw.FullError) or no_room_for_map:
        return JournalFull("disk full, make room", path=path, commit=commit, got=got)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return JournalBusy("held by another writer", path=path, commit=commit, got=got)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.ConstraintError):
        return JournalDamaged(
            "file is not as SQLite wrote it", path=path, commit=commit, got=got
        )
    if isinstance(error, apsw.ReadOnlyError):
        return JournalReadOnly("file cannot be written", path=path, got=got)
    if commit is None:
        return JournalError("cannot be read", path=path, got=got)
    # Written or not, synced or not: an error of the disk does not say.
    return JournalUnknown("append failed", path=path, commit=commit, got=got)
