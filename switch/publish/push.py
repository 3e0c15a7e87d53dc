"""Pushes: what a customer's app shows when a card was used. docs/events.md says it.

Rule 1: one is sent of what the customer did with a card, approved or declined, and of
        an approval that was taken back; of nothing that anybody else does later.
Rule 2: `id` is that of the event: two pushes with one id are the same push.
Rule 3: a card is there as its token and its last four digits, never as a PAN.
Rule 4: fields are only ever added. The first nine are always there.
"""

import time
from collections.abc import Callable
from datetime import datetime
from math import inf
from typing import Final, Literal

import msgspec

from switch.publish.events import Event

Policy = Literal["send", "mark", "drop"]
# How many seconds ago a commit was answered, at least and at most, by a clock that
# nobody sets.
Released = Callable[[int], tuple[float, float]]

# Advices that complete something else have its id, and are no use of the card.
_FIRST_USES: Final = ("held", "posted", "declined", "advised_hold", "advised_posting")
KINDS: Final = (*_FIRST_USES, "withdrawn")


class Push(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Money in minor units, currencies by their ISO 4217 letters."""

    id: str  # SHARD-SEQUENCE
    account: str
    card_token: str
    last_four: str
    amount: int  # in `currency`, the account's
    currency: str
    merchant: str | None  # field 42
    approved: bool
    at: str  # RFC 3339, UTC: when it was decided
    kind: str
    response_code: str | None = None
    merchant_name: str | None = None  # field 43: name and place
    mcc: str | None = None
    transaction_amount: int = 0  # in `transaction_currency`, as the merchant asked
    transaction_currency: str | None = None
    credit: bool = False
    # What is taken back.
    original_id: str | None = None
    # It comes later than it should.
    stale: bool = False


def is_pushed(event: Event) -> bool:
    if event.kind not in KINDS or event.account is None or event.card_token is None:
        return False
    return event.kind == "withdrawn" or event.original_id is None


def push_of(event: Event, *, stale: bool = False) -> Push:
    assert is_pushed(event), event.kind
    assert event.account is not None
    assert event.card_token is not None
    return Push(
        event.id,
        event.account,
        event.card_token,
        event.last_four or "",
        event.amount or 0,
        event.currency or "",
        event.merchant,
        bool(event.approved),
        event.at,
        event.kind,
        event.response_code,
        event.merchant_name,
        event.mcc,
        event.transaction_amount,
        event.transaction_currency,
        event.credit,
        event.original_id,
        stale,
    )


def never_seen(_commit: int) -> tuple[float, float]:
    return 0.0, inf


class Ages:
    """Which pushes are too old, and what becomes of them; `counts` says of how many.

    How old one is says its `at`, as far as `released` lets it be true: a wall clock
    that was set, or is not the one that the switch goes by, makes nothing old or new.
    """

    def __init__(
        self,
        seconds_max: float,
        policy: Policy,
        counts: dict[str, int],
        released: Released = never_seen,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._seconds_max = seconds_max
        self._policy = policy
        self._counts = counts
        self._released = released
        self._clock = clock

    def push_of(self, event: Event) -> Push | None:
        """None: it is not sent."""
        said = self._clock() - datetime.fromisoformat(event.at).timestamp()
        at_least, at_most = self._released(event.commit)
        if min(max(said, at_least), at_most) <= self._seconds_max:
            return push_of(event)
        self._counts["stale"] += 1
        if self._policy == "drop":
            self._counts["dropped"] += 1
            return None
        return push_of(event, stale=self._policy == "mark")
