"""Entries on disk that wait until all of a file has been checked.

Rule 1: they are packed as the journal has them, card numbers hashed and sealed.
Rule 2: the file has no name once it is open: nothing of it outlives the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import apsw

from switch.ledger import Entry, State, decode_entries
from switch.rows import same_again

NAME: Final = "import.new"
CACHE_KIB_MAX: Final = 16 * 1024

# What is spooled is never asked of SQLite to survive anything.
_SETTINGS: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    f"PRAGMA cache_size = -{CACHE_KIB_MAX}",
)
_TABLES: Final = """
CREATE TABLE seen (value BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID;
CREATE TABLE entries (
    number INTEGER PRIMARY KEY, line INTEGER, shard INTEGER, entry BLOB
);
"""
_SEE: Final = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
_SEEN: Final = "SELECT line FROM seen WHERE value = ?"
_INSERT: Final = "INSERT INTO entries (line, shard, entry) VALUES (?, ?, ?)"
_SELECT: Final = (
    "SELECT number, line, shard, entry FROM entries WHERE number > ? "
    "ORDER BY number LIMIT ?"
)

Spooled = tuple[int, int, Entry]  # line, shard, entry


class Spool:
    """Raises apsw.Error: the disk is full, or failed. `column`: what is there once."""

    def __init__(self, folder: Path, column: str) -> None:
        path = folder / NAME
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            self._connection = apsw.Connection(os.fspath(path))
            for setting in _SETTINGS:
                self._connection.execute(setting)
            self._connection.execute("BEGIN EXCLUSIVE")
            self._connection.execute(_TABLES)
        finally:
            path.unlink()
        self._column = column

    def once(self, value: bytes, line: int) -> None:
        """Raises RowError when a line before had it."""
        self._connection.execute(_SEE, (value, line))
        if not self._connection.changes():
            first = self._connection.execute(_SEEN, (value,)).get
            raise same_again(self._column, first)

    def keep(self, line: int, state: State, entry: Entry) -> None:
        self._connection.execute(_INSERT, (line, state.shard, entry.encode()))

    def keep_packed(self, line: int, shard: int, data: bytes) -> None:
        """What is no entry yet, because its shard is elsewhere."""
        self._connection.execute(_INSERT, (line, shard, data))

    def packed(self, size: int) -> Iterator[tuple[int, int, bytes]]:
        """Line, shard and what was kept, in the order of the file."""
        done = 0
        while rows := self._rows(done, size):
            done = rows[-1][0]
            for _, line, shard, data in rows:
                yield line, shard, data

    def pieces(self, size: int) -> Iterator[list[Spooled]]:
        """All entries, in the order of the file, so many at a time."""
        done = 0
        while rows := self._rows(done, size):
            done = rows[-1][0]
            entries = decode_entries(b"".join(row[3] for row in rows), 1)
            yield [
                (line, shard, entry)
                for (_, line, shard, _), entry in zip(rows, entries, strict=True)
            ]

    def _rows(self, after: int, size: int) -> list[Any]:
        return self._connection.execute(_SELECT, (after, size)).fetchall()

    def close(self) -> None:
        self._connection.close()
