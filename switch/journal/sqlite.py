"""The journal in a SQLite file, `journal.db`: one row per commit.

    meta     one row: format version, identity, shard count, key fingerprint, time
    commits  number INTEGER PRIMARY KEY, record BLOB (see record.py)

Rule 1: WAL and synchronous = FULL. A commit is in the log and the log is synced when
        `append` returns; readers in other processes see it only then, too.
Rule 2: one connection writes. After an error whose outcome SQLite cannot know it is
        stopped for good: a failed fsync is never tried again, because the kernel may
        have dropped the pages and report success the second time.
Rule 3: a full disk and a foreign lock are the two faults with a known outcome (rolled
        back, nothing kept); after them the same append may be tried again.
Rule 4: readers take short transactions on connections of their own, so that none
        keeps the log from being emptied.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import apsw

import switch
from switch.files import sync_directory
from switch.journal import connection as db
from switch.journal import record as codec
from switch.journal import released, wal
from switch.journal.directory import (
    JOURNAL_NAME,
    RELEASED_NAME,
    check_no_traces,
)
from switch.journal.errors import (
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
    JournalStopped,
    JournalUnknown,
    JournalVersion,
)
from switch.journal.port import (
    SHARD_COUNT_DEFAULT,
    SHARD_COUNT_MAX,
    Commit,
    ShardRecord,
)

APPLICATION_ID = 0x73774A31  # "swJ1"
FORMAT_VERSION = 1

# The log is copied into the file when it has this many pages: 4 MiB. Measured with
# 32 KB commits: a pause of 2 ms per 62 commits; 16 MiB gives 10 ms per 250, with more
# work in sum, because what is copied late has left the processor's caches.
LOG_PAGES_MAX = 256
# If nobody calls tend(), append() does it at this size.
LOG_PAGES_HARD_MAX = 2 * LOG_PAGES_MAX

# A reader takes this much per transaction: bounds its memory and its hold on the log.
READ_CHUNK_BYTES_MAX = 4 * 1024 * 1024

INSERT = "INSERT INTO commits (number, record) VALUES (?, ?)"
_SELECT = "SELECT number, record FROM commits WHERE number > ? ORDER BY number"
_HEAD = "SELECT coalesce(max(number), 0) FROM commits"
_SCHEMA = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    format INTEGER NOT NULL,
    identity BLOB NOT NULL,
    shard_count INTEGER NOT NULL,
    key_fingerprint TEXT,
    created_at INTEGER NOT NULL
);
CREATE TABLE commits (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
INSERT INTO meta VALUES (1, %d, x'%s', %d, %s, %d);
"""


def schema(
    identity: bytes, shard_count: int, key_fingerprint: str | None, created_at: int
) -> str:
    """What makes an empty file a journal without commits."""
    fingerprint = apsw.format_sql_value(key_fingerprint)
    values = (identity.hex(), shard_count, fingerprint, created_at)
    return _SCHEMA % (FORMAT_VERSION, *values)


