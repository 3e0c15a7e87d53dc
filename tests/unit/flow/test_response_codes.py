"""Each response code, from bytes: what has to be wrong for it."""

from __future__ import annotations

import pytest

from switch.ledger import Limits, Transaction
from tests.messages import specs_of_1987
from tests.unit.link.in_memory import KEYS, PANS, Switch, fields, original

SPECS = specs_of_1987()
REQUESTS = ("0100", "0200")
ADVICES = ("0120", "0220")
REVERSALS = ("0400", "0420")
TRACK = "9999990000000001=30122010000000000"


def answer(mti, *, spec="iso87-ascii", card="active", amount=1_000, changes=()):
    """Field 39 of the reply to one message, and the switch that gave it."""
    switch = Switch(spec)
    line = switch.connect()
    changes = dict(changes)
    if mti in ADVICES:
        changes = {39: "00", **changes}
    if mti in REVERSALS:
        changes = {90: original("0100", 999), **changes}
    (reply,) = switch.ask(line, fields(mti, card=card, amount=amount, changes=changes))
    return reply[39], switch


def kinds(switch):
    """What was decided."""
    return [
        entry.name for _, entry in switch.entries() if isinstance(entry, Transaction)
    ]


# --- the card


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", REQUESTS)
@pytest.mark.parametrize(
    ("card", "code"),
    [("unknown", "14"), ("closed", "14"), ("lost", "41"), ("stolen", "43"),
     ("restricted", "62")],
)  # fmt: skip
def test_a_card_that_may_not_be_used(spec, mti, card, code):
    got, switch = answer(mti, spec=spec, card=card)
    assert got == code
    assert kinds(switch) == ["declined"]
    account = switch.account()
    assert (account.balance, account.held) == (10_000, 0)


@pytest.mark.parametrize("mti", REQUESTS)
@pytest.mark.parametrize(
    ("card", "expiry", "code"),
    [("active", "3012", "00"), ("active", "3011", "54"), ("active", "3101", "54"),
     ("active", None, "00"), ("expired", "2510", "54"), ("expired", None, "54")],
)  # fmt: skip
def test_expiry(mti, card, expiry, code):
    assert answer(mti, card=card, changes={14: expiry})[0] == code


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({2: None, 14: None, 35: TRACK}, "00"),
        ({2: None, 14: None, 35: TRACK.replace("=3012", "=3011")}, "54"),
        # only what is absent is taken from the track
        ({2: None, 14: "3011", 35: TRACK}, "54"),
        ({2: None, 14: "3012", 35: TRACK.replace("=3012", "=3011")}, "00"),
        ({14: None, 35: TRACK.replace("=3012", "=3011")}, "54"),
        ({14: None, 35: TRACK}, "00"),
        ({35: TRACK.replace("01=3012", "04=3011")}, "00"),
        ({2: PANS["stolen"], 35: TRACK}, "43"),
        ({2: None, 14: None, 35: "9999990000000001=3012"}, "00"),
        # a track without an expiry says none
        ({2: None, 14: None, 35: "9999990000000001=301"}, "00"),
        ({2: None, 14: None, 35: "9999990000000001"}, "00"),
        ({2: None, 14: None, 35: "9999990000000001="}, "00"),
        # no card number at all
        ({2: None, 14: None}, "30"),
        ({2: None, 14: None, 35: "=30122010000"}, "30"),
        ({2: None, 14: None, 35: "9999990=30122010000"}, "30"),
        ({2: None, 14: None, 35: "99999900000000010000=3012"}, "30"),
    ],
)
def test_card_and_expiry_from_track_2(spec, changes, code):
    got, switch = answer("0100", spec=spec, changes=changes)
    assert got == code
    assert switch.account().held == (1_000 if code == "00" else 0)


def test_the_last_four_digits_are_the_cards_whichever_field_they_came_in():
    for changes in ({}, {2: None, 35: TRACK}):
        _, switch = answer("0100", changes=changes)
        entry = switch.entries()[-1][1]
        assert isinstance(entry, Transaction)
        assert entry.last_four == "0001"
        assert entry.pan_hash == KEYS.pan_hash(PANS["active"].encode())


