"""Flows through bytes: what is answered, with which fields, and how repeats are."""

from __future__ import annotations

import itertools

import pytest

from iso8583 import load_dialect, load_spec
from switch.flow.replies import OTHERS, REPLIES
from switch.ledger import Transaction, approval_code
from tests.messages import content, specs_of_1987
from tests.unit.link.in_memory import Switch, fields, original

SPECS = specs_of_1987()
# What each message type does to 10,000 that are there: balance and held afterwards.
FLOWS = {
    "0100": ("0110", "held", 10_000, 1_000),
    "0101": ("0110", "held", 10_000, 1_000),
    "0200": ("0210", "posted", 9_000, 0),
    "0201": ("0210", "posted", 9_000, 0),
    "0120": ("0130", "advised_hold", 10_000, 1_000),
    "0121": ("0130", "advised_hold", 10_000, 1_000),
    "0220": ("0230", "advised_posting", 9_000, 0),
    "0221": ("0230", "advised_posting", 9_000, 0),
    "0400": ("0410", "reversal_remembered", 10_000, 0),
    "0401": ("0410", "reversal_remembered", 10_000, 0),
    "0420": ("0430", "reversal_remembered", 10_000, 0),
    "0421": ("0430", "reversal_remembered", 10_000, 0),
}
REQUESTS = [mti for mti in FLOWS if mti[:3] in ("010", "020")]
ADVICES = [mti for mti in FLOWS if mti[:3] in ("012", "022")]
REVERSALS = [mti for mti in FLOWS if mti[1] == "4"]

stans = itertools.count(500)


def message(mti, stan=1, **more):
    """One that is complete for its type."""
    changes = more.pop("changes", {})
    if mti in ADVICES:
        changes = {38: "THEIRS", 39: "00", **changes}
    if mti in REVERSALS:
        changes = {90: original("0100", 999), **changes}
    return fields(mti, stan, changes=changes, **more)


def full(spec):
    """A value for every field of the specification that a request may have."""
    values = {}
    specification = load_spec(spec)
    for number in specification.fields:
        field = specification.field(number)
        count = min(field.length, 4) if field.prefix_digits else field.length
        values[number] = "0" * count * (2 if field.unit == "bytes" else 1)
    return values


@pytest.fixture
def switch():
    return Switch()


def entries_of(switch):
    return [entry for _, entry in switch.entries() if isinstance(entry, Transaction)]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", FLOWS)
def test_every_flow_is_answered_and_does_what_it_is_for(spec, mti):
    switch = Switch(spec)
    line = switch.connect()
    (reply,) = switch.ask(line, message(mti))
    answer, kind, balance, held = FLOWS[mti]
    assert (reply.mti, reply[39]) == (answer, "00")
    assert [entry.name for entry in entries_of(switch)] == [kind]
    assert entries_of(switch)[0].mti == mti[:3] + "0"
    account = switch.account()
    assert (account.balance, account.held) == (balance, held)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", FLOWS)
def test_a_reply_carries_the_fields_of_the_table_and_no_others(spec, mti):
    switch = Switch(spec)
    line = switch.connect()
    sent = {**full(spec), **message(mti)}
    (reply,) = switch.ask(line, sent)
    dialect = load_dialect(spec, switch.codec.spec)
    echoed = {*REPLIES[mti[:3] + "0"][1], *dialect.echoed} & set(sent)
    expected = {field: sent[field] for field in echoed} | {39: "00", "mti": reply.mti}
    if mti in REQUESTS:
        expected[38] = reply[38]
    assert content(reply) == expected


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", FLOWS)
def test_a_field_the_request_does_not_have_is_not_in_the_reply(spec, mti):
    switch = Switch(spec)
    line = switch.connect()
    optional = (12, 13, 14, 18, 22, 32, 37, 41, 42, 43)
    sent = message(mti, changes=dict.fromkeys(optional))
    (reply,) = switch.ask(line, sent)
    assert reply[39] == "00"
    assert set(reply) - {38, 39} <= set(sent)
    assert not set(reply) & set(optional)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", REQUESTS)
def test_an_approval_code_tells_the_entry(spec, mti):
    switch = Switch(spec)
    line = switch.connect()
    for stan, card in ((1, "active"), (2, "other"), (3, "credit"), (4, "active")):
        (reply,) = switch.ask(line, message(mti, stan, card=card))
        shard, entry = switch.entries()[-1]
        assert entry.name == FLOWS[mti][1]
        assert reply[38] == approval_code(shard, entry.sequence)


@pytest.mark.parametrize("mti", REQUESTS)
def test_a_decline_has_no_approval_code(switch, mti):
    line = switch.connect()
    (reply,) = switch.ask(line, message(mti, amount=10_001, changes={38: "THEIRS"}))
    assert reply[39] == "51"
    assert 38 not in reply


@pytest.mark.parametrize("mti", ADVICES)
def test_an_advice_gets_its_own_approval_code_back(switch, mti):
    line = switch.connect()
    (reply,) = switch.ask(line, message(mti))
    assert reply[38] == "THEIRS"
    (reply,) = switch.ask(line, message(mti, 2, changes={38: None}))
    assert 38 not in reply


