import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import iso8583
from switch.ledger.currencies import NUMBERS
from switch.replay.compose import Composer, Fields, field_name, field_names
from switch.replay.errors import RequestError
from switch.replay.expect import compare
from tests.messages import specs_of_1987

NOW = datetime.datetime(2026, 11, 24, 23, 30, tzinfo=datetime.UTC)
PAN = "9999990000000014"


def composer(spec: str = "iso87-ascii") -> Composer:
    return Composer(iso8583.Codec(iso8583.load_spec(spec)), NUMBERS, lambda: NOW)


def test_what_every_message_needs_is_made():
    made = composer()
    first, second = (made.compose({"mti": "0100"}) for _ in range(2))
    assert list(first) == [7, 11, 12, 13, 37]
    assert first[7] == "1124233000"
    here = NOW.astimezone()
    assert (first[12], first[13]) == (f"{here:%H%M%S}", f"{here:%m%d}")
    assert int(second[11]) == int(first[11]) + 1
    assert int(second[37]) == int(first[37]) + 1
    assert list(made.compose({"mti": "0800", 70: "301"})) == [7, 11, 70]


def test_what_is_given_is_sent_and_nothing_leaves_a_field_out():
    message = composer().compose({"mti": "0200", 11: "7", 37: "", 12: ""})
    assert list(message) == [7, 11, 13]
    assert message[11] == "000007"


@pytest.mark.parametrize("spec", specs_of_1987())
def test_values_are_filled_up_as_their_field_is(spec):
    message = composer(spec).compose(
        {"mti": "0100", 4: "1500", 22: "051", 41: "TERM1", 49: "eur", 32: "123"}
    )
    assert message[22] == ("0510" if spec == "visa-base1" else "051")
    assert message[4] == "000000001500"
    assert message[41] == "TERM1   "
    assert message[49] == "978"
    # a field of variable length is as long as its value
    assert message[32] == "123"


def test_trace_numbers_begin_again_behind_the_last():
    made = composer()
    made._stan = 999_998
    stans = [made.compose({"mti": "0100"})[11] for _ in range(3)]
    assert stans == ["999999", "000001", "000002"]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({4: "1"}, "mti: expected a message type, got none"),
        ({"mti": "0100", 4: "1" * 13}, "field 4: expected 12 characters, got 13"),
        ({"mti": "0100", 65: "1"}, "field 65: expected one that specification iso87"),
    ],
)
def test_what_does_not_fit_is_told_without_its_value(fields, fault):
    with pytest.raises(RequestError, match=fault) as raised:
        composer().compose(fields)
    assert "1111" not in str(raised.value)


def test_names_of_fields():
    assert field_names({"MTI": "0100", " 4 ": 1500}) == {"mti": "0100", 4: "1500"}
    for name in ("", "pan", "4000000000000002", "1.5", "-2"):
        with pytest.raises(RequestError, match="expected mti or the number") as raised:
            field_name(name)
        assert not name or name not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "pattern", "value", "result"),
    [
        (39, "00", "00", True),
        (39, "00", "05", False),
        (39, "00|10", "10", True),
        (39, "00|10", "05", False),
        (39, "", None, True),
        (39, "", "00", False),
        (39, "*", "00", True),
        (39, "*", None, False),
        (39, "0?", "05", True),
        (4, "1500", "000000001500", True),
        (4, ">1000", "000000001500", True),
        (4, ">1500", "000000001500", False),
        (4, ">=1500", "000000001500", True),
        (4, "<1500", "000000001500", False),
        (4, "<=1500", "000000001500", True),
        (4, "1000..1500", "000000001500", True),
        (4, "1000..1499", "000000001500", False),
        (4, ">1000", "none", False),
        (2, "999999*", PAN, True),
        (2, "*0022", PAN, False),
        (49, "EUR", "978", True),
        ("mti", "0100|0200", "0200", True),
        ("mti", "01*", "0200", False),
    ],
)
def test_patterns(field, pattern, value, result):
    assert composer().matches(field, pattern, value) is result


@given(st.integers(0, 10**12 - 1), st.integers(0, 10**12 - 1))
def test_comparisons_are_those_of_numbers(value, bound):
    made, text = composer(), f"{value:012d}"
    assert made.matches(4, f">{bound}", text) == (value > bound)
    assert made.matches(4, f"<={bound}", text) == (value <= bound)
    assert made.matches(4, f"{bound}..{bound + 5}", text) == (
        bound <= value <= bound + 5
    )


def test_differences_say_what_was_expected_and_came_and_mask():
    made = composer()
    message = made.compose({"mti": "0110", 2: PAN, 39: "05", 7: "", 11: "1"})
    expected: Fields = {"mti": "0110", 2: "9999990000000022", 38: "*", 39: "00"}
    expected[11] = ""
    assert [str(one) for one in compare(made, expected, message)] == [
        "field 2: expected ************0022, got ************0014",
        "field 38: expected *, got none",
        "field 39: expected 00, got 05",
        "field 11: expected none, got 000001",
    ]
    assert compare(made, {"mti": "0110", 2: PAN, 39: "05"}, message) == []
