"""Decisions, one rule of the flow after the other."""

import itertools
from typing import Any

import pytest

from switch.ledger import (
    Decision,
    Limits,
    Request,
    State,
    Transaction,
    apply,
    decide,
    decide_expiries,
    dump,
    restore,
)
from tests.unit.ledger.conftest import CARDS, EURO, NOW, STERLING

AUTHORISATION, FINANCIAL, AUTHORISATION_ADVICE, FINANCIAL_ADVICE, REVERSAL = range(1, 6)
MTI = {1: "0100", 2: "0200", 3: "0120", 4: "0220", 5: "0400"}
DAY = 86_400_000

stans = itertools.count(1)


def ask(
    state: State, kind: int = AUTHORISATION, *, now: int = NOW, **fields
) -> Decision:
    """Decides and applies, as the shard does."""
    fields.setdefault("pan_hash", CARDS["active"])
    fields.setdefault("mti", MTI[kind])
    fields.setdefault("stan", f"{next(stans):06d}")
    if kind != REVERSAL:
        fields.setdefault("amount", 1_000)
    fields.setdefault("currency", STERLING)
    decision = decide(state, Request(kind, **fields), now)
    for entry in decision.entries:
        apply(state, entry)
    return decision


def entry_of(decision: Decision) -> Transaction:
    assert decision.entry is not None
    return decision.entry


def original(stan: str, mti: str = "0100") -> tuple[str, int, str, str, str]:
    return (mti, 0, "0101000000", stan, "")


def money(state: State, account: str = "main") -> tuple[int, int]:
    view = state.account(account)
    assert view is not None
    return view.balance, view.held


# --- requests


def test_an_authorisation_holds(state):
    decision = ask(state, amount=4_000)
    assert decision.response_code == "00"
    assert money(state) == (10_000, 4_000)
    assert entry_of(decision).name == "held"
    assert entry_of(decision).hold_expires_at == NOW + 7 * DAY


def test_a_financial_request_posts(state):
    decision = ask(state, FINANCIAL, amount=4_000)
    assert decision.response_code == "00"
    assert money(state) == (6_000, 0)


def test_all_that_is_available_can_be_spent_and_no_more(state):
    assert ask(state, amount=10_001).response_code == "51"
    assert ask(state, amount=10_000).response_code == "00"
    assert ask(state, amount=1).response_code == "51"
    assert money(state) == (10_000, 10_000)


def test_a_credit_limit_is_available(state):
    assert ask(state, amount=5_001, pan_hash=CARDS["credit"]).response_code == "51"
    assert ask(state, amount=5_000, pan_hash=CARDS["credit"]).response_code == "00"


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("closed", "14"), ("lost", "41"), ("stolen", "43"), ("restricted", "62"),
        ("expired", "54"),
    ],
)  # fmt: skip
def test_a_card_that_may_not_be_used(state, card, code):
    decision = ask(state, pan_hash=CARDS[card])
    assert decision.response_code == code
    assert decision.approval_code is None
    assert money(state) == (10_000, 0)
    assert entry_of(decision).name == "declined"


def test_an_unknown_card(state):
    decision = ask(state, pan_hash=bytes([99]) * 16)
    assert decision.response_code == "14"
    assert entry_of(decision).account == ""


def test_a_card_is_good_to_the_end_of_its_month(state):
    november = 1_793_491_199_000  # 2026-10-31T23:59:59Z
    late = restore(dump(state), Limits())
    request = Request(
        amount=1, currency=STERLING, pan_hash=CARDS["active"], expiry=3012
    )
    assert decide(late, request, november).response_code == "00"
    for now, code in ((1_761_955_199_999, "00"), (1_761_955_200_000, "54")):
        # 2025-10-31T23:59:59.999Z, and a millisecond later; the clock never goes back
        fresh = State(0, Limits())
        from switch.ledger import AccountOpened, CardIssued

        apply(fresh, AccountOpened("a", STERLING, 10, 0, at=0, sequence=1))
        apply(fresh, CardIssued(MAIN, b"", "a", 0, 2510, 0, "0001", at=0, sequence=2))
        request = Request(amount=1, currency=STERLING, pan_hash=MAIN)
        assert decide(fresh, request, now).response_code == code


MAIN = bytes([1]) * 16


