"""A 91 that was given without knowing the decision, made true."""

import pytest

from switch.ledger import Request, apply, decide_void, decode_entries, dump
from tests.unit.ledger.conftest import CARDS, NOW, STERLING
from tests.unit.ledger.test_decide import (
    AUTHORISATION,
    FINANCIAL,
    FINANCIAL_ADVICE,
    MTI,
    REVERSAL,
    ask,
    entry_of,
    money,
    original,
)

LATER = NOW + 6_000


def void(state, kind=AUTHORISATION, *, now=LATER, **fields):
    """Decides and applies, as the shard does: from the entry as the journal has it."""
    fields.setdefault("pan_hash", CARDS["active"])
    fields.setdefault("mti", MTI[kind])
    fields.setdefault("amount", 1_000)
    fields.setdefault("currency", STERLING)
    decision = decide_void(state, Request(kind, **fields), now)
    for entry in decision.entries:
        (read,) = decode_entries(entry.encode(), entry.sequence)
        apply(state, read)
    return decision


@pytest.mark.parametrize("kind", [AUTHORISATION, FINANCIAL])
def test_what_an_approval_took_goes_back(state, kind):
    before = money(state)
    approval = entry_of(ask(state, kind, stan="000777", amount=2_500))
    decision = void(state, kind, stan="000777", amount=2_500)
    assert (decision.response_code, decision.approved) == ("91", False)
    entry = entry_of(decision)
    assert (entry.name, entry.amount, entry.at) == ("withdrawn", 2_500, LATER)
    assert entry.original_sequence == approval.sequence
    assert entry.account == approval.account
    assert entry.currency == approval.currency
    assert money(state) == before
    assert list(state.holds()) == []


@pytest.mark.parametrize("kind", [AUTHORISATION, FINANCIAL])
def test_a_return_is_taken_back_too(state, kind):
    before = money(state)
    ask(state, kind, stan="000777", amount=900, processing_code=200_000)
    void(state, kind, stan="000777", amount=900, processing_code=200_000)
    assert money(state) == before


def test_a_decline_stays_what_it_was(state):
    declined = ask(state, stan="000777", amount=99_999_999)
    unchanged = dump(state)
    decision = void(state, stan="000777", amount=99_999_999)
    assert decision.repeated
    assert decision.response_code == declined.response_code == "51"
    assert dump(state) == unchanged


def test_one_that_has_not_come_is_declined_before_it_does(state):
    before = money(state)
    decision = void(state, stan="000777")
    assert (entry_of(decision).name, decision.response_code) == ("declined", "91")
    late = ask(state, stan="000777", now=LATER)
    assert (late.repeated, late.approved, late.response_code) == (True, False, "91")
    assert money(state) == before


def test_one_whose_reversal_came_first_is_declined_91(state):
    ask(state, REVERSAL, stan="000778", original=original("000777"))
    decision = void(state, stan="000777")
    assert (entry_of(decision).name, decision.response_code) == ("declined", "91")
    assert ask(state, stan="000777", now=LATER).response_code == "91"


def test_only_what_is_left_goes_back(state):
    before = money(state)
    ask(state, stan="000777", amount=1_000)
    ask(state, REVERSAL, original=original("000777"), replacement_amount=400)
    assert entry_of(void(state, stan="000777")).held_change == -400
    assert money(state) == before


def test_after_its_posting_nothing_goes_back(state):
    ask(state, stan="000777", amount=1_000)
    ask(
        state, FINANCIAL_ADVICE, amount=1_000, original=original("000777"),
        advice_approved=True,
    )  # fmt: skip
    posted = money(state)
    assert entry_of(void(state, stan="000777")).amount == 0
    assert money(state) == posted


@pytest.mark.parametrize("comes_first", [True, False])
def test_done_again_it_changes_nothing(state, comes_first):
    if comes_first:
        ask(state, stan="000777")
    void(state, stan="000777")
    unchanged = dump(state)
    again = void(state, stan="000777")
    assert (again.repeated, again.response_code) == (True, "91")
    assert dump(state) == unchanged


def test_it_names_one_transaction_and_no_other(state):
    ask(state, stan="000777", amount=1_000)
    before = money(state)
    for other in ({"stan": "000778"}, {"rrn": "OTHER"}, {"acquirer": "999"}):
        fields = {"stan": "000777", **other}
        assert entry_of(void(state, **fields)).name == "declined"
    assert money(state) == before


def test_a_card_that_is_not_known_here_has_its_void_remembered_too(state):
    decision = void(state, stan="000777", pan_hash=bytes(16))
    assert decision.response_code == "91"
    assert ask(state, stan="000777", pan_hash=bytes(16)).response_code == "91"


def test_a_clock_that_goes_back_makes_no_entry_older_than_the_last(state):
    ask(state, stan="000777", now=LATER)
    assert entry_of(void(state, stan="000777", now=NOW)).at == LATER


@pytest.mark.parametrize("kind", [FINANCIAL_ADVICE, REVERSAL])
def test_what_asks_nothing_is_never_void(state, kind):
    with pytest.raises(AssertionError):
        decide_void(state, Request(kind, pan_hash=CARDS["active"]), NOW)
