"""Accounts and cards from CSV files, into a data directory that no daemon runs on.

Rule 1: all of a file or nothing of it: its entries are commits of one transaction, and
        a row that cannot be taken ends it without a trace.
Rule 2: every bad row is told by its line, up to PROBLEMS_MAX; what it holds is not
        told, for it may be a card number in the wrong column.
"""

from __future__ import annotations

import csv
import io
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Final, TextIO

from switch.config import Config
from switch.embedded import Store, open_store
from switch.journal.port import JournalError, ShardRecord
from switch.keys.port import PAN_DIGITS_MAX, PAN_DIGITS_MIN
from switch.ledger import (
    CARD_STATUSES,
    AccountOpened,
    CardIssued,
    Entry,
    State,
    apply,
    dump,
    shard_of_account,
)
from switch.ledger.currencies import NUMBERS
from switch.shard._directory import CardDirectory

ACCOUNT_COLUMNS: Final = ("account", "currency", "balance", "credit_limit")
CARD_COLUMNS: Final = ("pan", "account", "expiry", "status")
ACCOUNT_NAME_SIZE_MAX: Final = 32
# of a balance or a limit; leaves the ledger room to add any amount
MONEY_MAX: Final = 10**17
PROBLEMS_MAX: Final = 1000
# Rows in a commit: some megabytes of record.
BATCH_ROWS: Final = 20_000

_log = logging.getLogger("switch.imports")

# How much is done, from 0 to 1, and a few words.
Advance = Callable[[float, str], None]
Row = list[str]
Batch = list[ShardRecord]


class ImportRefused(Exception):  # noqa: N818 -- what happened, not what is wrong
    """Nothing was imported. `problems` says why, a line each, the first ones."""

    def __init__(self, problems: list[str], count: int) -> None:
        super().__init__(f"{count:,} bad rows" if count > 1 else "1 bad row")
        self.problems = problems
        self.count = count


class _RowError(ValueError):
    """A row that cannot be taken: what was expected, what came."""


def import_accounts(config: Config, file: Path, advance: Advance) -> int:
    """The number of accounts that were opened. Raises ImportRefused."""
    return _import(config, file, advance, ACCOUNT_COLUMNS, _AccountRows)


def import_cards(config: Config, file: Path, advance: Advance) -> int:
    """The number of cards that were issued. Raises ImportRefused."""
    return _import(config, file, advance, CARD_COLUMNS, _CardRows)


