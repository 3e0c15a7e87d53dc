"""The embedded store: one data directory, opened in the one order that is safe.

Lock, key, journal, snapshots, states. Whatever of it fails, what was opened before is
closed again, and nothing has been written that the next opening would trip over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from switch.config import Config, KeysSettings, LedgerSettings
from switch.journal.directory import LOCK_NAME, DataDirectory
from switch.journal.released import Released
from switch.journal.snapshots import SqliteSnapshots
from switch.journal.sqlite import SqliteJournal
from switch.keys import sealed_file
from switch.keys.port import PanKeys
from switch.keys.wrapping import load as load_wrapping_keys
from switch.ledger import Limits
from switch.observe.log import event
from switch.ownership.process import ProcessLock
from switch.shard.recovery import Recovered, recover

_log = logging.getLogger("switch.embedded")

MS_PER_S = 1000


class Store(msgspec.Struct, frozen=True):
    """What is behind the ports, and the states as the last commit left them."""

    directory: DataDirectory
    keys: PanKeys
    journal: SqliteJournal
    snapshots: SqliteSnapshots
    released: Released
    recovered: Recovered


@contextmanager
def open_store(
    config: Config,
    progress: Callable[[int, int], None] | None = None,
    *,
    vfs: str | None = None,
) -> Iterator[Store]:
    """The only writer of `config.data_directory`; an empty one is initialised.

    Raises JournalError, OwnershipError or KeysError. `progress` is told (commit, head)
    while commits are replayed. `vfs` is what SQLite reaches the disk through, for
    whoever simulates one.
    """
    path = DataDirectory.open(config.data_directory).path
    with ExitStack() as stack:
        lock = ProcessLock(path / LOCK_NAME)
        lock.acquire()
        stack.callback(lock.release)
        # Again: another process may have initialised it before we had the lock.
        directory = DataDirectory.open(path)
        keys = _load_keys(directory, config.keys)
        journal = SqliteJournal.open(
            directory.path,
            shard_count=config.journal.shards,
            key_fingerprint=keys.fingerprint,
            vfs=vfs,
        )
        stack.callback(journal.close)
        snapshots = SqliteSnapshots.open(directory.path, journal=journal, vfs=vfs)
        stack.callback(snapshots.close)
        recovered = recover(
            journal,
            snapshots,
            make_limits(config.ledger, journal.shard_count),
            progress,
        )
        journal.expect({s.shard: s.sequence + 1 for s in recovered.states})
        for problem in snapshots.problems:
            event(_log, logging.WARNING, "snapshot passed over", reason=problem)
        released = Released(directory.released)
        stack.callback(released.close)
        # Whoever was not answered before the crash gets these entries' answers now.
        released.advance(max(released.number, journal.head))
        yield Store(directory, keys, journal, snapshots, released, recovered)


def make_limits(settings: LedgerSettings, shard_count: int) -> Limits:
    return Limits(
        transactions_max=settings.transactions_max,
        duplicate_window_ms=settings.duplicate_window_s * MS_PER_S,
        hold_lifetime_ms=settings.hold_lifetime_s * MS_PER_S,
        shard_count=shard_count,
    )


def _load_keys(directory: DataDirectory, settings: KeysSettings) -> PanKeys:
    wrapping_file = settings.wrapping_key_file
    wrapping = load_wrapping_keys(wrapping_file) if wrapping_file else ()
    if settings.pan_key_file:
        return sealed_file.load(settings.pan_key_file, wrapping)
    if directory.is_new and not directory.pan_key.exists():
        return sealed_file.create(directory.pan_key, wrapping)
    return sealed_file.load(directory.pan_key, wrapping)