# --- repeats


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mti", [mti for mti in FLOWS if mti[3] == "0"])
def test_a_repeat_gets_the_first_answer_again(spec, mti):
    switch = Switch(spec)
    line, other = switch.connect(), switch.connect()
    (first,) = switch.ask(line, message(mti))
    account = switch.account()
    for repeat, peer in ((mti, line), (mti[:3] + "1", line), (mti[:3] + "1", other)):
        (again,) = switch.ask(peer, message(repeat))
        assert bytes(again) == bytes(first)
    assert switch.account() == account
    assert len(entries_of(switch)) == 1
    assert switch.dispatcher.repeated == 3


@pytest.mark.parametrize("mti", REQUESTS)
def test_a_repeat_of_a_decline_is_declined_though_there_is_money_now(switch, mti):
    line = switch.connect()
    (first,) = switch.ask(line, message(mti, amount=10_001))
    switch.ask(line, message("0200", 2, changes={3: "200000"}))  # a return
    (again,) = switch.ask(line, message(mti[:3] + "1", amount=10_001))
    assert first[39] == again[39] == "51"


@pytest.mark.parametrize("mti", REQUESTS)
def test_a_repeat_in_the_same_read_event_gets_the_same_answer(switch, mti):
    line = switch.connect()
    replies = switch.ask(line, message(mti), message(mti), message(mti[:3] + "1"))
    assert len({bytes(reply) for reply in replies}) == 1
    assert len(replies) == 3
    assert len(entries_of(switch)) == 1


@pytest.mark.parametrize(
    "changes",
    [{7: "1124160001"}, {11: "000002"}, {32: "123457"}, {37: "RRN000000002"},
     {32: None}, {37: None}],
)  # fmt: skip
def test_what_differs_in_one_part_of_the_key_is_decided_anew(switch, changes):
    line = switch.connect()
    (first,) = switch.ask(line, message("0100"))
    (other,) = switch.ask(line, message("0100", changes=changes))
    assert first[38] != other[38]
    assert len(entries_of(switch)) == 2


@pytest.mark.parametrize(
    "changes", [{12: "170000"}, {13: "1125"}, {41: "TERM0002"}, {43: "B" * 40}]
)
def test_what_is_no_part_of_the_key_makes_no_other_transaction(switch, changes):
    line = switch.connect()
    (first,) = switch.ask(line, message("0100"))
    (again,) = switch.ask(line, message("0100", changes=changes))
    assert first[38] == again[38]
    assert len(entries_of(switch)) == 1


def test_an_authorisation_and_a_financial_request_of_one_trace_are_two(switch):
    line = switch.connect()
    replies = switch.ask(line, message("0100"), message("0200"))
    assert len({reply[38] for reply in replies}) == 2
    assert (switch.account().balance, switch.account().held) == (9_000, 1_000)


# --- types we do not serve


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    ("mti", "answer"),
    [("0102", "0112"), ("0300", "0310"), ("0320", "0330"), ("0500", "0510"),
     ("0600", "0610"), ("0620", "0630"), ("0601", "0610"), ("1100", "1110")],
)  # fmt: skip
def test_a_message_type_we_do_not_serve_is_answered_12(spec, mti, answer):
    switch = Switch(spec)
    line = switch.connect()
    sent = message("0100", changes={70: "301"}) | {"mti": mti}
    (reply,) = switch.ask(line, sent)
    assert (reply.mti, reply[39]) == (answer, "12")
    assert set(reply) == (set(OTHERS) & set(sent)) | {39}
    assert switch.committed == []


def test_thousands_of_types_we_do_not_serve_are_all_answered(switch):
    line = switch.connect()
    types = [f"{number:04d}" for number in range(10_000)]
    types = [mti for mti in types if mti[2] in "02" and mti[1] != "8"]
    for mti in types:
        line.send(message("0100", 1) | {"mti": mti})
    switch.settle()
    assert len(line.replies) == len(types)
    assert {reply[39] for reply in line.replies} == {"00", "12", "30"}


def test_answers_are_counted_by_type_and_code(switch):
    line = switch.connect()
    switch.ask(
        line,
        message("0100", 1),
        message("0101", 1),
        message("0200", 2, card="lost"),
        message("0420", 3, changes={90: None}),
        message("0100", 4) | {"mti": "0300"},
    )
    assert switch.dispatcher.counts() == {
        ("0100", "00"): 2,
        ("0200", "41"): 1,
        ("0420", "30"): 1,
        ("other", "12"): 1,
    }


@pytest.mark.parametrize(
    ("merchant", "kept"),
    [
        ("SHOP 9999990000000014", "SHOP ****************"),
        (";4000001234567899=4912", ";****************=4912"),
        ("SHOP 9999990000000015", "SHOP 9999990000000015"),
        ("CALL 0800 123456", "CALL 0800 123456"),
    ],
)
def test_a_card_number_in_free_text_stays_out_of_the_journal(merchant, kept):
    switch = Switch()
    switch.ask(switch.connect(), fields(changes={43: merchant.ljust(40)}))
    ((_, entry),) = switch.entries()
    assert isinstance(entry, Transaction)
    assert entry.merchant_name == kept


@pytest.mark.parametrize("mti", ["1804", "0802", "9800"])
def test_network_management_of_another_version_is_refused_as_its_own_type(mti):
    switch = Switch()
    reply = switch.ask(switch.connect(), {"mti": mti, 7: "1124160000", 11: "000001"})
    if int(mti[3]) % 2 == 0:
        (answer,) = reply
        assert answer[39] == "12"
        assert answer.mti == f"{int(mti) + 10:04d}"
