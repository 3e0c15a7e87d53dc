"""Advices and reversals through bytes."""

from __future__ import annotations

import pytest

from switch.flow.replies import ADVICE_APPROVED
from switch.ledger import Transaction
from tests.messages import specs_of_1987
from tests.unit.link.in_memory import Switch, fields, original

SPECS = specs_of_1987()


@pytest.fixture
def switch():
    return Switch()


def money(switch, name="main"):
    account = switch.account(name)
    return account.balance, account.held


def last(switch):
    entry = switch.entries()[-1][1]
    assert isinstance(entry, Transaction)
    return entry


def reverse(mti, stan, what, changes=None):
    return fields(mti, stan, changes={90: what, 4: None, **(changes or {})})


# --- advices


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", ["0120", "0220"])
@pytest.mark.parametrize(
    "code", [*sorted(ADVICE_APPROVED), "05", "51", "91", "XX", None]
)
def test_an_advice_moves_money_only_if_it_says_approved(spec, mti, code):
    switch = Switch(spec)
    line = switch.connect()
    (reply,) = switch.ask(line, fields(mti, changes={39: code}))
    assert reply[39] == "00"
    taken = 1_000 if code in ADVICE_APPROVED else 0
    assert switch.account().available == 10_000 - taken
    if not taken:
        assert last(switch).name == "advice_recorded"


@pytest.mark.parametrize("mti", ["0120", "0220"])
def test_an_approved_advice_counts_beyond_the_limit_and_says_so(switch, mti):
    line = switch.connect()
    (reply,) = switch.ask(line, fields(mti, amount=25_000, changes={39: "00"}))
    assert reply[39] == "00"
    assert switch.account().available == -15_000
    assert last(switch).forced


@pytest.mark.parametrize("mti", ["0120", "0220"])
@pytest.mark.parametrize("card", ["lost", "closed", "expired"])
def test_an_approved_advice_counts_whatever_the_card(switch, mti, card):
    line = switch.connect()
    (reply,) = switch.ask(line, fields(mti, card=card, changes={39: "00"}))
    assert reply[39] == "00"
    assert switch.account().available == 9_000


@pytest.mark.parametrize("mti", ["0120", "0220"])
def test_an_advice_about_no_card_of_ours_is_recorded(switch, mti):
    line = switch.connect()
    (reply,) = switch.ask(line, fields(mti, card="unknown", changes={39: "00"}))
    assert reply[39] == "00"
    assert last(switch).name == "advice_recorded"


@pytest.mark.parametrize("spec", SPECS)
def test_a_posting_ends_the_hold_that_it_names(spec):
    switch = Switch(spec)
    line = switch.connect()
    switch.ask(line, fields("0100", 1, amount=3_000))
    assert money(switch) == (10_000, 3_000)
    posting = fields(
        "0220", 2, amount=3_200, changes={39: "00", 90: original("0100", 1)}
    )
    switch.ask(line, posting)
    assert money(switch) == (6_800, 0)


def test_a_posting_may_stand_alone(switch):
    line = switch.connect()
    switch.ask(line, fields("0100", 1))
    switch.ask(line, fields("0220", 2, changes={39: "00"}))
    assert money(switch) == (9_000, 1_000)


# --- reversals


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", ["0400", "0401", "0420", "0421"])
@pytest.mark.parametrize("what", ["0100", "0200", "0120", "0220"])
def test_a_reversal_gives_back_what_it_names(spec, mti, what):
    switch = Switch(spec)
    line = switch.connect()
    switch.ask(line, fields(what, 1, changes={39: "00"} if what[2] == "2" else {}))
    assert switch.account().available == 9_000
    (reply,) = switch.ask(line, reverse(mti, 2, original(what, 1)))
    assert reply[39] == "00"
    assert money(switch) == (10_000, 0)
    assert last(switch).name == "reversed"
    # another one, with a trace of its own, gives nothing back
    (reply,) = switch.ask(line, reverse(mti, 3, original(what, 1)))
    assert reply[39] == "00"
    assert money(switch) == (10_000, 0)


def test_a_reversal_may_name_the_repeat_and_leave_the_acquirer_to_field_32(switch):
    line = switch.connect()
    switch.ask(line, fields("0101", 1))
    switch.ask(line, reverse("0420", 2, original("0101", 1, acquirer="0")))
    assert money(switch) == (10_000, 0)


