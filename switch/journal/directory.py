"""The data directory: which files are in it, and whether it is one of ours.

    lock           held by the process that writes here; its pid
    pan.key        the master key of the PANs, mode 0600, unless it is kept elsewhere
    journal.db     the truth
    snapshots.db   states of the shards; can be deleted, costs a longer start
    readmodel.db   accounts and transactions as rows; can be deleted and rebuilt
    released       the last answered commit, a lower bound
    tokens.json    who may administer, unless that is kept elsewhere
    backup.json    of a backup that no daemon has run on yet: how far it goes
    events/        published entries
    publish/       how far other publishers are, and what they have set aside

Rule 1: only an empty directory, or one whose initialisation was interrupted, is
        initialised. Nothing of a foreign directory is touched.
Rule 2: a directory with anything that is made after the journal, and no journal, has
        lost it. That is damage, not a reason to begin again.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from switch.files import sync_directory
from switch.journal.errors import (
    JournalDamaged,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
)

JOURNAL_NAME = "journal.db"
SNAPSHOTS_NAME = "snapshots.db"
READ_MODEL_NAME = "readmodel.db"
RELEASED_NAME = "released"
PAN_KEY_NAME = "pan.key"
LOCK_NAME = "lock"
EVENTS_NAME = "events"
PUBLISH_NAME = "publish"
TOKENS_NAME = "tokens.json"
BACKUP_NAME = "backup.json"

# What an interrupted initialisation may leave behind, and a mount point begins with.
_BEFORE_JOURNAL = {
    *(LOCK_NAME, PAN_KEY_NAME, PAN_KEY_NAME + ".new"),
    *(TOKENS_NAME, TOKENS_NAME + ".new", "lost+found"),
    # SQLite's, of a journal whose own name a power loss has taken
    JOURNAL_NAME + "-journal",
}
# What exists only when there was a journal.
_AFTER_JOURNAL = {
    *(SNAPSHOTS_NAME, READ_MODEL_NAME, RELEASED_NAME, EVENTS_NAME, BACKUP_NAME),
    PUBLISH_NAME,
}


class DataDirectory:
    """Paths. Made by `open`, which is the first thing done with a directory; then
    the lock is taken, then the key is loaded, then the journal is opened."""

    __slots__ = ("is_new", "path")

    def __init__(self, path: Path, is_new: bool) -> None:
        self.path = path
        # True until there is a journal: only then a key may be made.
        self.is_new = is_new

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, create: bool = True
    ) -> DataDirectory:
        directory = Path(path).absolute()
        try:
            if create and not directory.exists():
                directory.mkdir(mode=0o700, parents=True)
                sync_directory(directory.parent)
            names = {entry.name for entry in os.scandir(directory)}
            mode = stat.S_IMODE(directory.stat().st_mode)
        except NotADirectoryError:
            raise JournalMismatch("not a directory", path=directory) from None
        except OSError as error:
            if not create and not directory.exists():
                raise JournalMissing("no such data directory", path=directory) from None
            raise JournalReadOnly(
                "data directory cannot be used",
                path=directory,
                expected="a directory that this user may read and write",
                got=error.strerror,
            ) from error
        is_new = JOURNAL_NAME not in names
        if is_new:
            _check_new(directory, names, create)
        if mode & stat.S_IWOTH:
            raise JournalMismatch(
                "data directory that every user may write",
                path=directory,
                expected="mode 0700",
                got=f"mode {mode:04o}",
            )
        return cls(directory, is_new)

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL_NAME

    @property
    def snapshots(self) -> Path:
        return self.path / SNAPSHOTS_NAME

    @property
    def read_model(self) -> Path:
        return self.path / READ_MODEL_NAME

    @property
    def released(self) -> Path:
        return self.path / RELEASED_NAME

    @property
    def pan_key(self) -> Path:
        return self.path / PAN_KEY_NAME

    @property
    def lock(self) -> Path:
        return self.path / LOCK_NAME

    @property
    def tokens(self) -> Path:
        return self.path / TOKENS_NAME

    @property
    def backup(self) -> Path:
        return self.path / BACKUP_NAME

    @property
    def events(self) -> Path:
        return self.path / EVENTS_NAME

    @property
    def publish(self) -> Path:
        return self.path / PUBLISH_NAME


def check_no_traces(directory: Path) -> None:
    """Raises if there was a journal here before: it is not begun again."""
    traces = sorted({entry.name for entry in os.scandir(directory)} & _AFTER_JOURNAL)
    if traces:
        raise JournalDamaged(
            f"{JOURNAL_NAME} is gone or empty in a data directory that had one",
            path=directory,
            got=", ".join(traces),
        )


def _check_new(directory: Path, names: set[str], create: bool) -> None:
    check_no_traces(directory)
    strangers = sorted(names - _BEFORE_JOURNAL)
    if strangers:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        raise JournalMismatch(
            "not a data directory of this program",
            path=directory,
            expected=f"{JOURNAL_NAME}, or an empty directory",
            got=shown,
        )
    if not create:
        raise JournalMissing(
            "data directory without a journal", path=directory, expected=JOURNAL_NAME
        )