def test_another_expiry_than_the_card_has(state):
    assert ask(state, expiry=3011).response_code == "54"
    assert ask(state, expiry=3012).response_code == "00"


@pytest.mark.parametrize(
    ("code", "answer"),
    [(0, "00"), (10_000, "00"), (90_000, "00"), (310_000, "57"), (400_000, "57"),
     (770_000, "12")],
)  # fmt: skip
def test_what_the_processing_code_asks_for(state, code, answer):
    assert ask(state, processing_code=code).response_code == answer


def test_a_return_is_paid_when_it_is_posted(state):
    assert ask(state, processing_code=200_000).response_code == "00"
    assert money(state) == (10_000, 0)
    assert ask(state, FINANCIAL, processing_code=200_000).response_code == "00"
    assert money(state) == (11_000, 0)


@pytest.mark.parametrize(
    ("fields", "code", "held"),
    [
        ({"amount": 100, "currency": EURO, "billing_amount": 90,
          "billing_currency": STERLING}, "00", 90),
        ({"amount": 100, "currency": STERLING, "billing_amount": 90,
          "billing_currency": EURO}, "00", 100),
        ({"amount": 100, "currency": STERLING, "billing_amount": 90,
          "billing_currency": STERLING}, "00", 90),
        ({"amount": 100, "currency": EURO}, "57", 0),
        ({"amount": 0, "currency": STERLING}, "13", 0),
    ],
)  # fmt: skip
def test_which_amount_counts(state, fields, code, held):
    assert ask(state, **fields).response_code == code
    assert money(state) == (10_000, held)


# --- repeats


def test_a_repeat_gets_the_first_answer_and_nothing_happens(state):
    first = ask(state, stan="500001", rrn="RRN1")
    again = ask(state, stan="500001", rrn="RRN1")
    assert again.repeated
    assert again.entries == ()
    assert (again.response_code, again.approval_code) == ("00", first.approval_code)
    assert first.approval_code is not None
    assert money(state) == (10_000, 1_000)


def test_a_declined_request_stays_declined(state):
    assert ask(state, stan="500002", amount=20_000).response_code == "51"
    assert ask(state, stan="500002", amount=1).response_code == "51"


@pytest.mark.parametrize(
    "other",
    [{"stan": "500004"}, {"rrn": "RRN2"}, {"transmitted": "0101000001"},
     {"acquirer": "77"}, {"scheme": 1}, {"pan_hash": CARDS["euro"], "currency": EURO}],
)  # fmt: skip
def test_what_differs_in_one_part_of_the_key_is_another_transaction(state, other):
    same: dict[str, Any] = {"stan": "500003", "rrn": "RRN1", "acquirer": "12"}
    ask(state, **same)
    assert not ask(state, **(same | other)).repeated


def test_a_repeat_is_known_for_the_window_only():
    limits = Limits(duplicate_window_ms=1_000)
    state = State(0, limits)
    ask(state, stan="500005", now=NOW)
    assert ask(state, stan="500005", now=NOW + 1_000).repeated
    assert not ask(state, stan="500005", now=NOW + 2_001).repeated


def test_when_memory_is_full_the_oldest_without_a_hold_is_forgotten(state):
    small = restore(dump(state), Limits(transactions_max=4))
    for stan in range(600_001, 600_006):
        ask(small, FINANCIAL, stan=str(stan), amount=1)
    assert small.limits.evicted_early == 2
    assert small.transaction_count == 3
    assert ask(small, FINANCIAL, stan="600003", amount=1).repeated
    assert not ask(small, FINANCIAL, stan="600001", amount=1).repeated


def test_a_flood_that_moves_no_money_pushes_out_nothing_that_did(state):
    small = restore(dump(state), Limits(transactions_max=16))
    for stan in ("600001", "600003"):
        ask(small, FINANCIAL, stan=stan, amount=1)
    ask(small, stan="600002", amount=1)
    for _ in range(100):
        unknown = ask(small, FINANCIAL, amount=1, pan_hash=bytes([99]) * 16)
        assert unknown.response_code == "14"
    assert small.transaction_count <= 16
    for stan in ("600001", "600003"):
        assert ask(small, FINANCIAL, stan=stan, amount=1).repeated
    assert ask(small, stan="600002", amount=1).repeated


