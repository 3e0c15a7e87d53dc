"""What a journal can refuse, and why.

JournalError
 +- JournalFull       the disk is full; nothing was kept, it may be tried again
 +- JournalBusy       another writer holds the file; as above
 +- JournalUnknown    the append is durable or not: only opening again tells
 +- JournalFenced     another session has taken over: nothing may be answered any more
 +- JournalStopped    an earlier fault stopped this object; it accepts nothing more
 +- JournalReadOnly   the place cannot be written
 +- JournalMissing    there is no journal here
 +- JournalMismatch   not the one asked for: another key's, another program's
 +- JournalVersion    written in a newer format than this program reads
 +- JournalDamaged    not what was written; nothing may be answered from it
"""

# ruff: noqa: N818
from __future__ import annotations

import os


class JournalError(Exception):
    """Every message says what, expected, got, and where (file, commit, byte)."""

    def __init__(
        self,
        what: str,
        *,
        path: str | os.PathLike[str] | None = None,
        commit: int | None = None,
        byte: int | None = None,
        expected: object = None,
        got: object = None,
    ) -> None:
        self.what = what
        self.path = None if path is None else os.fspath(path)
        self.commit = commit
        self.byte = byte
        self.expected = expected
        self.got = got
        super().__init__(self._text())

    def _text(self) -> str:
        values = []
        if self.expected is not None:
            values.append(f"expected {self.expected}")
        if self.got is not None:
            values.append(f"got {self.got}")
        where = []
        if self.commit is not None:
            where.append(f"commit {self.commit}")
        if self.byte is not None:
            where.append(f"byte {self.byte}")
        if self.path is not None:
            where.append(self.path)
        text = self.what
        if values:
            text += ": " + ", ".join(values)
        if where:
            text += " (" + ", ".join(where) + ")"
        return text


class JournalFull(JournalError):
    pass


class JournalBusy(JournalError):
    pass


class JournalUnknown(JournalError):
    pass


class JournalFenced(JournalError):
    pass


class JournalStopped(JournalError):
    pass


class JournalReadOnly(JournalError):
    pass


class JournalMissing(JournalError):
    pass


class JournalMismatch(JournalError):
    pass


class JournalVersion(JournalError):
    pass


class JournalDamaged(JournalError):
    pass
