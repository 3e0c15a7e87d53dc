from typing import Final

from switch.ledger._entry import AccountOpened, CardIssued, Change
from switch.ledger._state import State

MONEY_MAX: Final[int]

class ChangeRefused(ValueError):  # noqa: N818 -- what happened
    why: str
    def __init__(self, text: str, why: str = "invalid") -> None: ...

def open_account(
    state: State,
    account: str | bytes,
    currency: int,
    balance: int,
    credit_limit: int,
    *,
    operator: str,
    reason: str,
    now: int,
    operation_key: bytes | None = None,
) -> AccountOpened: ...
def issue_card(
    state: State,
    pan_hash: bytes,
    sealed_pan: bytes,
    account: str | bytes,
    expiry: int,
    status: str,
    last_four: str,
    *,
    operator: str,
    reason: str,
    now: int,
    operation_key: bytes | None = None,
) -> CardIssued: ...
def change_limit(
    state: State,
    account: str,
    credit_limit: int,
    *,
    operator: str,
    reason: str,
    now: int,
) -> Change | None: ...
def change_account_status(
    state: State,
    account: str,
    status: str,
    *,
    operator: str,
    reason: str,
    now: int,
) -> Change | None: ...
def adjust(
    state: State,
    account: str,
    amount: int,
    *,
    operator: str,
    reason: str,
    now: int,
    operation_key: bytes | None = None,
) -> Change: ...
def change_card_status(
    state: State,
    pan_hash: bytes,
    status: str,
    *,
    operator: str,
    reason: str,
    now: int,
) -> Change | None: ...
def change_card_expiry(
    state: State,
    pan_hash: bytes,
    expiry: int,
    *,
    operator: str,
    reason: str,
    now: int,
) -> Change | None: ...
