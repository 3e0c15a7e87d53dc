"""Events: what the rest of the bank reads of an entry. docs/events.md says it to them.

Rule 1: an event follows from its entry and the entry's place alone: publishing it
        again gives the same bytes.
Rule 2: `id` names the entry for ever, and is what consumers de-duplicate on.
Rule 3: a card is there as its token and its last four digits, never as a PAN, and
        neither sealed.
Rule 4: fields are only ever added. A field that says nothing of a kind of entry is
        left out, but for the first ten, which are null then.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from switch.journal.port import Commit, ShardRecord
from switch.ledger._entry import (
    ACCOUNT_STATUSES,
    CARD_STATUSES,
    AccountOpened,
    CardIssued,
    Change,
    Entry,
    Transaction,
    decode_entries,
)
from switch.ledger.currencies import letters_of
from switch.publish._event_fields import event_fields, time_text

STATUSES_OF = {
    "account_status_changed": ACCOUNT_STATUSES,
    "card_status_changed": CARD_STATUSES,
}


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One entry; money in minor units, currencies by their ISO 4217 letters."""

    id: str  # SHARD-SEQUENCE
    kind: str
    account: str | None
    amount: int | None  # in `currency`, the account's
    currency: str | None
    approved: bool | None
    response_code: str | None
    stan: str | None
    rrn: str | None
    at: str  # RFC 3339, UTC
    commit: int
    balance_change: int = 0
    held_change: int = 0
    approval_code: str | None = None
    card_token: str | None = None
    last_four: str | None = None
    mti: str | None = None
    processing_code: str | None = None
    transmitted: str | None = None
    acquirer: str | None = None
    scheme: int = 0
    terminal: str | None = None
    merchant: str | None = None
    merchant_name: str | None = None
    mcc: str | None = None
    transaction_amount: int = 0
    transaction_currency: str | None = None
    hold_expires_at: str | None = None
    original_id: str | None = None
    original_stan: str | None = None
    forced: bool = False
    credit: bool = False
    reversed_before: bool = False
    credit_limit: int | None = None
    expiry: str | None = None
    status: str | None = None
    transmitted_at: str | None = None  # field 7 with its year
    previous_credit_limit: int | None = None
    previous_expiry: str | None = None
    previous_status: str | None = None
    operator: str | None = None
    reason: str | None = None


class Position(msgspec.Struct, frozen=True, gc=False):
    """The last entry that was published; commit 0: none."""

    commit: int = 0
    shard: int = 0
    sequence: int = 0


def position_of(event: Event) -> Position:
    shard, _, sequence = event.id.partition("-")
    return Position(event.commit, int(shard), int(sequence))


def events_of(commit: Commit) -> Iterator[Event]:
    """The events of a commit, in journal order."""
    for record in commit.records:
        yield from record_events(commit.number, record)


def record_events(commit: int, record: ShardRecord) -> Iterator[Event]:
    for entry in decode_entries(record.payload, record.first_sequence):
        yield event_of(entry, record.shard, commit)


def event_of(entry: Entry, shard: int, commit: int) -> Event:
    if isinstance(entry, Transaction):
        return Event(*event_fields(entry, shard, commit))
    if isinstance(entry, CardIssued):
        return _card(entry, shard, commit)
    if isinstance(entry, Change):
        return _change(entry, shard, commit)
    return _account(entry, shard, commit)


def _account(entry: Entry, shard: int, commit: int) -> Event:
    assert isinstance(entry, AccountOpened), entry
    return Event(
        id=f"{shard}-{entry.sequence}",
        kind=entry.name,
        account=entry.account,
        amount=entry.balance,
        currency=letters_of(entry.currency),
        approved=None,
        response_code=None,
        stan=None,
        rrn=None,
        at=time_text(entry.at),
        commit=commit,
        balance_change=entry.balance,
        credit_limit=entry.credit_limit,
        operator=entry.operator or None,
        reason=entry.reason or None,
    )


def _card(entry: CardIssued, shard: int, commit: int) -> Event:
    return Event(
        id=f"{shard}-{entry.sequence}",
        kind=entry.name,
        account=entry.account,
        amount=None,
        currency=None,
        approved=None,
        response_code=None,
        stan=None,
        rrn=None,
        at=time_text(entry.at),
        commit=commit,
        card_token=entry.pan_hash.hex(),
        last_four=entry.last_four,
        expiry=f"{entry.expiry:04d}",
        status=CARD_STATUSES[entry.status],
        operator=entry.operator or None,
        reason=entry.reason or None,
    )


def _change(entry: Change, shard: int, commit: int) -> Event:
    is_of_card = entry.card_index is not None
    changed = entry.balance_change
    return Event(
        id=f"{shard}-{entry.sequence}",
        kind=entry.name,
        account=entry.account,
        amount=abs(changed) if changed else None,
        currency=None if is_of_card else letters_of(entry.currency),
        approved=None,
        response_code=None,
        stan=None,
        rrn=None,
        at=time_text(entry.at),
        commit=commit,
        balance_change=changed,
        card_token=entry.pan_hash.hex() if is_of_card else None,
        last_four=entry.last_four or None,
        operator=entry.operator,
        reason=entry.reason,
        **_values(entry),
    )


def _values(entry: Change) -> dict[str, Any]:
    """What it is now, and what it was before."""
    value, previous = entry.value, entry.previous
    if entry.name == "limit_changed":
        return {"credit_limit": value, "previous_credit_limit": previous}
    if entry.name == "card_expiry_changed":
        return {"expiry": f"{value:04d}", "previous_expiry": f"{previous:04d}"}
    statuses = STATUSES_OF.get(entry.name)
    if statuses is not None:
        return {"status": statuses[value], "previous_status": statuses[previous]}
    assert entry.name == "adjusted", entry.name
    return {}
