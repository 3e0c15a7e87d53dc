"""Snapshots of shards in a SQLite file of their own, `snapshots.db`.

    meta       one row: format version, identity of the journal they belong to, and
               the mark: up to which commit all that happened is in the newest snapshots
    snapshots  id INTEGER PRIMARY KEY = 2 * shard + slot, record BLOB

Each shard has two slots, written in turn, so that a damaged newest snapshot leaves
the one before it. Layout of a record, little-endian:

    offset  size  what
    0       4     magic "swSN"
    4       2     format version, 1
    6       2     zero
    8       8     shard
    16      8     sequence of the last entry in it
    24      8     commit it was taken at
    32            the state
    end-4   4     checksum: CRC-32 (zlib) over everything before it

The mark names the newest snapshot of each shard, so that one that is gone, with its row
or behind a damaged page, is missed:

    offset  size  what
    0       8     commit
    8       16*n  shard (8) and sequence (8) of each that has a snapshot
    end-4   4     checksum, as above

A snapshot is a cache of the journal: the file may be deleted, and a start then reads
the journal from its beginning. But a sound snapshot that is ahead of the journal
proves that the journal has lost commits, and is refused.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import apsw
import msgspec

from switch.files import sync_directory
from switch.journal import connection as db
from switch.journal.directory import SNAPSHOTS_NAME
from switch.journal.errors import (
    JournalDamaged,
    JournalError,
    JournalMismatch,
    JournalReadOnly,
    JournalVersion,
)
from switch.journal.port import Journal, Snapshot

APPLICATION_ID = 0x73775331  # "swS1"
FORMAT_VERSION = 1
MAGIC = b"swSN"
SLOT_COUNT = 2

_HEADER = struct.Struct("<4sHHQQQ")
_CHECKSUM = struct.Struct("<I")
_MARK_ROW = struct.Struct("<QQ")
_SCHEMA = f"""
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    format INTEGER NOT NULL,
    identity BLOB NOT NULL,
    mark BLOB NOT NULL
);
CREATE TABLE snapshots (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
INSERT INTO meta VALUES (1, {FORMAT_VERSION}, x'%s', x'%s');
"""

assert _HEADER.size == 32


def encode(snapshot: Snapshot) -> bytes:
    header = _HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        0,
        snapshot.shard,
        snapshot.sequence,
        snapshot.commit,
    )
    body = header + snapshot.data
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode(data: object, shard: int, path: str) -> Snapshot:
    stored_shard, sequence, commit, version = _decode_header(data, shard, path)
    assert isinstance(data, bytes)
    what = f"snapshot of shard {shard}"
    if len(data) < _HEADER.size + _CHECKSUM.size:
        raise JournalDamaged(f"torn {what}", path=path, got=f"{len(data)} bytes")
    checksum = zlib.crc32(memoryview(data)[:-4])
    (stored,) = _CHECKSUM.unpack_from(data, len(data) - _CHECKSUM.size)
    if checksum != stored:
        raise JournalDamaged(
            f"{what} changed since it was written",
            path=path,
            byte=len(data) - _CHECKSUM.size,
            expected=f"checksum {checksum:#010x} of its {len(data)} bytes",
            got=f"{stored:#010x}",
        )
    if version != FORMAT_VERSION:
        raise JournalVersion(
            f"{what} of another format version",
            path=path,
            byte=4,
            expected=FORMAT_VERSION,
            got=version,
        )
    if stored_shard != shard:
        raise JournalDamaged(
            f"{what} is another shard's",
            path=path,
            byte=8,
            expected=shard,
            got=stored_shard,
        )
    return Snapshot(shard, sequence, commit, data[_HEADER.size : -_CHECKSUM.size])


def _decode_header(data: object, shard: int, path: str) -> tuple[int, int, int, int]:
    """Shard, sequence, commit, version; unverified but for the magic."""
    # A damaged page can yield a row of another type, too.
    if not isinstance(data, bytes) or len(data) < _HEADER.size or data[:4] != MAGIC:
        got = data[:4].hex() if isinstance(data, bytes) else type(data).__name__
        raise JournalDamaged(
            f"no snapshot of shard {shard}",
            path=path,
            byte=0,
            expected=f"{_HEADER.size} bytes or more, magic {MAGIC.hex()}",
            got=got,
        )
    _, version, _, stored_shard, sequence, commit = _HEADER.unpack_from(data)
    return stored_shard, sequence, commit, version


def encode_mark(commit: int, sequences: Mapping[int, int]) -> bytes:
    rows = b"".join(_MARK_ROW.pack(*item) for item in sorted(sequences.items()))
    body = commit.to_bytes(8, "little") + rows
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_mark(data: object, path: str) -> tuple[int, dict[int, int]]:
    """The commit, and the sequence of the newest snapshot of each shard."""
    if (
        not isinstance(data, bytes)
        or len(data) < 12
        or (len(data) - 12) % _MARK_ROW.size
        or _CHECKSUM.pack(zlib.crc32(data[:-4])) != data[-4:]
    ):
        raise JournalDamaged(
            "mark of the snapshots changed since it was written",
            path=path,
            expected="a commit, shards and sequences, and their checksum",
            got=f"{len(data)} bytes"
            if isinstance(data, bytes)
            else type(data).__name__,
        )
    rows = _MARK_ROW.iter_unpack(data[8:-4])
    return int.from_bytes(data[:8], "little"), dict(rows)


class SqliteSnapshots:
    """See `switch.journal.port.SnapshotStore`. Made by `open`."""

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        journal: Journal,
        vfs: str | None = None,
        synchronous: str = "FULL",
        read_only: bool = False,
    ) -> SqliteSnapshots:
        path = os.fspath(Path(directory) / SNAPSHOTS_NAME)
        with db.opening(path):
            connection = db.connect(
                path, read_only=read_only, vfs=vfs, synchronous=synchronous
            )
            try:
                if not read_only and db.is_empty(connection):
                    schema = _SCHEMA % (
                        journal.identity.hex(),
                        encode_mark(0, {}).hex(),
                    )
                    db.initialise(connection, path, schema, APPLICATION_ID)
                    sync_directory(directory)
                _check_meta(connection, path, journal.identity)
                return cls(path, connection, journal, read_only)
            except BaseException:
                connection.close()
                raise

    def __init__(
        self,
        path: str,
        connection: apsw.Connection,
        journal: Journal,
        read_only: bool,
    ) -> None:
        self.path = path
        self.read_only = read_only
        # What read_all passed over, for the log: an older snapshot was taken instead.
        self.problems: list[JournalError] = []
        self._connection = connection
        self._journal = journal
        self._lock = threading.Lock()
        self._unreadable: list[JournalError] = []
        # The mark speaks of the newest snapshots, so it says nothing of these.
        self._damaged: set[int] = set()
        self._newest: dict[int, tuple[int, int]] = {}  # shard → sequence, slot
        rows = connection.execute(
            "SELECT id, substr(record, 1, ?) FROM snapshots", (_HEADER.size,)
        )
        for row_id, header in rows:
            shard, slot = divmod(row_id, SLOT_COUNT)
            try:
                sequence = _decode_header(header, shard, path)[1]
            except JournalDamaged as error:
                self._unreadable.append(error)
                self._damaged.add(shard)
            else:
                newest = self._newest.get(shard, (-1, 0))
                self._newest[shard] = max(newest, (sequence, slot))
        self._complete_to = self._read_mark()

    def write(self, shard: int, sequence: int, commit: int, data: bytes) -> None:
        if self.read_only:
            raise JournalReadOnly("opened for reading only", path=self.path)
        if commit > self._journal.head:
            raise JournalError(
                f"snapshot of shard {shard} of what is not durable yet",
                path=self.path,
                expected=f"a commit up to {self._journal.head}",
                got=f"commit {commit}",
            )
        record = encode(Snapshot(shard, sequence, commit, data))
        with self._lock:
            slot = (self._newest.get(shard, (0, 1))[1] + 1) % SLOT_COUNT
            try:
                self._connection.execute(
                    "INSERT OR REPLACE INTO snapshots (id, record) VALUES (?, ?)",
                    (shard * SLOT_COUNT + slot, record),
                )
            except apsw.Error as error:
                raise db.translate(error, self.path, commit) from error
            self._newest[shard] = (sequence, slot)

    def mark_complete(self, commit: int) -> None:
        if self.read_only:
            raise JournalReadOnly("opened for reading only", path=self.path)
        with self._lock:
            newest = {shard: sequence for shard, (sequence, _) in self._newest.items()}
            mark = encode_mark(commit, newest)
            try:
                self._connection.execute("UPDATE meta SET mark = ?", (mark,))
            except apsw.Error as error:
                raise db.translate(error, self.path, commit) from error
            self._complete_to = commit

    @property
    def complete_to(self) -> int:
        return 0 if self._damaged else self._complete_to

    def _read_mark(self) -> int:
        """The marked commit; 0 if nothing can be said. Shards whose newest snapshot is
        not there any more count as damaged."""
        data = self._connection.execute("SELECT mark FROM meta").get
        try:
            commit, sequences = decode_mark(data, self.path)
        except JournalDamaged as error:
            self._unreadable.append(error)
            return 0
        for shard, sequence in sequences.items():
            found = self._newest.get(shard, (-1, 0))[0]
            if found < sequence and shard not in self._damaged:
                self._damaged.add(shard)
                self._unreadable.append(
                    JournalDamaged(
                        f"newest snapshot of shard {shard} is gone",
                        path=self.path,
                        expected=f"one of entry {sequence}",
                        got="none" if found < 0 else f"one of entry {found}",
                    )
                )
        return commit

    def read_all(self) -> Iterator[Snapshot]:
        head = self._journal.head
        self.problems = list(self._unreadable)
        if self._complete_to > head:
            raise JournalDamaged(
                "snapshots are ahead of the journal, which has lost commits or is "
                "another's",
                path=self.path,
                commit=self._complete_to,
                expected=f"a commit up to {head}",
                got=f"commit {self._complete_to}",
            )
        for shard in sorted(self._newest):
            snapshot = self._read(shard)
            if snapshot is None:
                continue
            if snapshot.commit > head:
                raise JournalDamaged(
                    f"snapshot of shard {shard} is ahead of the journal, which has "
                    "lost commits or is another's",
                    path=self.path,
                    commit=snapshot.commit,
                    expected=f"a commit up to {head}",
                    got=f"commit {snapshot.commit}, sequence {snapshot.sequence}",
                )
            if shard not in self._damaged:
                commit = max(snapshot.commit, self._complete_to)
                snapshot = msgspec.structs.replace(snapshot, commit=commit)
            yield snapshot

    def _read(self, shard: int) -> Snapshot | None:
        newest = self._newest[shard][1]
        for slot in (newest, (newest + 1) % SLOT_COUNT):
            try:
                with self._lock, db.opening(self.path):
                    data = self._connection.execute(
                        "SELECT record FROM snapshots WHERE id = ?",
                        (shard * SLOT_COUNT + slot,),
                    ).get
                if data is not None:
                    return decode(data, shard, self.path)
            except JournalDamaged as error:
                self.problems.append(error)
                self._damaged.add(shard)
        return None

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _check_meta(connection: apsw.Connection, path: str, identity: bytes) -> None:
    db.check_owner(connection, path, APPLICATION_ID, "file of snapshots")
    row = connection.execute("SELECT format, identity FROM meta").fetchone()
    if row is None or [type(value) for value in row] != [int, bytes]:
        raise JournalDamaged(
            "meta row is missing or damaged",
            path=path,
            expected="format version, identity",
            got=repr(row),
        )
    if row[0] != FORMAT_VERSION:
        raise JournalVersion(
            "snapshots of another format version",
            path=path,
            expected=FORMAT_VERSION,
            got=row[0],
        )
    if row[1] != identity:
        raise JournalMismatch(
            "snapshots of another journal",
            path=path,
            expected=f"identity {identity.hex()}",
            got=row[1].hex(),
        )
