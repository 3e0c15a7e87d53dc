"""What operators do: what each entry says, and what is refused and why."""

from typing import Any

import pytest

from switch.ledger import (
    MONEY_MAX,
    AccountOpened,
    CardIssued,
    ChangeRefused,
    Request,
    adjust,
    apply,
    change_account_status,
    change_card_expiry,
    change_card_status,
    change_limit,
    decide,
    decode_entries,
    dump,
    issue_card,
    open_account,
    restore,
)
from switch.ledger._entry import EntryError
from switch.ledger._state import StateError
from tests.unit.ledger.conftest import CARDS, NOW, STERLING

WHY: Any = {"operator": "maria", "reason": "asked for", "now": NOW + 5}
NEW_CARD = bytes([9]) * 16


def made(entry: Any) -> Any:
    """The entry, where there is to be one."""
    assert entry is not None
    return entry


def unpacked(entry):
    (again,) = decode_entries(entry.encode(), entry.sequence)
    return again


def code_of(state, card="active", amount=100, **fields):
    request = Request(pan_hash=CARDS[card], amount=amount, currency=STERLING, **fields)
    return decide(state, request, NOW + 10).response_code


CHANGES = {
    "limit_changed": lambda state, why: change_limit(state, "main", 700, **why),
    "adjusted": lambda state, why: adjust(state, "main", -10_500, **why),
    "card_status_changed": lambda state, why: change_card_status(
        state, CARDS["active"], "stolen", **why
    ),
    "card_expiry_changed": lambda state, why: change_card_expiry(
        state, CARDS["active"], 3112, **why
    ),
    "account_status_changed": lambda state, why: change_account_status(
        state, "main", "blocked", **why
    ),
    "account_opened": lambda state, why: open_account(
        state, "n" * 32, STERLING, 5, 6, **why
    ),
    "card_issued": lambda state, why: issue_card(
        state, NEW_CARD, bytes(40), "main", 3012, "active", "0009", **why
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_who_and_why_are_in_the_entry_as_it_is_kept(state, kind):
    entry = made(CHANGES[kind](state, WHY))
    again = unpacked(entry)
    assert again.name == entry.name == kind
    assert (again.operator, again.reason) == ("maria", "asked for")
    assert (again.sequence, again.at) == (state.sequence + 1, NOW + 5)
    assert again.encode() == entry.encode()
    apply(state, again)
    assert state.sequence == entry.sequence


@pytest.mark.parametrize("kind", CHANGES)
def test_a_reason_of_the_longest_kind_is_kept_whole(state, kind):
    why = WHY | {"operator": "o" * 32, "reason": "é" * 100}
    again = unpacked(CHANGES[kind](state, why))
    assert (again.operator, again.reason) == (why["operator"], why["reason"])


def test_values_before_and_after(state):
    limit = made(change_limit(state, "credit", 7_000, **WHY))
    assert (limit.previous, limit.value, limit.balance_change) == (5_000, 7_000, 0)
    adjustment = adjust(state, "main", -10_500, **WHY)
    assert (adjustment.previous, adjustment.value) == (10_000, -500)
    assert adjustment.balance_change == -10_500
    assert adjustment.pan_hash == bytes(16)
    assert adjustment.card_index is None
    status = made(change_card_status(state, CARDS["lost"], "active", **WHY))
    assert (status.previous, status.value, status.account) == (2, 0, "main")
    assert (status.pan_hash, status.last_four) == (CARDS["lost"], "0001")


def test_a_card_that_is_blocked_is_declined_and_one_that_is_not_is_approved(state):
    assert code_of(state) == "00"
    apply(state, made(change_card_status(state, CARDS["active"], "restricted", **WHY)))
    assert code_of(state) == "62"
    apply(state, made(change_card_status(state, CARDS["active"], "active", **WHY)))
    assert code_of(state) == "00"


def test_a_renewed_card_is_no_longer_expired(state):
    assert code_of(state, "expired") == "54"
    apply(state, made(change_card_expiry(state, CARDS["expired"], 3012, **WHY)))
    assert code_of(state, "expired") == "00"


def test_a_raised_limit_and_an_adjustment_can_be_spent(state):
    assert code_of(state, amount=10_001) == "51"
    apply(state, made(change_limit(state, "main", 1, **WHY)))
    assert code_of(state, amount=10_001) == "00"
    apply(state, adjust(state, "main", -2, **WHY))
    assert code_of(state, amount=10_000) == "51"
    assert state.account("main").available == 9_999


def test_an_operator_may_take_more_than_there_is(state):
    apply(state, adjust(state, "main", -15_000, **WHY))
    assert state.account("main").available == -5_000
    assert code_of(state, amount=1) == "51"


def test_what_is_so_already_is_no_entry(state):
    assert change_limit(state, "credit", 5_000, **WHY) is None
    assert change_card_status(state, CARDS["lost"], "lost", **WHY) is None
    assert change_card_expiry(state, CARDS["lost"], 3012, **WHY) is None


REFUSALS = [
    ("missing", "account", lambda s: change_limit(s, "nobody", 1, **WHY)),
    ("missing", "account", lambda s: adjust(s, "nobody", 1, **WHY)),
    ("missing", "account", lambda s: change_account_status(
        s, "nobody", "blocked", **WHY)),
    ("invalid", "status", lambda s: change_account_status(s, "main", "lost", **WHY)),
    ("conflict", "status", lambda s: change_account_status(
        s, "main", "closed", **WHY)),
    ("missing", "card", lambda s: change_card_status(s, NEW_CARD, "lost", **WHY)),
    ("missing", "card", lambda s: change_card_status(s, b"short", "lost", **WHY)),
    ("missing", "card", lambda s: change_card_expiry(s, NEW_CARD, 3012, **WHY)),
    ("missing", "account", lambda s: issue_card(
        s, NEW_CARD, b"", "nobody", 3012, "active", "0009", **WHY)),
    ("conflict", "account", lambda s: open_account(s, "main", STERLING, 0, 0, **WHY)),
    ("conflict", "pan", lambda s: issue_card(
        s, CARDS["lost"], b"", "main", 3012, "active", "0009", **WHY)),
    ("invalid", "amount", lambda s: adjust(s, "main", 0, **WHY)),
    ("invalid", "amount", lambda s: adjust(s, "main", MONEY_MAX, **WHY)),
    ("invalid", "amount", lambda s: adjust(s, "main", MONEY_MAX + 1, **WHY)),
    ("invalid", "credit_limit", lambda s: change_limit(s, "main", -1, **WHY)),
    ("invalid", "credit_limit",
     lambda s: change_limit(s, "main", MONEY_MAX + 1, **WHY)),
    ("invalid", "balance",
     lambda s: open_account(s, "x", STERLING, -MONEY_MAX - 1, 0, **WHY)),
    ("invalid", "status",
     lambda s: change_card_status(s, CARDS["lost"], "blocked", **WHY)),
    ("invalid", "expiry", lambda s: change_card_expiry(s, CARDS["lost"], 3013, **WHY)),
    ("invalid", "expiry", lambda s: change_card_expiry(s, CARDS["lost"], -1, **WHY)),
]  # fmt: skip


@pytest.mark.parametrize(("why", "field", "change"), REFUSALS)
def test_what_cannot_be_is_refused_with_what_was_expected(state, why, field, change):
    before = state.sequence
    with pytest.raises(ChangeRefused, match=f"^{field}: expected .* got ") as refused:
        change(state)
    assert refused.value.why == why
    assert state.sequence == before


@pytest.mark.parametrize(
    ("operator", "reason", "said"),
    [
        ("maria", "", "both"),
        ("", "because", "both"),
        ("", "", "operator: expected a name"),
        ("maria", "x" * 201, "at most 200 bytes of UTF-8, got 201"),
        ("maria", "é" * 101, "at most 200 bytes of UTF-8, got 202"),
        ("maria", "two\nlines", "printable"),
        ("maria", "\ud800", "printable"),
        ("maria", " blank", "blank"),
        ("maria", " ", "blank"),
    ],
)
def test_who_and_why_have_to_be_told(state, operator, reason, said):
    with pytest.raises(ChangeRefused, match=said):
        adjust(state, "main", 1, operator=operator, reason=reason, now=NOW)


def test_an_import_has_neither(state):
    account = open_account(state, "n", STERLING, 0, 0, operator="", reason="", now=NOW)
    assert isinstance(account, AccountOpened)
    assert (account.operator, account.reason) == ("", "")
    card = issue_card(
        state, NEW_CARD, b"", "main", 3012, "lost", "0009",
        operator="", reason="", now=NOW,
    )  # fmt: skip
    assert isinstance(card, CardIssued)
    assert (card.operator, card.reason, card.status) == ("", "", 2)


def test_time_does_not_go_back(state):
    entry = adjust(state, "main", 1, operator="m", reason="r", now=0)
    assert entry.at == state.last_at == NOW


def test_a_change_of_something_else_than_is_there_is_no_entry_of_this_shard(state):
    first = adjust(state, "main", 1, **WHY)
    apply(state, first)
    late = unpacked(adjust(state, "main", 2, **WHY))
    apply(state, adjust(state, "main", 3, **WHY))
    moved = decode_entries(late.encode(), state.sequence + 1)[0]
    with pytest.raises(StateError, match="adjusted: expected to find 10001, got 10004"):
        apply(state, moved)


# --- accounts as a whole


def change(state, name, status):
    apply(state, made(change_account_status(state, name, status, **WHY)))


def test_all_cards_of_a_blocked_account_are_declined_until_it_is_not(state):
    change(state, "main", "blocked")
    assert code_of(state) == "62"
    # what is worse than blocked is still said
    codes = [code_of(state, card) for card in ("lost", "stolen", "closed", "expired")]
    assert codes == ["41", "43", "14", "62"]
    assert code_of(state, "credit") == "00"
    change(state, "main", "active")
    assert code_of(state) == "00"


def test_a_blocked_account_still_takes_what_others_approved(state):
    change(state, "main", "blocked")
    assert code_of(state, kind=4, mti="0220", advice_approved=True) == "00"
    advice = Request(
        4, pan_hash=CARDS["active"], amount=100, currency=STERLING, mti="0220",
        advice_approved=True,
    )  # fmt: skip
    (entry,) = decide(state, advice, NOW + 10).entries
    assert (entry.name, entry.balance_change) == ("advised_posting", -100)


def test_an_account_is_closed_with_nothing_on_it(state):
    hold = Request(pan_hash=CARDS["credit"], amount=50, currency=STERLING)
    for entry in decide(state, hold, NOW + 6).entries:
        apply(state, entry)
    assert state.account("credit").held == 50
    with pytest.raises(ChangeRefused, match=r"balance of 0 .* got 0 and 50") as refused:
        change_account_status(state, "credit", "closed", **WHY)
    assert refused.value.why == "conflict"

    apply(state, adjust(state, "main", -10_000, **WHY))
    change(state, "main", "closed")
    assert code_of(state) == "14"
    assert code_of(state, "lost") == "14"
    with pytest.raises(ChangeRefused, match="got one that is closed") as refused:
        issue_card(state, NEW_CARD, b"", "main", 3012, "active", "0009", **WHY)
    assert refused.value.why == "conflict"
    assert change_account_status(state, "main", "closed", **WHY) is None
    assert restore(dump(state), state.limits).account("main") == state.account("main")


# --- operations with a key

KEY = bytes(range(32))


def keyed(state, number=0, now=NOW + 5):
    key = number.to_bytes(16, "little") + KEY[16:]
    why = {"operator": "m", "reason": "r", "now": now}
    return adjust(state, "main", 1, operation_key=key, **why)


def test_the_key_of_an_operation_is_in_its_entry(state):
    why = WHY | {"operator": "o" * 32, "reason": "é" * 100, "operation_key": KEY}
    plain = adjust(state, "main", 5, **WHY)
    assert (plain.operation_key, plain.encode()[1]) == (None, 1)
    assert unpacked(plain).operation_key is None
    for entry in (
        adjust(state, "main", 5, **why),
        open_account(state, "n" * 32, STERLING, 5, 6, **why),
        issue_card(state, NEW_CARD, bytes(40), "main", 3012, "lost", "0009", **why),
    ):
        again = unpacked(entry)
        assert (again.operation_key, again.encode()[1]) == (KEY, 2)
        assert again.encode() == entry.encode()
        assert (again.account, again.reason) == (entry.account, "é" * 100)
    with pytest.raises(ValueError, match="operation_key: expected 32 to 32 bytes"):
        adjust(state, "main", 5, operation_key=b"short", **WHY)


def test_an_operation_is_found_by_its_key_for_the_duplicate_window(state):
    entry = adjust(state, "main", -300, operation_key=KEY, **WHY)
    apply(state, unpacked(entry))
    window = state.limits.duplicate_window_ms
    found = state.operation(KEY[:16], entry.at + window)
    assert (found.asked, found.sequence, found.value) == (
        *(KEY[16:], entry.sequence, 9_700),
    )
    assert state.operation(KEY[:16], entry.at + window + 1) is None
    assert state.operation(KEY[16:], entry.at) is None
    again = restore(dump(state), state.limits)
    assert again.operation(KEY[:16], entry.at) == found


def test_a_key_that_was_forgotten_is_a_new_one(state):
    late = NOW + 6 + state.limits.duplicate_window_ms
    apply(state, keyed(state))
    apply(state, keyed(state, now=late))
    assert state.operation(bytes(16), late).sequence == state.sequence
    assert len(dump(state)) == len(dump(restore(dump(state), state.limits)))


def test_no_key_is_forgotten_for_another_one(state):
    count = 0
    while state.takes_operations(NOW + 5):
        apply(state, keyed(state, count))
        count += 1
    assert count == 4096
    with pytest.raises(ChangeRefused, match="operation key: expected fewer") as refused:
        keyed(state, count)
    assert refused.value.why == "full"
    apply(state, adjust(state, "main", 1, **WHY))
    assert state.operation(bytes(16), NOW + 5) is not None
    late = NOW + 6 + state.limits.duplicate_window_ms
    apply(state, keyed(state, count, late))
    assert state.operation(count.to_bytes(16, "little"), late) is not None
    assert state.takes_operations(late)


def test_an_entry_of_a_message_has_no_key(state):
    request = Request(pan_hash=CARDS["active"], amount=1, currency=STERLING)
    (entry,) = decide(state, request, NOW + 10).entries
    data = bytearray(entry.encode())
    data[1] = 2
    with pytest.raises(EntryError, match="expected version 1 of kind 3, got 2"):
        decode_entries(bytes(data), 1)