@pytest.mark.parametrize(
    "what",
    [original("0100", 2), original("0200", 1), original("0100", 1, acquirer="7")],
)
def test_a_reversal_of_something_else_gives_nothing_back(switch, what):
    line = switch.connect()
    switch.ask(line, fields("0100", 1))
    (reply,) = switch.ask(line, reverse("0420", 2, what))
    assert reply[39] == "00"
    assert money(switch) == (10_000, 1_000)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("what", ["0100", "0200"])
def test_an_original_that_comes_after_its_reversal_is_declined(spec, what):
    switch = Switch(spec)
    line = switch.connect()
    (reply,) = switch.ask(line, reverse("0420", 2, original(what, 1)))
    assert reply[39] == "00"
    assert last(switch).name == "reversal_remembered"
    (late,) = switch.ask(line, fields(what, 1))
    assert late[39] == "05"
    assert 38 not in late
    (again,) = switch.ask(line, fields(what[:3] + "1", 1))
    assert bytes(again) == bytes(late)
    assert money(switch) == (10_000, 0)


@pytest.mark.parametrize("what", ["0120", "0220"])
def test_an_advice_that_comes_after_its_reversal_moves_nothing(switch, what):
    line = switch.connect()
    switch.ask(line, reverse("0420", 2, original(what, 1)))
    (late,) = switch.ask(line, fields(what, 1, changes={39: "00"}))
    assert late[39] == "00"
    assert money(switch) == (10_000, 0)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("what", ["0100", "0200"])
@pytest.mark.parametrize(
    ("replacement", "currencies", "left"),
    [
        # field 95: what stays, in the transaction's currency; 49 says which that is
        ("000000000400" + "0" * 30, {49: "826"}, 400),
        # the cardholder's amount in it, if field 51 says that it is the account's
        ("000000000500" + "0" * 12 + "000000000400" + "0" * 6,
         {49: "978", 51: "826"}, 400),
        # only the first amount is there, and it is the account's currency all the same
        ("000000000400" + "0" * 30, {49: "826", 51: "826"}, 400),
        # nothing stays
        ("0" * 42, {49: "826"}, 0),
        # as much stays as there was, or more
        ("000000001000" + "0" * 30, {49: "826"}, 1_000),
        ("000000009999" + "0" * 30, {49: "826"}, 1_000),
        # in a currency that is not the account's: nobody knows how much, so all of it
        ("000000000400" + "0" * 30, {49: "978"}, 1_000),
    ],
)  # fmt: skip
def test_part_of_the_original_is_reversed(spec, what, replacement, currencies, left):
    switch = Switch(spec)
    line = switch.connect()
    switch.ask(line, fields(what, 1))
    changes = {95: replacement, **currencies}
    (reply,) = switch.ask(line, reverse("0420", 2, original(what, 1), changes))
    assert reply[39] == "00"
    assert switch.account().available == 10_000 - left
    # and the rest later
    switch.ask(line, reverse("0420", 3, original(what, 1)))
    assert money(switch) == (10_000, 0)


def test_field_37_decides_between_two_of_one_trace(switch):
    line = switch.connect()
    switch.ask(
        line,
        fields("0100", 1, amount=100, changes={37: "RRN00000000A"}),
        fields("0100", 1, amount=200, changes={37: "RRN00000000B"}),
    )
    assert money(switch) == (10_000, 300)
    what = reverse("0420", 2, original("0100", 1), {37: "RRN00000000B"})
    switch.ask(line, what)
    assert money(switch) == (10_000, 100)


def test_a_reversal_over_another_connection_finds_its_original(switch):
    line, other = switch.connect(), switch.connect()
    switch.ask(line, fields("0100", 1))
    switch.ask(other, reverse("0400", 2, original("0100", 1)))
    assert money(switch) == (10_000, 0)


def test_a_reversal_in_the_same_read_event_finds_its_original(switch):
    line = switch.connect()
    replies = switch.ask(
        line, fields("0100", 1), reverse("0420", 2, original("0100", 1))
    )
    assert [reply[39] for reply in replies] == ["00", "00"]
    assert len(switch.committed) == 1
    assert money(switch) == (10_000, 0)
