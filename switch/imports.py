"""Accounts and cards from CSV files, into a data directory that no daemon runs on.

Rule 1: all of a file or nothing of it: its entries are commits of one transaction, and
        a row that cannot be taken ends it without a trace.
Rule 2: `committing` is called when all rows are taken. What stops it before leaves
        nothing; nothing is to stop it from then on, or nobody knows which it was.
"""

from __future__ import annotations

import io
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Final

from switch.config import Config
from switch.embedded import Store, open_store
from switch.journal.port import JournalError, ShardRecord
from switch.ledger import (
    ChangeRefused,
    Entry,
    State,
    apply,
    dump,
    issue_card,
    open_account,
    shard_of_account,
)
from switch.rows import (
    ACCOUNT_COLUMNS,
    CARD_COLUMNS,
    CardRow,
    ImportRefused,
    Once,
    Row,
    RowError,
    Rows,
    account_row,
    card_row,
)
from switch.shard._directory import CardDirectory

# Rows in a commit: some megabytes of record.
BATCH_ROWS: Final = 20_000

_log = logging.getLogger("switch.imports")

# How much is done, from 0 to 1, and a few words.
Advance = Callable[[float, str], None]
Committing = Callable[[], None]
Batch = list[ShardRecord]


def _nothing() -> None:
    pass


def import_accounts(
    config: Config,
    file: Path,
    advance: Advance,
    committing: Committing = _nothing,
) -> int:
    """The number of accounts that were opened. Raises ImportRefused."""
    return _import(config, file, advance, committing, ACCOUNT_COLUMNS, _AccountRows)


def import_cards(
    config: Config,
    file: Path,
    advance: Advance,
    committing: Committing = _nothing,
) -> int:
    """The number of cards that were issued. Raises ImportRefused."""
    return _import(config, file, advance, committing, CARD_COLUMNS, _CardRows)


def _import(
    config: Config,
    path: Path,
    advance: Advance,
    committing: Committing,
    columns: tuple[str, ...],
    kind: type[_AccountRows | _CardRows],
) -> int:
    # The file first: nothing is initialised for one that is not there.
    with path.open("rb") as file, open_store(config) as store:
        size = max(path.stat().st_size, 1)
        rows = Rows(
            io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline=""), columns
        )
        importer = kind(store, time.time_ns() // 1_000_000)
        batches = _batches(
            rows,
            importer,
            lambda: advance(_done(file, size), f"{rows.count:,} rows"),
            committing,
        )
        head = store.journal.append_many(importer.at, batches)
        store.released.advance(head)
        advance(1.0, "writing snapshots")
        _write_snapshots(store)
        return rows.count


def _done(file: IO[bytes], size: int) -> float:
    # A pipe is as good as a file, and has no length.
    return file.tell() / size if file.seekable() else 0.0


def _write_snapshots(store: Store) -> None:
    """So that the start after a large import does not replay it. No more than that:
    the import is done, and is not to be said to have failed."""
    try:
        for state, sequence in zip(
            store.recovered.states, store.recovered.snapshot_sequences, strict=True
        ):
            if state.sequence > max(sequence, 0):
                store.snapshots.write(
                    state.shard, state.sequence, store.journal.head, dump(state)
                )
        store.snapshots.mark_complete(store.journal.head)
    except JournalError as error:
        _log.warning("no snapshots, the next start will replay the import: %s", error)


def _batches(
    rows: Rows,
    importer: _AccountRows | _CardRows,
    report: Callable[[], None],
    committing: Committing,
) -> Iterator[Batch]:
    """Raises ImportRefused at the end if any row was bad: nothing is kept then."""
    source = iter(rows)
    while chunk := list(islice(source, BATCH_ROWS)):
        entries = importer.take(chunk, rows)
        if entries and not rows.problem_count:
            yield _records(entries)
        report()
    if rows.problem_count:
        raise ImportRefused(rows.problems, rows.problem_count)
    committing()


def _records(entries: dict[State, list[Entry]]) -> Batch:
    return [
        ShardRecord(
            shard=state.shard,
            first_sequence=of_shard[0].sequence,
            count=len(of_shard),
            payload=b"".join(entry.encode() for entry in of_shard),
        )
        for state, of_shard in entries.items()
    ]


class _AccountRows:
    """Rows to entries; each is applied to the states, which know what is there."""

    def __init__(self, store: Store, at: int) -> None:
        self.at = at
        self._states = store.recovered.states
        self._names = Once("account")

    def take(
        self, chunk: list[tuple[int, Row]], rows: Rows
    ) -> dict[State, list[Entry]]:
        entries: dict[State, list[Entry]] = defaultdict(list)
        for line, row in chunk:
            try:
                state, entry = self._entry(line, row)
            except (RowError, ChangeRefused) as error:
                rows.refuse(line, str(error))
            else:
                apply(state, entry)
                entries[state].append(entry)
        return entries

    def _entry(self, line: int, row: Row) -> tuple[State, Entry]:
        read = account_row(row)
        self._names.take(read.name, line)
        state = self._states[shard_of_account(read.name, len(self._states))]
        return state, open_account(state, *read, operator="", reason="", now=self.at)


class _CardRows:
    """As above; PANs are hashed and sealed by the chunk, which is faster."""

    def __init__(self, store: Store, at: int) -> None:
        self.at = at
        self._keys = store.keys
        self._states = store.recovered.states
        # Cards of this file are in the states, and not in this directory.
        self._directory = CardDirectory(self._states)
        self._cards = Once("pan")

    def take(
        self, chunk: list[tuple[int, Row]], rows: Rows
    ) -> dict[State, list[Entry]]:
        read: list[tuple[int, CardRow]] = []
        for line, row in chunk:
            try:
                read.append((line, card_row(row)))
            except RowError as error:
                rows.refuse(line, str(error))
        sealed = self._keys.seal_many(card.pan for _, card in read)
        entries: dict[State, list[Entry]] = defaultdict(list)
        for (line, card), (pan_hash, seal) in zip(read, sealed, strict=True):
            try:
                self._cards.take(pan_hash, line)
                state, entry = self._entry(card, pan_hash, seal)
            except (RowError, ChangeRefused) as error:
                rows.refuse(line, str(error))
            else:
                apply(state, entry)
                entries[state].append(entry)
        return entries

    def _entry(
        self, card: CardRow, pan_hash: bytes, seal: bytes
    ) -> tuple[State, Entry]:
        state = self._states[shard_of_account(card.account, len(self._states))]
        if self._states[self._directory.shard(pan_hash)].has_card(pan_hash):
            raise ChangeRefused("pan: expected a new one, got one that is issued")
        entry = issue_card(
            state, pan_hash, seal, card.account, card.expiry, card.status,
            card.pan[-4:].decode(), operator="", reason="", now=self.at,
        )  # fmt: skip
        return state, entry
