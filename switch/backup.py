"""A backup of a data directory beside the daemon that runs on it.

    journal.db     the commits up to the last one that was durable when it began
    released       the number of that commit
    events/        one line, the newest event that was published before it
    publish/       how far Kafka and its like were before it
    tokens.json    if there is one in the data directory
    pan.key        only if asked for
    backup.json    what this is; gone when a daemon has begun from it

Rule 1: a backup is a data directory. Beginning from one is like a start after a power
        loss at that moment, and needs no other code.
Rule 2: publishers' positions are read before the end of the journal is: none is ever
        ahead of the copy, and what lies between the two is published once more.
Rule 3: it has its name when it is whole, verified and durable, and not before.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from switch.config import Config
from switch.files import sync_directory, write_private
from switch.journal.copying import copy_journal, verify_copy
from switch.journal.directory import (
    BACKUP_NAME,
    EVENTS_NAME,
    JOURNAL_NAME,
    PAN_KEY_NAME,
    PUBLISH_NAME,
    RELEASED_NAME,
    TOKENS_NAME,
    DataDirectory,
)
from switch.journal.released import Released
from switch.journal.sqlite import SqliteJournal
from switch.publish.jsonlines import newest_event
from switch.publish.port import PublishError
from switch.publish.positions import copy_positions

# How much is done, from 0 to 1, and a few words.
Advance = Callable[[float, str], None]


class BackupError(Exception):
    """A backup that cannot be made like this: what was expected, what came, where."""


class Backup(msgspec.Struct, frozen=True):
    """`backup.json`."""

    taken_at: str  # when it began
    commit: int  # the last one in it
    published: int  # the commit of the newest event then; 0: none known
    has_key: bool


def back_up(
    config: Config, target: Path, advance: Advance, *, with_key: bool
) -> Backup:
    """Makes `target`. Raises BackupError, JournalError, OSError; then there is none."""
    if config.cluster.name:
        raise BackupError(
            f"expected a switch alone, got a node of the cluster {config.cluster.name}:"
            " its journal is in Cassandra"
        )
    source = DataDirectory.open(config.data_directory, create=False)
    target = target.absolute()
    draft = target.with_name(target.name + ".partial")
    for path in (target, draft):
        if path.exists():
            raise BackupError(f"expected to create {path}, got one that is there")
    if with_key and config.keys.pan_key_file:
        raise BackupError(
            f"expected the key in the data directory, got keys.pan_key_file = "
            f"{config.keys.pan_key_file}: copy it from there"
        )
    draft.mkdir(mode=0o700)
    try:
        made = _fill(config, source, draft, advance, with_key=with_key)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_directory(target.parent)
    return made


def begun_from(directory: DataDirectory) -> Backup | None:
    """What a data directory was restored from, if no daemon has run on it since."""
    try:
        return msgspec.json.decode(directory.backup.read_bytes(), type=Backup)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise BackupError(
            f"{directory.backup}: expected what `switch backup` writes: {error}"
        ) from None


def _fill(
    config: Config,
    source: DataDirectory,
    draft: Path,
    advance: Advance,
    *,
    with_key: bool,
) -> Backup:
    taken_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    published = _copy_position(
        Path(config.publish.directory or source.events), draft / EVENTS_NAME
    )
    copy_positions(source.publish, draft / PUBLISH_NAME)
    journal = SqliteJournal.open(source.path, read_only=True)
    try:
        end = journal.head
        steps = 2 * max(end, 1)
        copy_journal(
            journal, draft, end, lambda done: advance(done / steps, f"commit {done:,}")
        )
    finally:
        journal.close()
    verify_copy(
        draft, end, lambda done: advance((end + done) / steps, f"verified {done:,}")
    )
    released = Released(draft / RELEASED_NAME)
    released.advance(end)
    released.close()
    if not config.admin.tokens_file:
        with suppress(FileNotFoundError):
            write_private(draft / TOKENS_NAME, source.tokens.read_bytes())
    if with_key:
        write_private(draft / PAN_KEY_NAME, source.pan_key.read_bytes())
    made = Backup(taken_at, end, published, with_key)
    write_private(draft / BACKUP_NAME, msgspec.json.encode(made) + b"\n")
    _sync(draft / JOURNAL_NAME, draft / RELEASED_NAME)
    sync_directory(draft)
    return made


def _copy_position(events: Path, target: Path) -> int:
    """The newest event as the only one of the file that would come next: there the
    publisher looks for its position. Damage there is no reason to have no backup."""
    try:
        newest = newest_event(events)
    except PublishError:
        newest = None
    if newest is None:
        return 0
    position, line, name = newest
    target.mkdir(mode=0o750)
    write_private(target / name, line + b"\n")
    (target / name).chmod(0o640)
    sync_directory(target)
    return position.commit


def _sync(*paths: Path) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
