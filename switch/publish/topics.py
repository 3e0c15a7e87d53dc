"""Which topic of Kafka an event is in. docs/events.md says it to consumers.

Rule: every event is in one topic, and everything that changes an account's balance is
      in `postings`: a consumer of that alone has all balances.
"""

from typing import Final

from switch.publish.events import Event

AUTHORISATIONS: Final = "authorisations"
POSTINGS: Final = "postings"
CARD_EVENTS: Final = "card-events"
TOPICS: Final = (AUTHORISATIONS, POSTINGS, CARD_EVENTS)

TOPIC_OF_KIND: Final = {
    "account_opened": POSTINGS,
    "card_issued": CARD_EVENTS,
    "held": AUTHORISATIONS,
    "posted": POSTINGS,
    "declined": AUTHORISATIONS,
    "advised_hold": AUTHORISATIONS,
    "advised_posting": POSTINGS,
    "advice_recorded": AUTHORISATIONS,
    "reversed": AUTHORISATIONS,
    "reversal_remembered": AUTHORISATIONS,
    "hold_expired": AUTHORISATIONS,
    "withdrawn": AUTHORISATIONS,
    "limit_changed": POSTINGS,
    "adjusted": POSTINGS,
    "card_status_changed": CARD_EVENTS,
    "card_expiry_changed": CARD_EVENTS,
    "account_status_changed": POSTINGS,
}


def topic_of(event: Event) -> str:
    return topic_of_kind(event.kind, moves_balance=event.balance_change != 0)


def topic_of_kind(kind: str, *, moves_balance: bool) -> str:
    """Of what was reversed or withdrawn: `postings` if that moves the balance back."""
    return POSTINGS if moves_balance else TOPIC_OF_KIND[kind]
