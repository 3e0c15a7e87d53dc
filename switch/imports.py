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
from switch.ledger import Entry, State, apply, dump
from switch.openings import AccountOpenings, Attribution, CardOpenings, Openings
from switch.rows import ImportRefused, Once, Rows
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
    *,
    skip_existing: bool = False,
) -> tuple[int, int]:
    """How many accounts were opened, and how many were there. Raises ImportRefused."""
    return _import(config, file, advance, committing, _accounts, skip_existing)


def import_cards(
    config: Config,
    file: Path,
    advance: Advance,
    committing: Committing = _nothing,
    *,
    skip_existing: bool = False,
) -> tuple[int, int]:
    """How many cards were issued, and how many were there. Raises ImportRefused."""
    return _import(config, file, advance, committing, _cards, skip_existing)


def _import(
    config: Config,
    path: Path,
    advance: Advance,
    committing: Committing,
    make: Callable[[Store, Attribution, _Applied, bool], Openings],
    skip_existing: bool,
) -> tuple[int, int]:
    # The file first: nothing is initialised for one that is not there.
    with path.open("rb") as file, open_store(config) as store:
        size = max(path.stat().st_size, 1)
        told: Attribution = {
            "operator": "", "reason": "", "now": time.time_ns() // 1_000_000,
        }  # fmt: skip
        applied = _Applied()
        openings = make(store, told, applied, skip_existing)
        rows = Rows(
            io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline=""),
            openings.columns,
        )
        batches = _batches(
            rows,
            openings,
            applied,
            lambda: advance(_done(file, size), f"{rows.count:,} rows"),
            committing,
        )
        head = store.journal.append_many(told["now"], batches)
        store.released.advance(head)
        advance(1.0, "writing snapshots")
        _write_snapshots(store)
        return rows.count - openings.existing, openings.existing


def _accounts(
    store: Store, told: Attribution, applied: _Applied, skip_existing: bool
) -> Openings:
    return AccountOpenings(
        store.recovered.states,
        told,
        Once("account").take,
        applied.keep,
        skip_existing=skip_existing,
    )


def _cards(
    store: Store, told: Attribution, applied: _Applied, skip_existing: bool
) -> Openings:
    # Cards of this file are in the states, and not in this directory.
    return CardOpenings(
        CardDirectory(store.recovered.states),
        store.keys,
        told,
        Once("pan").take,
        applied.keep,
        skip_existing=skip_existing,
    )


class _Applied:
    """Entries are applied at once, to states that nobody else sees."""

    def __init__(self) -> None:
        self._entries: dict[State, list[Entry]] = defaultdict(list)

    def keep(self, _line: int, state: State, entry: Entry) -> None:
        apply(state, entry)
        self._entries[state].append(entry)

    def take(self) -> dict[State, list[Entry]]:
        entries, self._entries = self._entries, defaultdict(list)
        return entries


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
    openings: Openings,
    applied: _Applied,
    report: Callable[[], None],
    committing: Committing,
) -> Iterator[Batch]:
    """Raises ImportRefused at the end if any row was bad: nothing is kept then."""
    source = iter(rows)
    while chunk := list(islice(source, BATCH_ROWS)):
        openings.take(chunk, rows)
        entries = applied.take()
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
