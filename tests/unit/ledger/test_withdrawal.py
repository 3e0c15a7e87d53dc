"""Approvals that were not answered by their deadline are taken back."""

import pytest

from switch.ledger import (
    Transaction,
    apply,
    decide_withdrawal,
    decode_entries,
    dump,
)
from tests.unit.ledger.conftest import CARDS, NOW
from tests.unit.ledger.test_decide import (
    AUTHORISATION,
    FINANCIAL,
    FINANCIAL_ADVICE,
    REVERSAL,
    ask,
    entry_of,
    money,
    original,
)

LATER = NOW + 6_000


def withdraw(state, approval: Transaction) -> Transaction | None:
    """As the shard does it: from the entry as the journal has it."""
    (read,) = decode_entries(approval.encode(), approval.sequence)
    assert isinstance(read, Transaction)
    withdrawal = decide_withdrawal(state, read, LATER)
    if withdrawal is not None:
        apply(state, withdrawal)
    return withdrawal


@pytest.mark.parametrize("kind", [AUTHORISATION, FINANCIAL])
def test_what_was_taken_goes_back_and_a_repeat_is_declined(state, kind):
    before = money(state)
    approval = entry_of(ask(state, kind, stan="000777", amount=2_500))
    withdrawal = withdraw(state, approval)
    assert withdrawal is not None
    assert (withdrawal.name, withdrawal.amount) == ("withdrawn", 2_500)
    assert withdrawal.original_sequence == approval.sequence
    assert withdrawal.at == LATER
    assert not withdrawal.approved
    assert money(state) == before
    assert list(state.holds()) == []
    again = ask(state, kind, stan="000777", amount=2_500)
    assert again.repeated
    assert (again.response_code, again.approval_code) == ("91", None)
    assert money(state) == before


def test_a_return_is_taken_back_too(state):
    before = money(state)
    approval = ask(state, FINANCIAL, amount=900, processing_code=200_000)
    assert money(state) == (before[0] + 900, before[1])
    withdraw(state, entry_of(approval))
    assert money(state) == before


def test_only_what_a_reversal_left_goes_back(state):
    before = money(state)
    approval = entry_of(ask(state, stan="000778", amount=1_000))
    ask(state, REVERSAL, original=original("000778"), replacement_amount=400)
    assert money(state) == (before[0], before[1] + 400)
    withdrawal = withdraw(state, approval)
    assert withdrawal is not None
    assert withdrawal.held_change == -400
    assert money(state) == before


def test_after_its_posting_nothing_goes_back_but_the_answer_changes(state):
    approval = entry_of(ask(state, stan="000779", amount=1_000))
    ask(
        state,
        FINANCIAL_ADVICE,
        amount=1_000,
        original=original("000779"),
        advice_approved=True,
    )
    posted = money(state)
    withdrawal = withdraw(state, approval)
    assert withdrawal is not None
    assert withdrawal.amount == 0
    assert money(state) == posted
    assert ask(state, stan="000779", amount=1_000).response_code == "91"


def test_a_withdrawal_happens_once(state):
    approval = entry_of(ask(state, amount=1_000))
    assert withdraw(state, approval) is not None
    unchanged = dump(state)
    assert withdraw(state, approval) is None
    assert dump(state) == unchanged


def test_what_is_not_remembered_cannot_be_withdrawn(state):
    approval = entry_of(ask(state, amount=1_000, pan_hash=CARDS["credit"]))
    other = type(state)(7, state.limits)
    assert decide_withdrawal(other, approval, LATER) is None