def _import(
    config: Config,
    path: Path,
    advance: Advance,
    columns: tuple[str, ...],
    kind: type[_AccountRows | _CardRows],
) -> int:
    # The file first: nothing is initialised for one that is not there.
    with path.open("rb") as file, open_store(config) as store:
        size = max(path.stat().st_size, 1)
        rows = _Rows(
            io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline=""), columns
        )
        importer = kind(store, time.time_ns() // 1_000_000)
        batches = _batches(
            rows, importer, lambda: advance(_done(file, size), f"{rows.count:,} rows")
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


class _Rows:
    """The rows of a CSV file, in the order of `columns`, and what was wrong so far."""

    def __init__(self, text: TextIO, columns: tuple[str, ...]) -> None:
        self._reader = csv.reader(text)
        self._columns = columns
        self.count = 0
        self.problems: list[str] = []
        self.problem_count = 0

    def refuse(self, line: int, what: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(f"line {line}: {what}")

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        reader = self._reader
        order = self._order()
        in_order = order == list(range(len(order)))
        size = len(order)
        # Where a row begins: a quote that is not closed may swallow many lines.
        line = reader.line_num + 1
        try:
            for row in reader:
                if len(row) == size:
                    self.count += 1
                    yield line, row if in_order else [row[index] for index in order]
                elif row:
                    self.refuse(line, f"expected {size} columns, got {len(row)}")
                line = reader.line_num + 1
        except csv.Error as error:
            self.refuse(line, f"not CSV: {error}")

    def _order(self) -> list[int]:
        """Where each column is; the header may have them in any order."""
        try:
            first = next(self._reader, [])
        except csv.Error as error:
            raise ImportRefused([f"line 1: not CSV: {error}"], 1) from error
        header = [name.strip().lower() for name in first]
        if sorted(header) != sorted(self._columns):
            unknown = sorted(set(header) - set(self._columns))
            missing = sorted(set(self._columns) - set(header))
            # A first line of data may be cards: it is not repeated.
            got = f"{len(unknown)} others" if unknown else "some twice"
            raise ImportRefused(
                [
                    f"line 1: expected the columns {','.join(self._columns)}, got "
                    + (f"none of {','.join(missing)}" if missing else got)
                ],
                1,
            )
        return [header.index(name) for name in self._columns]


def _batches(
    rows: _Rows, importer: _AccountRows | _CardRows, report: Callable[[], None]
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

    def take(
        self, chunk: list[tuple[int, Row]], rows: _Rows
    ) -> dict[State, list[Entry]]:
        entries: dict[State, list[Entry]] = defaultdict(list)
        for line, row in chunk:
            try:
                state, entry = self._entry(row)
            except _RowError as error:
                rows.refuse(line, str(error))
            else:
                apply(state, entry)
                entries[state].append(entry)
        return entries

    def _entry(self, row: Row) -> tuple[State, Entry]:
        name = _account_name(row[0])
        letters = row[1].strip()
        if letters not in NUMBERS:
            raise _RowError(
                "currency: expected ISO 4217 letters such as EUR, got "
                + (letters if letters.isalpha() and len(letters) <= 3 else "others")
            )
        balance = _money("balance", row[2], -MONEY_MAX)
        credit_limit = _money("credit_limit", row[3], 0)
        state = self._states[shard_of_account(name, len(self._states))]
        if state.account_index(name) >= 0:
            raise _RowError("account: expected a new one, got one that is open")
        entry = AccountOpened(
            name,
            NUMBERS[letters],
            balance,
            credit_limit,
            at=max(self.at, state.last_at),
            sequence=state.sequence + 1,
        )
        return state, entry


class _CardRows:
    """As above; PANs are hashed and sealed by the chunk, which is faster."""

    def __init__(self, store: Store, at: int) -> None:
        self.at = at
        self._keys = store.keys
        self._states = store.recovered.states
        # Cards of this file are in the states, and not in this directory.
        self._directory = CardDirectory(self._states)
        self._new: set[bytes] = set()

    def take(
        self, chunk: list[tuple[int, Row]], rows: _Rows
    ) -> dict[State, list[Entry]]:
        read: list[tuple[int, Row, bytes]] = []
        for line, row in chunk:
            try:
                read.append((line, row, _pan(row[0])))
            except _RowError as error:
                rows.refuse(line, str(error))
        sealed = self._keys.seal_many(pan for _, _, pan in read)
        entries: dict[State, list[Entry]] = defaultdict(list)
        for (line, row, pan), (pan_hash, seal) in zip(read, sealed, strict=True):
            try:
                state, entry = self._entry(row, pan, pan_hash, seal)
            except _RowError as error:
                rows.refuse(line, str(error))
            else:
                apply(state, entry)
                entries[state].append(entry)
        return entries

    def _entry(
        self, row: Row, pan: bytes, pan_hash: bytes, seal: bytes
    ) -> tuple[State, Entry]:
        name = _account_name(row[1])
        expiry = row[2].strip()
        if not (_is_digits(expiry, 4) and "01" <= expiry[2:] <= "12"):
            raise _RowError(
                f"expiry: expected YYMM, got {len(expiry)} characters"
                + (", no such month" if _is_digits(expiry, 4) else "")
            )
        status = row[3].strip()
        if status not in CARD_STATUSES:
            raise _RowError(
                f"status: expected one of {', '.join(CARD_STATUSES)}, got another"
            )
        state = self._states[shard_of_account(name, len(self._states))]
        index = state.account_index(name)
        if index < 0:
            raise _RowError("account: expected one that is open, got another")
        if self._is_known(pan_hash):
            raise _RowError("pan: expected a new one, got one that is issued")
        self._new.add(pan_hash)
        entry = CardIssued(
            pan_hash,
            seal,
            name,
            index,
            int(expiry),
            CARD_STATUSES.index(status),
            pan[-4:].decode(),
            at=max(self.at, state.last_at),
            sequence=state.sequence + 1,
        )
        return state, entry

    def _is_known(self, pan_hash: bytes) -> bool:
        if pan_hash in self._new:
            return True
        return self._states[self._directory.shard(pan_hash)].has_card(pan_hash)


def _account_name(text: str) -> bytes:
    name = text.strip()
    if not (
        1 <= len(name) <= ACCOUNT_NAME_SIZE_MAX
        and name.isascii()
        and name.isprintable()
    ):
        raise _RowError(
            f"account: expected 1 to {ACCOUNT_NAME_SIZE_MAX} printable ASCII "
            f"characters, got {len(name)}"
            + ("" if name.isascii() and name.isprintable() else ", some of them others")
        )
    return name.encode()


def _money(column: str, text: str, minimum: int) -> int:
    text = text.strip()
    digits = text.removeprefix("-")
    if not _is_digits(digits):
        raise _RowError(
            f"{column}: expected a whole number of minor units, got something else"
        )
    # Python converts no more than some thousands of digits.
    digits = digits.lstrip("0")[:20]
    value = int(digits or "0") * (-1 if text.startswith("-") else 1)
    if not minimum <= value <= MONEY_MAX:
        raise _RowError(
            f"{column}: expected {minimum} to {MONEY_MAX}, got a number "
            + ("above" if value > MONEY_MAX else "below")
        )
    return value


def _pan(text: str) -> bytes:
    digits = text.strip()
    if not (_is_digits(digits) and PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX):
        raise _RowError(
            f"pan: expected {PAN_DIGITS_MIN} to {PAN_DIGITS_MAX} digits, got "
            f"{len(digits)} characters"
        )
    return digits.encode()


def _is_digits(text: str, size: int | None = None) -> bool:
    return text.isascii() and text.isdigit() and size in (None, len(text))
