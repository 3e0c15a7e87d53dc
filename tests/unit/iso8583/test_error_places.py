"""Every error about a message says where, what was expected and what came: as
attributes, and as text. One of each that the codec raises about a value that is to be
written, and any that it raises about bytes."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iso8583
from iso8583.inside import Tagged
from tests.properties.codec_messages import CODECS, codecs_and_messages
from tests.unit.iso8583.inside_specs import (
    CHIP,
    DATASETS,
    NUMBERED,
    POSITIONS,
    SUBELEMENTS,
    codec_of,
    field,
)

ASCII, PACKED = CODECS["iso87-ascii"], CODECS["iso87-binary"]
MIXED, VISA = CODECS["iso87-mixed"], CODECS["visa-base1"]
ECHO = {"mti": "0800", 11: "000017"}
OPTIONAL = Tagged(
    id_size=2,
    prefix_digits=2,
    leading={"a": field(1), "b": field(1)},
    leading_optional=True,
)
ONE_OPTIONAL = Tagged(
    id_size=2, prefix_digits=2, leading={"a": field(1)}, leading_optional=True
)
KNOWN_ONLY = Tagged(id_size=2, prefix_digits=2, unknown="refuse")
TWO_LEADING = Tagged(id_size=2, prefix_digits=2, leading={"a": field(1), "b": field(1)})
TOO_MANY = {f"{number:04}": "" for number in range(1025)}
FOUR = Tagged(id_size=4, prefix_digits=1)


def nested(depth: int) -> dict[str, object]:
    return {"70": nested(depth - 1)} if depth else {"9A": "261124"}


# What is written into field 60 of a message that has nothing in it, and where it fails.
INSIDE = [
    (CHIP, "b", nested(9), "60" + ".70" * 8, "containers at most 8 deep", "more"),
    (FOUR, "ans", TOO_MANY, "60", "at most 1024 elements", "1025"),
    (CHIP, "b", {"9X": ""}, "60", "the id of an element", "another key"),
    (CHIP, "b", {"9A": 5}, "60.9A", "str or bytes", "int"),
    (CHIP, "b", {"9A": {"1": ""}}, "60.9A", "str or bytes", "dict"),
    (CHIP, "b", {"9A": "26x124"}, "60.9A", "hex digits", "another character", 2),
    (CHIP, "b", {"9A": "261"}, "60.9A", "an even number of digits", "3"),
    (
        KNOWN_ONLY,
        "ans",
        {"01": ""},
        "60.01",
        "an element of the spec",
        "an unknown one",
    ),
    (
        *(TWO_LEADING, "ans", {"a": "1"}, "60"),
        *("each of 2 leading parts once", "others"),
    ),
    (ONE_OPTIONAL, "ans", {"a": "1"}, "60", "another character first", "other"),
    (ONE_OPTIONAL, "ans", {"A1": "x"}, "60", "a digit first", "other"),
    (
        *(SUBELEMENTS, "ans", {"category": "é"}, "60.category"),
        *("text in ascii", "another character", 0),
    ),
    (POSITIONS, "ans", {"1": "ab", 1: "cd"}, "60", "one value of each element", "two"),
    (POSITIONS, "ans", {"2": "abc"}, "60", "elements from 1 without a gap", "a gap"),
    (POSITIONS, "ans", {}, "60", "at least 1 elements", "0"),
    (POSITIONS, "ans", {"1": "abc"}, "60.1", "2 characters", "3"),
    (NUMBERED, "b", {"2": "12"}, "60.2", "15 digits", "2"),
]


# What is changed in field 60, which has this in it, and where that fails.
CHANGES = [
    (
        *(CHIP, "b", "9C0101", "60.9C.9A", "01"),
        *("60.9C", "an element with others inside", "another one"),
    ),
    (CHIP, "b", "9C0101", "60.9", "01", "60.9", "the id of an element", "another key"),
    (CHIP, "b", "9C0101", "11.1", "01", "11.1", "a path of the spec", "another one"),
    (
        *(OPTIONAL, "ans", "0100", "60.a", "x"),
        *("60.a", "all leading parts together", "one"),
    ),
    (
        *(TWO_LEADING, "ans", "ab", "60.a", None),
        *("60.a", "a leading part", "none"),
    ),
    (POSITIONS, "b", "3132", "60.3", "abcd", "60.3", "2 elements before it", "1"),
    (
        POSITIONS,
        "b",
        "3132",
        "60.1",
        None,
        "60.1",
        "the elements before the last",
        "a gap",
    ),
    (
        SUBELEMENTS,
        "ans",
        "R",
        "60.category",
        None,
        "60.category",
        "a leading part",
        "none",
    ),
]


# Values that are written, by the codec that cannot.
VALUES = [
    (ASCII, {}, 0, "a str of 4 digits", "NoneType"),
    (CODECS["iso93-ascii"], {"mti": "0100"}, 0, "version 1", "0"),
    (ASCII, {**ECHO, "header": "00"}, "header", "none in this spec", "one"),
    (ASCII, {**ECHO, "11": "000017"}, 11, "one value", "two"),
    (ASCII, {**ECHO, 999: ""}, None, "field numbers up to 192", "another key"),
    (ASCII, {**ECHO, "193": ""}, None, "field numbers up to 192", "another key"),
    (ASCII, {**ECHO, "999": ""}, None, "field numbers up to 192", "another key"),
    (ASCII, {**ECHO, "1": ""}, 1, "a field of the spec", "an undefined one"),
    (ASCII, {**ECHO, 65: ""}, 65, "a field of the spec", "an undefined one"),
    (ASCII, {**ECHO, 2: 5}, 2, "str or bytes", "int"),
    (PACKED, {**ECHO, 2: b""}, 2, "str", "bytes"),
    (PACKED, {**ECHO, 2: "12x4"}, 2, "hex digits", "another character", 2),
    (MIXED, {**ECHO, 52: "123"}, 52, "an even number of digits", "3"),
    (MIXED, {**ECHO, 52: "1234"}, 52, "8 bytes", "2"),
    (ASCII, {**ECHO, 43: "x" * 39 + "é"}, 43, "text in ascii", "another character", 39),
    (VISA, {**ECHO, "header": b""}, "header", "22 or 48 bytes", "0"),
    (VISA, {**ECHO, "header": "1x"}, "header", "hex digits", "another character", 1),
    (VISA, {**ECHO, "header": "1"}, "header", "two hex digits a byte", "one"),
    (
        VISA,
        {**ECHO, "header": {"x": ""}},
        "header",
        "names of its parts",
        "another key",
    ),
    (VISA, {**ECHO, "header": {"source": 1}}, "header source", "str or bytes", "int"),
    (VISA, {**ECHO, "header": {"source": ""}}, "header source", "3 bytes", "0"),
    (
        *(VISA, {**ECHO, "header": {"reject_bitmap": "0000"}}),
        *("header reject_bitmap", "its first bit set", "0"),
    ),
]


def assert_says(error, field, expected, got, offset=None):
    assert (error.field, error.expected, error.got, error.offset) == (
        *(field, expected, got),
        offset,
    )
    assert_is_whole(error)


def assert_is_whole(error):
    """The text says what the attributes do."""
    place = {None: "message", 0: "MTI", 1: "bitmap"}.get(error.field)
    if place is None:
        is_header = str(error.field).startswith("header")
        place = error.field if is_header else f"field {error.field}"
    at = "" if error.offset is None else f" at offset {error.offset}"
    assert error.expected
    assert error.got
    assert str(error) == f"{place}{at}: expected {error.expected}, got {error.got}"


@pytest.mark.parametrize("case", VALUES, ids=lambda case: str(case[2:]))
def test_a_value_that_cannot_be_written(case):
    codec, fields, *said = case
    with pytest.raises(iso8583.EncodeError) as caught:
        codec.encode(fields)
    assert_says(caught.value, *said)


@pytest.mark.parametrize("case", INSIDE, ids=lambda case: str(case[3:]))
def test_elements_that_cannot_be_written(case):
    inside, content, value, *said = case
    with pytest.raises(iso8583.EncodeError) as caught:
        codec_of(inside, content).encode({"mti": "0100", 60: value})
    assert_says(caught.value, *said)


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: str(case[3:]))
def test_a_change_that_cannot_be_made(case):
    inside, content, before, path, value, *said = case
    message = codec_of(inside, content).message({"mti": "0100", 60: before})
    change = partial(message.__setitem__, path, value)
    if value is None:
        change = partial(message.__delitem__, path)
    with pytest.raises(iso8583.EncodeError) as caught:
        change()
    assert_says(caught.value, *said)


def test_a_message_that_is_too_long():
    large = codec_of(CHIP, "b", length=65_535, prefix_digits=5)
    with pytest.raises(iso8583.EncodeError) as caught:
        large.encode({"mti": "0100", 60: "00" * 65_535})
    assert_says(caught.value, None, "at most 65535 bytes", "65552")


def test_what_was_read_of_a_message_is_none_to_write():
    part = ASCII.decode(ASCII.encode(ECHO)[:-1], partial=True)
    with pytest.raises(iso8583.EncodeError) as caught:
        part.encode()
    assert_says(caught.value, None, "a whole message", "the part before a fault")


def test_codes_of_a_reply():
    template = iso8583.ReplyTemplate(ASCII, "0110", (2,))
    with pytest.raises(iso8583.EncodeError) as caught:
        template.build(ASCII.message(ECHO), "0")
    assert_says(caught.value, 39, "2 ASCII characters", "another value")


def faults_of(codec, data):
    """Of reading it all, as one that decodes, shows and validates would meet them."""
    try:
        message = codec.decode(data)
    except iso8583.DecodeError as error:
        yield error
        if error.message is None:
            return
        message = error.message
    for read in (message.validate, *(lambda n=n: message[n] for n in message)):
        try:
            read()
        except iso8583.DecodeError as error:
            yield error


@settings(max_examples=200)
@given(codecs_and_messages(), st.data())
def test_a_fault_in_bytes_is_said_whole_and_lies_in_them(codec_and_fields, data):
    codec, fields = codec_and_fields
    frame = bytearray(codec.encode(fields))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame) - 1))
        frame[at] = data.draw(st.integers(0, 255))
    del frame[data.draw(st.integers(1, len(frame))) :]
    for error in faults_of(codec, frame):
        assert 0 <= error.offset <= len(frame)
        assert_is_whole(error)


CONTAINERS = [CHIP, SUBELEMENTS, NUMBERED, POSITIONS, DATASETS, KNOWN_ONLY]


@settings(max_examples=200)
@given(
    st.sampled_from(CONTAINERS),
    st.sampled_from(["b", "ans", "n"]),
    st.binary(max_size=30),
)
def test_a_fault_inside_a_field_names_the_field_and_lies_in_it(inside, content, data):
    try:
        codec = codec_of(inside, content)
    except iso8583.SpecError:
        # Not every container lies over packed digits.
        return
    value = data.hex()
    if content == "ans":
        value = "".join(chr(byte & 0x7F) for byte in data)
    message = codec.message({"mti": "0100", 60: value})
    start = len(message.encode()) - len(data)
    for error in faults_of(codec, message.encode()):
        assert str(error.field).partition(".")[0] == "60"
        assert start <= error.offset <= start + len(data)
        assert_is_whole(error)
