"""What goes in and out over HTTP: the bodies, the queries and the answers.

Money is in minor units, a card is named by its token: the keyed hash of its number.
The OpenAPI document is made of these.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from switch.keys.port import PAN_DIGITS_MAX, PAN_DIGITS_MIN
from switch.ledger import MONEY_MAX
from switch.rows import ACCOUNT_NAME_SIZE_MAX

REASON_SIZE_MAX = 200
PAGE_ROWS_MAX = 500
PAGE_ROWS_DEFAULT = 50

AccountName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=ACCOUNT_NAME_SIZE_MAX,
        pattern=r"^[!-~]([ -~]*[!-~])?\Z",
        description="printable ASCII",
        examples=["ACC0001"],
    ),
]
CardToken = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Currency = Annotated[
    str, Meta(pattern=r"^[A-Z]{3}\Z", description="ISO 4217", examples=["EUR"])
]
Balance = Annotated[int, Meta(ge=-MONEY_MAX, le=MONEY_MAX, examples=[2_500])]
Limit = Annotated[int, Meta(ge=0, le=MONEY_MAX, examples=[50_000])]
Expiry = Annotated[str, Meta(pattern=r"^[0-9]{2}(0[1-9]|1[0-2])\Z", description="YYMM")]
Imports = Literal["accounts", "cards"]
AccountStatusName = Literal["active", "blocked", "closed"]
CardStatusName = Literal["active", "restricted", "lost", "stolen", "closed"]
Reason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=REASON_SIZE_MAX,
        description="why; at most 200 bytes of UTF-8, all printable, and nothing that "
        "looks like a card number. It is in the journal and the events.",
        examples=["customer called"],
    ),
]
Pan = Annotated[
    str,
    Meta(
        pattern=rf"^[0-9]{{{PAN_DIGITS_MIN},{PAN_DIGITS_MAX}}}\Z",
        description="the card number; no answer ever has it",
        examples=["9999990000000014"],
    ),
]
OperationKey = Annotated[
    str,
    Meta(
        pattern=r'^([!#-\[\]-~]{1,128}|"[!#-\[\]-~]{1,128}")\Z',
        description="a value that no other request of yours has, such as a UUID, with "
        "or without quotes. The same request with the same key gets the first answer "
        "again and changes nothing, for `ledger.duplicate_window_s`.",
        examples=['"b2f1c8de-6a2f-4c0e-9d1a-0a9f8e1f7c33"'],
    ),
]
Stan = Annotated[str, Meta(pattern=r"^[0-9]{6}\Z")]
Rrn = Annotated[str, Meta(pattern=r"^[!-~]{1,12}\Z")]
Moment = Annotated[datetime, Meta(tz=True)]
PageSize = Annotated[int, Meta(ge=1, le=PAGE_ROWS_MAX)]


# -- bodies


class OpenAccount(Struct, frozen=True, forbid_unknown_fields=True):
    account: AccountName
    currency: Currency
    reason: Reason
    balance: Balance = 0
    credit_limit: Limit = 0


class ChangeAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """One of `status` and `credit_limit`, or both."""

    reason: Reason
    status: AccountStatusName | UnsetType = UNSET
    credit_limit: Limit | UnsetType = UNSET


class AdjustBalance(Struct, frozen=True, forbid_unknown_fields=True):
    """`amount` is added to the balance; it may be negative, and not zero."""

    amount: Balance
    reason: Reason


class IssueCard(Struct, frozen=True, forbid_unknown_fields=True):
    pan: Pan
    account: AccountName
    expiry: Expiry
    reason: Reason
    status: CardStatusName = "active"


class SealedCard(Struct, frozen=True):
    """`IssueCard` between nodes: none of them sends a card number."""

    token: CardToken
    sealed: bytes
    last_four: str
    account: str
    expiry: Expiry
    status: CardStatusName
    reason: Reason


class ChangeCard(Struct, frozen=True, forbid_unknown_fields=True):
    """One of `status` and `expiry`, or both."""

    reason: Reason
    status: CardStatusName | UnsetType = UNSET
    expiry: Expiry | UnsetType = UNSET


# -- queries


class AccountsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    limit: PageSize = PAGE_ROWS_DEFAULT
    cursor: AccountName | UnsetType = UNSET


class CardsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    account: AccountName | UnsetType = UNSET
    limit: PageSize = PAGE_ROWS_DEFAULT
    cursor: CardToken | UnsetType = UNSET


class TransactionsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    account: AccountName | UnsetType = UNSET
    card: CardToken | UnsetType = UNSET
    rrn: Rrn | UnsetType = UNSET
    stan: Stan | UnsetType = UNSET
    amount: Limit | UnsetType = UNSET
    since: Moment | UnsetType = field(name="from", default=UNSET)
    until: Moment | UnsetType = field(name="to", default=UNSET)
    limit: PageSize = PAGE_ROWS_DEFAULT
    # of the page before; sizes below what the read model's integers take
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{1,18}-[0-9]{1,18}\Z")] | UnsetType = (
        UNSET
    )


class ImportQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`existing`: what is there already is a bad row, or passed over."""

    reason: Reason
    existing: Literal["refuse", "skip"] = "refuse"


# -- answers


class Account(Struct, frozen=True):
    account: str
    currency: str
    balance: int
    held: int
    credit_limit: int
    available: int
    status: str


class Card(Struct, frozen=True):
    token: str
    account: str
    last_four: str
    expiry: str
    status: str


class Adjustment(Struct, frozen=True):
    """`id` is that of the event; `balance` is what the adjustment left."""

    id: str
    account: str
    currency: str
    amount: int
    balance: int


class Imported(Struct, frozen=True):
    """`existing`: how many were there already, and were passed over."""

    imported: int
    existing: int


class ImportStatus(Struct, frozen=True):
    """`rows` are read and checked, `imported` of them are durable."""

    what: Imports
    operator: str
    started_at: str
    state: Literal["checking", "writing", "done", "refused", "failed"] = "checking"
    rows: int = 0
    imported: int = 0
    existing: int = 0
    problems: int = 0


class LastImport(Struct, frozen=True):
    """The one that runs, or the last one; null: none since the start."""

    last: ImportStatus | None


class Accounts(Struct, frozen=True):
    accounts: list[Account]
    cursor: str | None


class Cards(Struct, frozen=True):
    cards: list[Card]
    cursor: str | None


class Transaction(Struct, frozen=True):
    id: str
    at: str
    kind: str
    account: str | None
    card_token: str | None
    last_four: str | None
    amount: int | None
    currency: str | None
    balance_change: int
    held_change: int
    approved: bool | None
    response_code: str | None
    mti: str | None
    stan: str | None
    rrn: str | None
    merchant: str | None
    merchant_name: str | None
    mcc: str | None
    terminal: str | None
    transaction_amount: int | None
    transaction_currency: str | None
    original_id: str | None
    operator: str | None
    reason: str | None


class Transactions(Struct, frozen=True):
    """Newest first, as far as `as_of`: a commit, or, on a node of a cluster, how many
    entries of all shards. `cursor` asks for the next page."""

    transactions: list[Transaction]
    as_of: int
    cursor: str | None


class Problem(Struct, frozen=True, omit_defaults=True):
    """`problems`: the bad rows of an import, by line; `count` of them, told or not."""

    status: int
    message: str
    problems: list[str] = []
    count: int = 0


class ErrorAnswer(Struct, frozen=True):
    error: Problem