# --- the amount


@pytest.mark.parametrize("mti", REQUESTS)
@pytest.mark.parametrize(
    ("card", "amount", "code"),
    [("active", 10_000, "00"), ("active", 10_001, "51"), ("credit", 5_000, "00"),
     ("credit", 5_001, "51"), ("active", 999_999_999_999, "51"), ("active", 0, "13")],
)  # fmt: skip
def test_what_is_available_can_be_spent(mti, card, amount, code):
    got, switch = answer(mti, card=card, amount=amount)
    assert got == code
    for name in ("main", "credit"):
        assert switch.account(name).available >= 0


@pytest.mark.parametrize("first", REQUESTS)
@pytest.mark.parametrize("second", REQUESTS)
def test_what_is_held_or_spent_is_not_available_again(first, second):
    switch = Switch()
    line = switch.connect()
    replies = switch.ask(
        line,
        fields(first, 1, amount=6_000),
        fields(second, 2, amount=4_001),
        fields(second, 3, amount=4_000),
        fields(second, 4, amount=1),
    )
    assert [reply[39] for reply in replies] == ["00", "51", "00", "51"]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", [*REQUESTS, *ADVICES])
@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({4: "000000000100", 49: "978", 6: "000000000090", 51: "826"}, 90),
        ({4: "000000000100", 49: "826", 6: "000000000090", 51: "978"}, 100),
        ({4: "000000000100", 49: "826", 6: "000000000090", 51: "826"}, 90),
        ({4: "000000000100", 49: "826"}, 100),
        ({4: None, 49: None, 6: "000000000090", 51: "826"}, 90),
        ({4: "000000000100", 49: "978"}, None),
        ({4: "000000000100", 49: None}, None),
        ({4: "000000000100", 49: "978", 6: "000000000090"}, None),
        ({4: "000000000100", 49: "978", 6: "000000000090", 51: "978"}, None),
        ({4: "000000000100", 49: "GBP"}, None),
        ({4: None, 49: "826", 6: "000000000090", 51: "978"}, None),
    ],
)
def test_which_amount_counts(spec, mti, changes, taken):
    """Field 6 if field 51 is the account's currency, else field 4 if 49 is, else 57;
    an advice of another currency is recorded and moves nothing."""
    if spec in ("iso87-binary", "visa-base1") and "GBP" in changes.values():
        changes = {**changes, 49: "ABC"}
    got, switch = answer(mti, spec=spec, changes=changes)
    account = switch.account()
    assert got == ("57" if taken is None and mti in REQUESTS else "00")
    assert account.available == 10_000 - (taken or 0)


@pytest.mark.parametrize("mti", REQUESTS)
@pytest.mark.parametrize(
    ("processing_code", "code"),
    [("000000", "00"), ("010000", "00"), ("090000", "00"), ("110000", "00"),
     ("310000", "57"), ("400000", "57"), ("210000", "57"), ("770000", "12"),
     ("990000", "12")],
)  # fmt: skip
def test_what_the_processing_code_asks_for(mti, processing_code, code):
    got, switch = answer(mti, changes={3: processing_code})
    assert got == code
    assert switch.account().available == (9_000 if code == "00" else 10_000)


def test_a_return_pays_when_it_is_posted():
    got, switch = answer("0100", changes={3: "200000"})
    assert (got, switch.account().available) == ("00", 10_000)
    got, switch = answer("0200", changes={3: "200000"})
    assert (got, switch.account().available) == ("00", 11_000)


