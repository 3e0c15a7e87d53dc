"""The rows of account and card files (CSV), and what is wrong with them.

Rule 1: every bad row is told by its line, up to PROBLEMS_MAX; what it holds is not
        told, for it may be a card number in the wrong column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from switch.keys.port import PAN_DIGITS_MAX, PAN_DIGITS_MIN, PanKeys
from switch.ledger import CARD_STATUSES, MONEY_MAX
from switch.ledger.currencies import NUMBERS

ACCOUNT_COLUMNS: Final = ("account", "currency", "balance", "credit_limit")
CARD_COLUMNS: Final = ("pan", "account", "expiry", "status")
ACCOUNT_NAME_SIZE_MAX: Final = 32
PROBLEMS_MAX: Final = 1000

Row = list[str]


class ImportRefused(Exception):  # noqa: N818 -- what happened, not what is wrong
    """Nothing was imported. `problems` says why, a line each, the first ones."""

    def __init__(self, problems: list[str], count: int) -> None:
        super().__init__(f"{count:,} bad rows" if count > 1 else "1 bad row")
        self.problems = problems
        self.count = count


class RowError(ValueError):
    """A row that cannot be taken: what was expected, what came."""


class AccountRow(NamedTuple):
    name: bytes
    currency: int
    balance: int
    credit_limit: int


class CardRow(NamedTuple):
    pan: bytes
    account: bytes
    expiry: int
    status: str


class Rows:
    """The rows of a CSV file, in the order of `columns`, and what was wrong so far.

    They may be asked for again, and go on, when there are more lines than there were.
    """

    def __init__(self, lines: Iterable[str], columns: tuple[str, ...]) -> None:
        self._reader = csv.reader(lines)
        self._columns = columns
        self._order: list[int] = []
        self._is_broken = False
        self.count = 0
        self.problem_count = 0
        self._told: list[tuple[int, str]] = []

    def refuse(self, line: int, what: str) -> None:
        self.problem_count += 1
        if len(self._told) < PROBLEMS_MAX:
            self._told.append((line, what))

    @property
    def problems(self) -> list[str]:
        """By line: what is found when a row is read comes before what is found when
        many have been."""
        return [f"line {line}: {what}" for line, what in sorted(self._told)]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        if self._is_broken:
            return
        reader = self._reader
        order = self._order = self._order or self._read_header()
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
            self._is_broken = True
            self.refuse(line, f"not CSV: {error}")

    def _read_header(self) -> list[int]:
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


class Once:
    """What a file has in this column once: the line of each."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._lines: dict[bytes, int] = {}

    def take(self, value: bytes, line: int) -> None:
        """Raises RowError when a line before had it; the value is not told."""
        first = self._lines.setdefault(value, line)
        if first != line:
            raise same_again(self._column, first)


def same_again(column: str, first: int) -> RowError:
    return RowError(f"{column}: expected each once, got the same as line {first}")


def account_row(row: Row) -> AccountRow:
    """Raises RowError."""
    name = _account_name(row[0])
    letters = row[1].strip()
    if letters not in NUMBERS:
        raise RowError(
            "currency: expected ISO 4217 letters such as EUR, got "
            + (letters if letters.isalpha() and len(letters) <= 3 else "others")
        )
    balance = _money("balance", row[2], -MONEY_MAX)
    credit_limit = _money("credit_limit", row[3], 0)
    return AccountRow(name, NUMBERS[letters], balance, credit_limit)


def card_row(row: Row) -> CardRow:
    """Raises RowError."""
    pan = _pan(row[0])
    name = _account_name(row[1])
    expiry = row[2].strip()
    if not (_is_digits(expiry, 4) and "01" <= expiry[2:] <= "12"):
        raise RowError(
            f"expiry: expected YYMM, got {len(expiry)} characters"
            + (", no such month" if _is_digits(expiry, 4) else "")
        )
    status = row[3].strip()
    if status not in CARD_STATUSES:
        raise RowError(
            f"status: expected one of {', '.join(CARD_STATUSES)}, got another"
        )
    return CardRow(pan, name, int(expiry), status)


def sealed_cards(
    piece: Iterable[tuple[int, Row]], rows: Rows, keys: PanKeys
) -> Iterator[tuple[int, CardRow, bytes, bytes]]:
    """Line, card, hash and seal of each; bad rows are refused. All are sealed at once,
    which is what a piece is for."""
    read: list[tuple[int, CardRow]] = []
    for line, row in piece:
        try:
            read.append((line, card_row(row)))
        except RowError as error:
            rows.refuse(line, str(error))
    sealed = keys.seal_many(card.pan for _, card in read)
    for (line, card), (pan_hash, seal) in zip(read, sealed, strict=True):
        yield line, card, pan_hash, seal


def _account_name(text: str) -> bytes:
    name = text.strip()
    if not (
        1 <= len(name) <= ACCOUNT_NAME_SIZE_MAX
        and name.isascii()
        and name.isprintable()
    ):
        raise RowError(
            f"account: expected 1 to {ACCOUNT_NAME_SIZE_MAX} printable ASCII "
            f"characters, got {len(name)}"
            + ("" if name.isascii() and name.isprintable() else ", some of them others")
        )
    return name.encode()


def _money(column: str, text: str, minimum: int) -> int:
    text = text.strip()
    digits = text.removeprefix("-")
    if not _is_digits(digits):
        raise RowError(
            f"{column}: expected a whole number of minor units, got something else"
        )
    # Python converts no more than some thousands of digits.
    digits = digits.lstrip("0")[:20]
    value = int(digits or "0") * (-1 if text.startswith("-") else 1)
    if not minimum <= value <= MONEY_MAX:
        raise RowError(
            f"{column}: expected {minimum} to {MONEY_MAX}, got a number "
            + ("above" if value > MONEY_MAX else "below")
        )
    return value


def _pan(text: str) -> bytes:
    digits = text.strip()
    if not (_is_digits(digits) and PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX):
        raise RowError(
            f"pan: expected {PAN_DIGITS_MIN} to {PAN_DIGITS_MAX} digits, got "
            f"{len(digits)} characters"
        )
    return digits.encode()


def _is_digits(text: str, size: int | None = None) -> bool:
    return text.isascii() and text.isdigit() and size in (None, len(text))
