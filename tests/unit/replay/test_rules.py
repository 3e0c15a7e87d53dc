import random

import pytest

import iso8583
from switch.ledger.currencies import NUMBERS
from switch.replay.compose import Composer
from switch.replay.rules import RuleTable
from switch.replay.scenario import Rule
from tests.messages import specs_of_1987

CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
COMPOSER = Composer(CODEC, NUMBERS)
REQUEST = COMPOSER.compose(
    {"mti": "0100", 2: "9999990000000014", 3: "000000", 4: "1500", 49: "EUR"}
)


def answer(rules, request=REQUEST):
    return RuleTable(rules, COMPOSER, random.Random(1)).answer(request)


def body(rules, request=REQUEST) -> iso8583.Message:
    return CODEC.decode(answer(rules, request).body)


def test_without_a_rule_everything_is_approved():
    reply = body([])
    assert (reply.mti, reply[39]) == ("0110", "00")
    for field in (2, 3, 4, 7, 11, 12, 13, 37, 49):
        assert reply[field] == REQUEST[field]
    assert len(reply[38]) == 6


def test_the_first_rule_that_matches_in_all_fields_counts():
    rules = [
        Rule(name="other card", match={"2": "*0022"}, answer="41"),
        Rule(name="other type", match={"mti": "0200", "4": ">1000"}, answer="05"),
        Rule(name="much", match={"mti": "0100", "4": ">1000"}, answer="51"),
        Rule(name="all", answer="00"),
    ]
    reply = answer(rules)
    assert reply.rule == "much"
    assert CODEC.decode(reply.body)[39] == "51"
    assert 38 not in CODEC.decode(reply.body)


def test_no_rule_no_answer():
    assert answer([Rule(match={"mti": "0200"})]) is None


def test_fields_are_set_and_taken_out():
    changed = Rule(fields={"mti": "0112", "54": "x", "38": "ABC123", "37": ""})
    reply = body([changed])
    assert (reply.mti, reply[54], reply[38]) == ("0112", "x", "ABC123")
    assert 37 not in reply


def test_late_and_never():
    assert answer([Rule(delay_ms=250)]).delay_s == 0.25
    reply = answer([Rule(drop=True)])
    assert (reply.rule, reply.body) == ("rule 1", None)


def test_an_advice_keeps_the_approval_code_it_tells_of():
    advice = COMPOSER.compose({"mti": "0120", 38: "123456", 39: "00"})
    reply = body([], advice)
    assert (reply.mti, reply[38], reply[39]) == ("0130", "123456", "00")


def test_network_management_needs_a_rule_that_names_it():
    echo = COMPOSER.compose({"mti": "0800", 70: "301"})
    assert answer([], echo) is None
    assert answer([Rule(match={"70": "301"})], echo) is None
    reply = body([Rule(match={"mti": "0800", "70": "301"}, answer="91")], echo)
    assert (reply.mti, reply[39], reply[70]) == ("0810", "91", "301")


@pytest.mark.parametrize("spec", specs_of_1987())
def test_every_specification_can_be_answered_in(spec):
    codec = iso8583.Codec(iso8583.load_spec(spec))
    composer = Composer(codec, NUMBERS)
    request = composer.compose({"mti": "0200", 4: "5", 41: "T"})
    reply = RuleTable([], composer, random.Random(1)).answer(request)
    assert reply is not None
    assert reply.body is not None
    assert codec.decode(reply.body)[39] == "00"