class SqliteJournal:
    """See `switch.journal.port.Journal`. Made by `open`."""

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        shard_count: int | None = None,
        key_fingerprint: str | None = None,
        vfs: str | None = None,
        synchronous: str = "FULL",
        read_only: bool = False,
    ) -> SqliteJournal:
        """Opens the journal of a data directory; for writing, creates it if there is
        none. Verifies what can be verified without reading it all; `read` verifies
        the rest. `shard_count` and `key_fingerprint` are those of a journal that is
        created now, and fixed then; of another, the fingerprint is compared, unless
        None. The caller holds the directory's lock, or reads only."""
        path = os.fspath(Path(directory) / JOURNAL_NAME)
        # Read before the head: it may grow while we look, and must not pass it.
        answered = released.lower_bound(Path(directory) / RELEASED_NAME)
        with db.opening(path):
            connection = db.connect(
                path, read_only=read_only, vfs=vfs, synchronous=synchronous
            )
            journal = cls(path, connection, vfs, read_only)
            try:
                if db.is_empty(connection):
                    journal._create(shard_count, key_fingerprint)
                journal._load(key_fingerprint)
                journal._recover(answered)
                if not read_only:
                    # A trace of the journal, should its file be emptied one day.
                    released.create(Path(directory) / RELEASED_NAME)
            except BaseException:
                journal._keep_log()
                journal.close()
                raise
        return journal

    def __init__(
        self,
        path: str,
        connection: apsw.Connection,
        vfs: str | None,
        read_only: bool,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.identity = b""
        self.shard_count = 0
        self.key_fingerprint: str | None = None
        self.created_at = 0
        self._connection = connection
        self._readers = db.Readers(path, vfs)
        self._head = 0
        self._checksum = 0
        self._log_pages = 0
        self._log_pages_tended = 0  # of these, when they were last copied
        self._stopped: JournalError | None = None
        self._closed = False
        # Appends come from one thread; the lock makes a second one a wait, not a gap.
        self._lock = threading.Lock()

    # -- opening

    def _create(self, shard_count: int | None, fingerprint: str | None) -> None:
        if self.read_only:
            raise JournalMissing("empty file, no journal", path=self.path)
        check_no_traces(Path(self.path).parent)
        count = SHARD_COUNT_DEFAULT if shard_count is None else shard_count
        if not 1 <= count <= SHARD_COUNT_MAX:
            raise ValueError(
                f"shard count: expected 1 to {SHARD_COUNT_MAX}, got {count}"
            )
        wal.check_tail(self.path + "-wal", db.PAGE_SIZE, self._log_frames())
        created_at = time.time_ns() // 1_000_000
        new = schema(secrets.token_bytes(16), count, fingerprint, created_at)
        db.initialise(self._connection, self.path, new, APPLICATION_ID)
        # Into the file itself: an empty file is from now on no journal of ours.
        self._empty_log()
        sync_directory(Path(self.path).parent)

    def _load(self, fingerprint: str | None) -> None:
        db.check_owner(self._connection, self.path, APPLICATION_ID, "journal")
        row = self._connection.execute(
            "SELECT format, identity, shard_count, key_fingerprint, created_at"
            " FROM meta"
        ).fetchone()
        if (
            row is None
            or [type(value) for value in row[:3]] != [int, bytes, int]
            or not 1 <= row[2] <= SHARD_COUNT_MAX
        ):
            raise JournalDamaged(
                "meta row is missing or damaged",
                path=self.path,
                expected="format version, identity, shard count",
                got="nothing" if row is None else ", ".join(map(repr, row[:3])),
            )
        if row[0] != FORMAT_VERSION:
            raise JournalVersion(
                "journal of another format version",
                path=self.path,
                expected=f"{FORMAT_VERSION}, as program version {switch.__version__}",
                got=row[0],
            )
        _, self.identity, self.shard_count, self.key_fingerprint, self.created_at = row
        if None not in (fingerprint, self.key_fingerprint) and (
            fingerprint != self.key_fingerprint
        ):
            raise JournalMismatch(
                "another PAN key than the one this journal was created with",
                path=self.path,
                expected=f"fingerprint {self.key_fingerprint}",
                got=fingerprint,
            )
        self._sequences = codec.Sequences(self.shard_count)

    def _recover(self, answered: int) -> None:
        """Checks the log's and the journal's ends; empties the log."""
        page_size = self._connection.execute("PRAGMA page_size").get
        frames = self._log_frames()
        try:
            wal.check_tail(self.path + "-wal", page_size, frames)
        except JournalDamaged:
            # Beside a writer the log grows between the two looks; that is no damage.
            if not self.read_only or self._log_frames() == frames:
                raise
        if not self.read_only:
            wal.write_again(self.path + "-wal")
            self._empty_log()
            self._connection.wal_autocheckpoint(0)
            self._connection.set_wal_hook(self._logged)
        self._head = self._connection.execute(_HEAD).get
        first = self._connection.execute("SELECT min(number) FROM commits").get
        if first not in (None, 1):
            raise JournalDamaged(
                "journal begins late", path=self.path, expected="commit 1", got=first
            )
        if self._head < answered:
            raise JournalDamaged(
                f"commit {answered} was answered, but the journal ends before it",
                path=self.path,
                expected=f"commit {answered} or later",
                got=f"an end at commit {self._head}",
            )
        self._checksum = self._predecessor(self._connection, max(self._head - 1, 0))
        for row in self._connection.execute(_SELECT, (max(self._head - 1, 0),)):
            data = self._blob(row[1], row[0])
            _, self._checksum = codec.decode(data, row[0], self._checksum, self.path)

    def _log_frames(self) -> int:
        """Frames in the log, by SQLite's count: those that verify."""
        self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        return max(
            self._connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)[0], 0
        )

    def _empty_log(self) -> None:
        # With a reader in the way, or no room for the copy, the next opening does it.
        with suppress(apsw.BusyError, apsw.FullError):
            self._connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)

    # -- writing

    @property
    def head(self) -> int:
        if self.read_only:
            with self._readers.transaction() as connection:
                return int(connection.execute(_HEAD).get)
        return self._head

    def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        with self._lock:
            self._check_writable()
            if self._log_pages - self._log_pages_tended >= LOG_PAGES_HARD_MAX:
                self._tend()
                self._check_writable()
            number = self._head + 1
            data, checksum = self._encode(number, at, self._checksum, records)
            try:
                self._connection.execute(INSERT, (number, data))
            except BaseException as error:  # noqa: BLE001 -- raised again
                self._fail(error, number)
            self._head = number
            self._checksum = checksum
            self._sequences.advance(records)
            return number

    def append_many(self, at: int, batches: Iterable[Sequence[ShardRecord]]) -> int:
        with self._lock:
            self._check_writable()
            before = self._sequences.copy()
            number, checksum = self._head, self._checksum
            connection = self._connection
            try:
                connection.execute("BEGIN IMMEDIATE")
                for records in batches:
                    number += 1
                    data, checksum = self._encode(number, at, checksum, records)
                    connection.execute(INSERT, (number, data))
                    self._sequences.advance(records)
                connection.execute("COMMIT")
            except BaseException as error:  # noqa: BLE001 -- raised again
                self._sequences = before
                self._fail(error, number)
            self._head, self._checksum = number, checksum
            self._tend()
            return number

    def expect(self, sequences: Mapping[int, int]) -> None:
        """The next sequence of shards, as the recovered states have it: what does not
        follow them is not appended, whatever the states were made from."""
        with self._lock:
            self._sequences.expect(sequences)

    def tend(self) -> None:
        with self._lock:
            if self._stopped is None and not self._closed and not self.read_only:
                self._tend()

    def _tend(self) -> None:
        """Copies the log into the file when it is long. What fails here was durable
        before; it stops the journal, but no append fails by it."""
        if self._log_pages - self._log_pages_tended < LOG_PAGES_MAX:
            return
        try:
            self._connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._log_pages_tended = self._log_pages
        except (apsw.BusyError, apsw.FullError):
            # The log grows meanwhile; tried again when it has grown as much again.
            self._log_pages_tended = self._log_pages
        except apsw.Error as error:
            self._stop(db.translate(error, self.path, None))

    def _logged(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        if pages < self._log_pages:
            self._log_pages_tended = 0  # it was empty and began again
        self._log_pages = pages
        return 0  # SQLITE_OK

    def _encode(
        self, number: int, at: int, previous: int, records: Sequence[ShardRecord]
    ) -> tuple[bytes, int]:
        fault = self._sequences.fault(records)
        if fault:
            what, expected, got = fault
            raise JournalError(
                what, path=self.path, commit=number, expected=expected, got=got
            )
        return codec.encode(number, at, previous, records)

    def _check_writable(self) -> None:
        if self.read_only:
            raise JournalReadOnly("opened for reading only", path=self.path)
        if self._stopped is not None:
            raise JournalStopped(
                f"stopped by an earlier fault: {self._stopped}"
            ) from self._stopped
        if self._closed:
            raise JournalStopped("closed", path=self.path)

    def _fail(self, error: BaseException, number: int) -> NoReturn:
        """Leaves the connection rolled back, or the journal stopped; raises."""
        failure = error
        if isinstance(error, apsw.Error):
            failure = db.translate(error, self.path, number)
        known = isinstance(failure, JournalFull | JournalBusy) or not isinstance(
            error, apsw.Error
        )
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            known = known and self._connection.execute(_HEAD).get == self._head
        except apsw.Error:
            known = False
        if not known:
            if isinstance(failure, JournalFull | JournalBusy):
                # It would say that the same append may be tried again.
                failure = JournalUnknown(f"append failed: {failure}")
            if isinstance(failure, JournalError):
                self._stop(failure)
            else:
                self._stop(JournalUnknown(f"append interrupted by {error!r}"))
        if failure is error:
            raise error
        raise failure from error

    def _stop(self, cause: JournalError) -> None:
        self._stopped = cause
        self._keep_log()

    def _keep_log(self) -> None:
        """Closing must not copy a log into the file that nobody vouches for."""
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    # -- reading

    def read(self, after: int, limit: int | None = None) -> Iterator[Commit]:
        """Any thread; each iterator holds a connection while it fetches, no longer."""
        end = self.head
        if after > end:
            raise JournalDamaged(
                "a reader is ahead of the journal",
                path=self.path,
                expected=f"a position up to commit {end}",
                got=f"commit {after}",
            )
        return (commit for commit, _ in self._read(after, end, limit))

    def read_records(self, limit: int) -> Iterator[tuple[Commit, bytes]]:
        """The first `limit` commits, each with its bytes as they are stored."""
        return self._read(0, limit, limit)

    def _read(
        self, after: int, end: int, limit: int | None
    ) -> Iterator[tuple[Commit, bytes]]:
        last = after
        previous: int | None = None
        sequences = codec.Sequences(self.shard_count)
        stop = None if limit is None else after + limit
        while stop is None or last < stop:
            # The file shows a commit a moment before append() returns its number.
            bounds = [value for value in (stop, self._visible_end()) if value]
            rows, previous = self._fetch(last, previous, min(bounds, default=None))
            if not rows:
                break
            for number, data in rows:
                if number != last + 1:
                    raise JournalDamaged(
                        "commit is missing", path=self.path, commit=last + 1
                    )
                commit, previous = codec.decode(data, number, previous, self.path)
                fault = sequences.fault(commit.records)
                if fault:
                    raise JournalDamaged(
                        fault[0],
                        path=self.path,
                        commit=number,
                        expected=fault[1],
                        got=fault[2],
                    )
                sequences.advance(commit.records)
                last = number
                yield commit, data
        if last < (end if stop is None else min(end, stop)):
            raise JournalDamaged("commit is missing", path=self.path, commit=last + 1)

    def _fetch(
        self, after: int, previous: int | None, stop: int | None
    ) -> tuple[list[tuple[int, bytes]], int]:
        """The next rows, and the checksum that the first of them must name."""
        rows: list[tuple[int, bytes]] = []
        size = 0
        with self._readers.transaction() as connection:
            if previous is None:
                previous = self._predecessor(connection, after)
            for number, data in connection.execute(_SELECT, (after,)):
                if stop is not None and number > stop:
                    break
                rows.append((number, self._blob(data, number)))
                size += len(data)
                if size >= READ_CHUNK_BYTES_MAX:
                    break
        return rows, previous

    def _visible_end(self) -> int | None:
        return None if self.read_only else self._head

    def _blob(self, data: object, number: int) -> bytes:
        # A damaged page can yield a row of another type.
        if type(data) is not bytes:
            raise JournalDamaged(
                "row without a record",
                path=self.path,
                commit=number,
                expected="bytes",
                got=type(data).__name__,
            )
        return data

    def _predecessor(self, connection: apsw.Connection, number: int) -> int:
        if number == 0:
            return codec.genesis_checksum(self.identity)
        data = connection.execute(
            "SELECT substr(record, -4) FROM commits WHERE number = ?", (number,)
        ).get
        if data is None:
            raise JournalDamaged("commit is missing", path=self.path, commit=number)
        return codec.stored_checksum(self._blob(data, number), number, self.path)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._readers.close()
            # The last: closing it copies the log into the file and removes it.
            self._connection.close()