# --- 30: fields that are needed, and fields that are not of their kind


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    ("mti", "field"),
    [(mti, field) for mti in (*REQUESTS, *ADVICES) for field in (2, 3, 4, 7, 11)]
    + [(mti, field) for mti in REVERSALS for field in (2, 7, 11, 90)],
)
def test_a_needed_field_that_is_missing(spec, mti, field):
    got, switch = answer(mti, spec=spec, changes={field: None})
    assert got == "30"
    assert switch.committed == []
    # nothing is remembered of it
    line = switch.connect()
    changes = {39: "00"} if mti in ADVICES else {}
    if mti in REVERSALS:
        changes = {90: original("0100", 999)}
    (reply,) = switch.ask(line, fields(mti, changes=changes))
    assert reply[39] == "00"


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", [*REQUESTS, *ADVICES])
@pytest.mark.parametrize(
    "changes",
    [
        {2: "999999000000000A"}, {2: "9999999"}, {2: ""}, {3: "00000A"},
        {4: "00000000100A"}, {6: "00000000100A", 51: "826"}, {7: "112416000A"},
        {11: "00000A"}, {14: "301A"}, {32: "12345A"},
        {2: "999999000000000A", 35: TRACK},
    ],
)  # fmt: skip
def test_a_field_that_is_not_of_its_kind(spec, mti, changes):
    got, switch = answer(mti, spec=spec, changes=changes)
    assert got == "30"
    assert switch.committed == []


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", [*REVERSALS, "0220"])
@pytest.mark.parametrize(
    "changes",
    [
        {90: "A" * 42}, {90: original("0100", 999)[:-1] + "A"},
        {95: "00000000100A" + "0" * 30, 90: original("0100", 999)},
    ],
)  # fmt: skip
def test_a_reversal_that_names_no_original(spec, mti, changes):
    got, switch = answer(mti, spec=spec, changes=changes)
    assert got == "30"
    assert switch.committed == []


def test_a_card_number_that_is_no_text_is_malformed_whatever_the_track_says():
    switch = Switch()
    line = switch.connect()
    body = switch.codec.encode(fields("0100", changes={35: TRACK}))
    body = body.replace(b"16" + PANS["active"].encode(), b"16" + b"\xff" * 16, 1)
    line.read(switch.framing.encode(body))
    switch.settle()
    frames = b"".join(line.transport.writes)
    assert b"30TERM0001" in frames
    assert switch.committed == []


def test_text_that_is_no_text_is_left_out_and_nothing_is_decided_by_it():
    switch = Switch()
    line = switch.connect()
    body = switch.codec.encode(fields("0100"))
    for text in (b"TERM0001", b"MERCHANT0000001", b"A SHOP, SOMEWHERE"):
        assert text in body
        body = body.replace(text, b"\xe9" * len(text))
    line.read(switch.framing.encode(body))
    switch.settle()
    assert switch.account().held == 1_000
    entry = switch.entries()[-1][1]
    assert isinstance(entry, Transaction)
    assert (entry.terminal, entry.merchant, entry.merchant_name) == ("", "", "")
    # echoed as it came
    assert b"\xe9" * 8 in line.transport.writes[0]


# --- 91


def test_over_capacity_is_answered_91_and_may_come_again():
    switch = Switch(pending_max=2)
    line = switch.connect()
    line.send(*(fields("0100", stan, amount=1) for stan in (1, 2, 3)))
    switch.settle()
    assert line.codes == ["00", "00", "91"]
    (again,) = switch.ask(line, fields("0101", 3, amount=1))
    assert again[39] == "00"
    assert switch.account().held == 3


def test_over_capacity_a_repeat_still_gets_its_first_answer():
    switch = Switch(pending_max=1)
    line = switch.connect()
    line.send(fields("0100", 1), fields("0100", 2), fields("0101", 1))
    switch.settle()
    assert line.codes == ["00", "91", "00"]
    assert line.replies[0][38] == line.replies[2][38]


def test_what_a_commit_in_flight_carries_is_not_pending_any_more():
    switch = Switch(pending_max=1)
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    line.send(fields("0100", 2), fields("0100", 3))
    switch.settle()
    assert line.codes == ["00", "00", "91"]


def test_when_memory_is_full_of_holds_new_requests_get_91():
    switch = Switch(limits=Limits(transactions_max=2))
    line = switch.connect()
    replies = switch.ask(line, *(fields("0100", stan, amount=1) for stan in (1, 2, 3)))
    assert [reply[39] for reply in replies] == ["00", "00", "91"]
    (again,) = switch.ask(line, fields("0101", 1, amount=1))
    assert again[39] == "00"
    assert again[38] == replies[0][38]
