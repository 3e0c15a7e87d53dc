"""A second journal with the first commits of one that may be written meanwhile.

Rule 1: commits are copied one by one, each verified and none changed. What a journal
        holds up to a commit never changes, so any first part of it is whole.
Rule 2: whoever writes the journal is not held up: each read is short, as any other
        reader's; each piece is synced before the next, so that a sync of the journal on
        the same disk finds little of ours before it; and between pieces it rests for as
        long as the last one took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from switch.journal import connection as db
from switch.journal.directory import JOURNAL_NAME
from switch.journal.errors import JournalDamaged
from switch.journal.sqlite import APPLICATION_ID, INSERT, SqliteJournal, schema

PIECE_BYTES_MAX = 4 * 1024 * 1024
# The copy's own log; with it a piece is written twice.
LOG_PAGES_MAX = PIECE_BYTES_MAX // db.PAGE_SIZE

# How many commits are done.
Advance = Callable[[int], None]
Piece = list[tuple[int, bytes]]


def copy_journal(
    source: SqliteJournal,
    directory: str | os.PathLike[str],
    end: int,
    advance: Advance,
    rest: Callable[[float], None] = time.sleep,
) -> None:
    """Into a directory without a journal; durable on return, but for its name."""
    path = os.fspath(Path(directory) / JOURNAL_NAME)
    new = schema(
        source.identity, source.shard_count, source.key_fingerprint, source.created_at
    )
    with db.opening(path):
        connection = db.connect(path, read_only=False, vfs=None, synchronous="FULL")
        try:
            db.initialise(connection, path, new, APPLICATION_ID)
            connection.wal_autocheckpoint(LOG_PAGES_MAX)
            for piece in _pieces(source, end):
                began_at = time.monotonic()
                with connection:
                    connection.executemany(INSERT, piece)
                advance(piece[-1][0])
                rest(time.monotonic() - began_at)
        finally:
            connection.close()


def _pieces(source: SqliteJournal, end: int) -> Iterator[Piece]:
    piece: Piece = []
    size = 0
    for commit, record in source.read_records(end):
        piece.append((commit.number, record))
        size += len(record)
        if size >= PIECE_BYTES_MAX:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def verify_copy(directory: str | os.PathLike[str], end: int, advance: Advance) -> None:
    """Reads it back from the disk: numbers, chain, checksums, sequences. The chain
    begins at the journal's identity, so what verifies is what was copied. The caller
    holds the directory."""
    path = Path(directory) / JOURNAL_NAME
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # What the kernel still has of it proves nothing, and takes room from others.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    journal = SqliteJournal.open(directory)
    try:
        if journal.head != end:
            raise JournalDamaged(
                "copy is not whole",
                path=path,
                expected=f"commit {end} at its end",
                got=f"commit {journal.head}",
            )
        for commit in journal.read(0):
            advance(commit.number)
    finally:
        journal.close()
