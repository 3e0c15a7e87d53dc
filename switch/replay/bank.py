"""A bank that does not exist, for demonstrations: accounts and test cards.

The cards are of the range 9999 99, which no scheme issues; their check digits are
right. The same seed makes the same bank.
"""

import csv
import datetime
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

Status = Literal["active", "restricted", "lost", "stolen", "closed"]
_Choice = TypeVar("_Choice", bound=str)

TEST_RANGE: Final = "999999"
PAN_SIZE: Final = 16
ACCOUNT_COUNT: Final = 300
# of a hundred accounts; the rest are in euro
CURRENCIES: Final = (("USD", 10), ("GBP", 5))
# of a hundred cards; the rest are active and not expired
STATUSES: Final[tuple[tuple[Status, int], ...]] = (
    ("restricted", 3),
    ("lost", 3),
    ("stolen", 2),
    ("closed", 2),
)
EXPIRED_OF_100: Final = 3
POOR_OF_100: Final = 8
SECOND_CARD_OF_100: Final = 30


class BankAccount(msgspec.Struct, frozen=True):
    account: str
    currency: str
    balance: int  # minor units
    credit_limit: int


class BankCard(msgspec.Struct, frozen=True):
    pan: str
    account: BankAccount
    expiry: str  # YYMM
    status: Status

    # A PAN never reaches a log by way of a traceback, not even a test card's.
    def __repr__(self) -> str:
        return f"BankCard(…{self.pan[-4:]}, {self.status})"


class Bank(msgspec.Struct, frozen=True):
    accounts: tuple[BankAccount, ...]
    cards: tuple[BankCard, ...]

    def write(self, directory: Path) -> tuple[Path, Path]:
        """The two files that `switch accounts import` and `cards import` take."""
        accounts, cards = directory / "accounts.csv", directory / "cards.csv"
        _write(
            accounts,
            ("account", "currency", "balance", "credit_limit"),
            ((a.account, a.currency, a.balance, a.credit_limit) for a in self.accounts),
        )
        _write(
            cards,
            ("pan", "account", "expiry", "status"),
            ((c.pan, c.account.account, c.expiry, c.status) for c in self.cards),
        )
        return accounts, cards


def make_bank(seed: int, today: datetime.date) -> Bank:
    draw = random.Random(seed)
    accounts = tuple(_make_account(draw, index) for index in range(ACCOUNT_COUNT))
    cards: list[BankCard] = []
    for account in accounts:
        for _ in range(2 if draw.randrange(100) < SECOND_CARD_OF_100 else 1):
            cards.append(_make_card(draw, account, len(cards), today))
    return Bank(accounts, tuple(cards))


def with_check_digit(digits: str) -> str:
    """The number with its last digit -- ISO/IEC 7812-1, annex B (Luhn)."""
    total = 0
    for index, character in enumerate(reversed(digits)):
        doubled = int(character) * (2 - index % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return f"{digits}{-total % 10}"


def _make_account(draw: random.Random, index: int) -> BankAccount:
    currency = _choose(draw, CURRENCIES, "EUR")
    poor = draw.randrange(100) < POOR_OF_100
    return BankAccount(
        account=f"DEMO{index + 1:05d}",
        currency=currency,
        balance=draw.randrange(0, 2_000) if poor else draw.randrange(50_000, 900_000),
        credit_limit=0 if poor else draw.choice((0, 0, 50_000, 100_000)),
    )


def _make_card(
    draw: random.Random, account: BankAccount, index: int, today: datetime.date
) -> BankCard:
    expired = draw.randrange(100) < EXPIRED_OF_100
    year = today.year + (-1 if expired else draw.randrange(1, 5))
    return BankCard(
        pan=with_check_digit(f"{TEST_RANGE}{index + 1:0{PAN_SIZE - 7}d}"),
        account=account,
        expiry=f"{year % 100:02d}{draw.randrange(1, 13):02d}",
        status=_choose(draw, STATUSES, "active"),
    )


def _choose(
    draw: random.Random, shares: Iterable[tuple[_Choice, int]], otherwise: _Choice
) -> _Choice:
    left = draw.randrange(100)
    for choice, share in shares:
        if left < share:
            return choice
        left -= share
    return otherwise


def _write(
    path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]
) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