def test_a_flood_of_one_shard_takes_nothing_from_another():
    limits = Limits(transactions_max=32, shard_count=2)
    quiet, flooded = State(0, limits), State(1, limits)
    ask(quiet, stan="600001")
    for _ in range(100):
        ask(flooded)
    assert ask(quiet, stan="600002").response_code == "14"
    assert ask(quiet, stan="600001").repeated
    assert limits.transactions <= 33


def test_with_too_many_holds_no_more_are_opened_and_what_ends_them_is_taken(state):
    small = restore(dump(state), Limits(transactions_max=4))
    for _ in range(2):
        ask(small, amount=99_999)
    for stan in ("600001", "600002"):
        assert ask(small, stan=stan, amount=1).response_code == "00"
    full = ask(small, stan="600003", amount=1)
    assert (full.response_code, full.entries) == ("91", ())
    late = ask(small, AUTHORISATION_ADVICE, amount=1, advice_approved=True)
    assert (late.response_code, late.entries) == ("91", ())
    assert ask(small, stan="600002", amount=1).repeated
    assert ask(small, REVERSAL, original=original("600001")).response_code == "00"
    assert ask(small, stan="600003", amount=1).response_code == "00"
    posting = ask(
        small,
        FINANCIAL_ADVICE,
        amount=1,
        advice_approved=True,
        original=original("600002"),
    )
    assert posting.response_code == "00"
    assert small.hold_count == 1


def test_what_differs_in_field_37_alone_is_taken_sixteen_times(state):
    same: dict[str, Any] = {"stan": "600009", "amount": 1}
    for number in range(16):
        assert ask(state, rrn=f"RRN{number}", **same).response_code == "00"
    one_more = ask(state, rrn="RRN16", **same)
    assert (one_more.response_code, one_more.entries) == ("94", ())
    assert ask(state, rrn="RRN3", **same).repeated


def test_a_reversal_that_could_mean_several_leaves_no_mark(state):
    for rrn in ("RRN1", "RRN2"):
        ask(state, stan="600010", amount=1, rrn=rrn)
    ask(state, REVERSAL, original=original("600010"))
    third = ask(state, stan="600010", amount=1, rrn="RRN3")
    assert third.response_code == "00"


def test_time_that_went_wrong_once_does_not_make_cards_expire(state):
    ask(state, amount=1, now=NOW + 40 * 365 * DAY)
    assert ask(state, amount=1, now=NOW).response_code == "00"


# --- advices


@pytest.mark.parametrize("kind", [AUTHORISATION_ADVICE, FINANCIAL_ADVICE])
def test_an_approved_advice_moves_money_beyond_the_limit(state, kind):
    decision = ask(state, kind, amount=30_000, advice_approved=True)
    assert decision.response_code == "00"
    assert entry_of(decision).forced
    balance, held = money(state)
    assert balance - held == -20_000


@pytest.mark.parametrize("kind", [AUTHORISATION_ADVICE, FINANCIAL_ADVICE])
@pytest.mark.parametrize(
    "fields",
    [{}, {"advice_approved": True, "currency": EURO},
     {"advice_approved": True, "pan_hash": bytes([99]) * 16}],
)  # fmt: skip
def test_an_advice_that_moves_nothing_is_recorded(state, kind, fields):
    decision = ask(state, kind, **fields)
    assert decision.response_code == "00"
    assert entry_of(decision).name == "advice_recorded"
    assert money(state) == (10_000, 0)


def test_a_posting_that_names_its_authorisation_ends_the_hold(state):
    ask(state, stan="700001", amount=3_000)
    ask(state, FINANCIAL_ADVICE, amount=3_200, advice_approved=True,
        original=original("700001"))  # fmt: skip
    assert money(state) == (6_800, 0)
    assert list(state.holds()) == []


# --- reversals


def test_a_reversal_gives_back_once(state):
    ask(state, stan="800001", amount=3_000)
    for stan in ("800002", "800003"):
        decision = ask(state, REVERSAL, stan=stan, original=original("800001"))
        assert decision.response_code == "00"
    assert money(state) == (10_000, 0)


def test_a_posting_is_reversed(state):
    ask(state, FINANCIAL, stan="800004", amount=3_000)
    ask(state, REVERSAL, original=original("800004", "0200"))
    assert money(state) == (10_000, 0)


