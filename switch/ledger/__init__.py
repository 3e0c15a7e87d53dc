"""The ledger: what a card issuer owes and is owed. Pure: no I/O, clock or chance.

    decide(state, request, now) -> Decision     looks, and says what has to be written
    apply(state, entry)                         the only thing that changes a state

What operators do has functions of its own, in `_administer`, that look and return the
entry.

An account's `available` is balance + credit limit - held, in minor units of its
currency. An approval never makes it negative; advices may, and say so.
"""

from switch.ledger._administer import (
    MONEY_MAX,
    ChangeRefused,
    adjust,
    change_account_status,
    change_card_expiry,
    change_card_status,
    change_limit,
    issue_card,
    open_account,
)
from switch.ledger._apply import apply, apply_payload
from switch.ledger._decide import (
    Decision,
    approval_code,
    decide,
    decide_expiries,
    decide_void,
    decide_withdrawal,
)
from switch.ledger._dump import dump, restore
from switch.ledger._entry import (
    ACCOUNT_STATUSES,
    CARD_STATUSES,
    KIND_NAMES,
    AccountOpened,
    Attributed,
    CardIssued,
    Change,
    Entry,
    EntryError,
    Transaction,
    decode_entries,
)
from switch.ledger._request import Request
from switch.ledger._state import Limits, State, StateError
from switch.ledger.routing import shard_of_account
from switch.ledger.views import AccountView, CardView, HoldView, OperationView

__all__ = [
    "ACCOUNT_STATUSES",
    "CARD_STATUSES",
    "KIND_NAMES",
    "MONEY_MAX",
    "AccountOpened",
    "AccountView",
    "Attributed",
    "CardIssued",
    "CardView",
    "Change",
    "ChangeRefused",
    "Decision",
    "Entry",
    "EntryError",
    "HoldView",
    "Limits",
    "OperationView",
    "Request",
    "State",
    "StateError",
    "Transaction",
    "adjust",
    "apply",
    "apply_payload",
    "approval_code",
    "change_account_status",
    "change_card_expiry",
    "change_card_status",
    "change_limit",
    "decide",
    "decide_expiries",
    "decide_void",
    "decide_withdrawal",
    "decode_entries",
    "dump",
    "issue_card",
    "open_account",
    "restore",
    "shard_of_account",
]