@pytest.mark.parametrize("late_ms", [0, 1])
def test_a_reversal_later_than_the_window_moves_nothing(state, late_ms):
    brief = restore(dump(state), Limits(duplicate_window_ms=1_000))
    ask(brief, FINANCIAL, stan="800004", amount=3_000, now=NOW)
    # Whether it is forgotten by then or not: nothing has come that would.
    late = NOW + 1_000 + late_ms
    decision = ask(brief, REVERSAL, original=original("800004", "0200"), now=late)
    assert decision.response_code == "00"
    assert money(brief) == ((7_000, 0) if late_ms else (10_000, 0))
    # As with any other that was not seen: should it come, it is declined.
    again = ask(brief, FINANCIAL, stan="800004", amount=3_000, now=late)
    assert again.response_code == ("05" if late_ms else "00")


def test_a_transaction_older_than_the_window_does_not_stand_in_the_way(state):
    brief = restore(dump(state), Limits(duplicate_window_ms=1_000))
    for rrn, now in (("A", NOW), ("B", NOW + 2_000)):
        ask(brief, FINANCIAL, stan="800004", rrn=rrn, amount=100, now=now)
    named = original("800004", "0200")
    ask(brief, REVERSAL, rrn="C", original=named, now=NOW + 2_000)
    assert money(brief) == (9_900, 0)


def test_a_return_is_reversed(state):
    ask(state, FINANCIAL, stan="800005", processing_code=200_000)
    ask(state, REVERSAL, original=original("800005", "0200"))
    assert money(state) == (10_000, 0)


def test_part_of_a_hold_is_reversed(state):
    ask(state, stan="800006", amount=3_000)
    ask(state, REVERSAL, original=original("800006"), replacement_amount=1_200)
    assert money(state) == (10_000, 1_200)
    ask(state, REVERSAL, original=original("800006"))
    assert money(state) == (10_000, 0)


@pytest.mark.parametrize("kind", [AUTHORISATION, FINANCIAL])
def test_the_reversal_came_first(state, kind):
    decision = ask(state, REVERSAL, original=original("800007", MTI[kind]))
    assert decision.response_code == "00"
    assert entry_of(decision).name == "reversal_remembered"
    late = ask(state, kind, stan="800007")
    assert late.response_code == "05"
    assert entry_of(late).reversed_before
    assert ask(state, kind, stan="800007").repeated
    assert money(state) == (10_000, 0)


def test_a_late_advice_after_its_reversal_moves_nothing(state):
    ask(state, REVERSAL, original=original("800008", "0220"))
    late = ask(state, FINANCIAL_ADVICE, stan="800008", advice_approved=True)
    assert late.response_code == "00"
    assert money(state) == (10_000, 0)


def test_field_37_decides_between_two_of_one_trace(state):
    ask(state, stan="800009", rrn="A", amount=100)
    ask(state, stan="800009", rrn="B", amount=200)
    ask(state, REVERSAL, rrn="B", original=original("800009"))
    assert money(state) == (10_000, 100)


def test_a_reversal_of_what_was_declined_changes_nothing(state):
    ask(state, stan="800010", amount=20_000)
    ask(state, REVERSAL, original=original("800010"))
    assert money(state) == (10_000, 0)


# --- time


def test_a_hold_ends_when_its_time_is_over(state):
    ask(state, stan="900001", amount=3_000)
    assert decide_expiries(state, NOW + 7 * DAY - 1) == []
    (entry,) = decide_expiries(state, NOW + 7 * DAY)
    assert (entry.name, entry.amount, entry.account) == ("hold_expired", 3_000, "main")
    apply(state, entry)
    assert money(state) == (10_000, 0)
    assert decide_expiries(state, NOW + 8 * DAY) == []


def test_a_reversal_after_the_hold_ended_changes_nothing(state):
    ask(state, stan="900002", amount=3_000)
    for entry in decide_expiries(state, NOW + 7 * DAY):
        apply(state, entry)
    ask(state, REVERSAL, original=original("900002"), now=NOW + 7 * DAY)
    assert money(state) == (10_000, 0)


def test_a_clock_that_goes_back_does_not_reorder(state):
    ask(state, now=NOW + 5_000)
    assert entry_of(ask(state, now=NOW)).at == NOW + 5_000
