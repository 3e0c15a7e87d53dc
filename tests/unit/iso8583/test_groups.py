"""Elements that go on from one field to the next, read and written by one name: as
Mastercard's clearing files have private data subelements in 48, 62 and 123 to 125."""

from typing import Any

import pytest

import iso8583
from iso8583.inside import BerTlv, Positional, Tagged
from tests.unit.iso8583.inside_specs import field

FIELDS = (48, 62, 123, 124, 125)
SUBELEMENTS = Tagged(
    id_size=4,
    prefix_digits=3,
    fields={
        "0146": field(99, inside=Positional(fields=(field(2), field(3)), required=1))
    },
)


def spec_of(groups, inside=SUBELEMENTS, length=999):
    return iso8583.Spec(
        name="clearing",
        mti="ascii",
        bitmap="binary",
        prefix_encoding="ascii",
        encodings={"ans": "ascii", "b": "binary"},
        groups=groups,
        fields={
            11: field(6),
            **{
                number: field(length, prefix_digits=3, inside=inside)
                for number in FIELDS
            },
        },
    )


CODEC = iso8583.Codec(spec_of({"pds": FIELDS}))
SHORT = iso8583.Codec(spec_of({"pds": FIELDS}, length=20))


def test_an_element_is_read_wherever_it_is():
    message = CODEC.message(
        {"mti": "1240", 48: "0023003CT60002002ab", 123: "0105001X0146005dedef"}
    )
    assert message["pds.0023"] == "CT6"
    assert message["pds.0105"] == message["pds", "0105"] == "X"
    assert message["pds.0146.2"] == "def"
    assert "pds.0146" in message
    assert message.get("pds.0158", "none") == "none"
    for absent in ("pds.0158", "pds", "pds.", "fds.0023"):
        assert absent not in message
        with pytest.raises(KeyError):
            message[absent]
        with pytest.raises(KeyError):
            del message[absent]


def test_an_element_that_is_there_is_changed_in_its_place():
    message = CODEC.message({"mti": "1240", 48: "0023003CT6", 62: "0105001X"})
    message["pds.0023"] = "NA"
    assert (message[48], message[62]) == ("0023002NA", "0105001X")
    del message["pds.0105"]
    assert message.to_dict() == {"mti": "1240", 48: "0023002NA", 62: ""}


def test_a_new_element_goes_behind_the_others():
    message = SHORT.message({"mti": "1240"})
    for tag in ("0001", "0002", "0003", "0004"):
        message[f"pds.{tag}"] = "xyz"
    assert message[48] == "0001003xyz0002003xyz"
    assert message[62] == "0003003xyz0004003xyz"
    message["pds.0005"] = "xyz"
    assert message[123] == "0005003xyz"
    message["pds.0146.1"] = "ab"
    assert message[123] == "0005003xyz0146002ab"
    assert SHORT.decode(bytes(message)) == message


def test_a_group_that_is_full_takes_no_more():
    message = SHORT.message({"mti": "1240", 125: "0001013" + "x" * 13})
    before = bytes(message)
    with pytest.raises(iso8583.EncodeError) as caught:
        message["pds.0002"] = ""
    assert str(caught.value) == "field 125: expected at most 20 characters, got 27"
    with pytest.raises(iso8583.EncodeError) as caught:
        message["pds.0001"] = "x" * 14
    assert caught.value.field == 125
    assert bytes(message) == before


def test_a_wrong_value_is_not_tried_elsewhere():
    message = CODEC.message({"mti": "1240"})
    with pytest.raises(iso8583.EncodeError) as caught:
        message["pds.0002"] = "é"
    assert (caught.value.field, caught.value.offset) == ("48.0002", 0)
    with pytest.raises(iso8583.EncodeError) as caught:
        message["fds.0002"] = ""
    assert caught.value.field == "fds.0002"
    assert message.to_dict() == {"mti": "1240"}


def test_a_fault_names_the_field_that_has_it():
    message = CODEC.message({"mti": "1240", 48: "0023003CT6", 62: "0105009X"})
    assert message["pds.0023"] == "CT6"
    with pytest.raises(iso8583.DecodeError) as caught:
        message["pds.0105"]
    assert str(caught.value.field).startswith("62")


def test_a_reply_takes_them():
    request = CODEC.message({"mti": "0100", 48: "0023003CT6"})
    reply = CODEC.reply(request, copy=(48,), set={"pds.0025": "R"})
    assert reply[48] == "0023003CT60025001R"


def test_a_message_is_made_of_them():
    elements = dict.fromkeys(("0001", "0002", "0003"), "xyz")
    fields: dict[str, Any] = {"mti": "1240", "11": "000017", "pds": elements}
    message = SHORT.message(fields)
    assert message.to_dict() == {
        "mti": "1240",
        11: "000017",
        48: "0001003xyz0002003xyz",
        62: "0003003xyz",
    }
    assert {tag: message["pds", tag] for tag in elements} == elements
    assert SHORT.message(message.to_dict(inside=True)) == message
    # the caller's own dicts stay as they are
    assert fields == {"mti": "1240", "11": "000017", "pds": elements}
    # and so where fields and elements of them are given one by one
    assert SHORT.encode(
        {"mti": "1240", 48: {"0001": "xyz"}, "48.0002": "xyz", "pds.0003": "xyz"}
    ) == SHORT.encode({"mti": "1240", "pds": elements})
    reply = SHORT.reply(message, copy=(48,), set={"pds": {"0146": {"1": "ab"}}})
    assert (reply[48], reply[62]) == (message[48], "0146002ab")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"pds": "0001003xyz"}, "message: expected field numbers up to 192"),
        ({"fds": {"0001": "a"}}, "message: expected field numbers up to 192"),
        ({"pds": {"x": "a"}}, "field 48: expected the id of an element, got another"),
        ({"pds": {"0001": "é"}}, "field 48.0001 at offset 0: expected text in ascii"),
        ({48: "x", "pds.0001": "a"}, "field 48: expected an id of 4 bytes, got 1"),
        ({"48.1.2": "a"}, "field 48: expected the id of an element, got another"),
    ],
)
def test_elements_that_cannot_be(fields, text):
    with pytest.raises(iso8583.EncodeError) as caught:
        CODEC.encode({"mti": "1240", **fields})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ({"": FIELDS}, "expected a group's name of letters, got ''"),
        ({"4a": FIELDS}, "expected a group's name of letters, got '4a'"),
        ({"a.b": FIELDS}, "expected a group's name of letters, got 'a.b'"),
        ({"pds": ()}, "group pds: expected fields, each once"),
        ({"pds": (48, 48)}, "group pds: expected fields, each once"),
        ({"pds": (48, 11)}, "group pds: expected a field that is tagged or ber-tlv"),
        ({"pds": (48, 63)}, "group pds: expected a field that is tagged or ber-tlv"),
    ],
)
def test_groups_that_cannot_be(groups, text):
    with pytest.raises(iso8583.SpecError) as caught:
        spec_of(groups)
    assert text in str(caught.value)


def test_a_group_of_tags_and_a_spec_in_a_file(tmp_path):
    spec = spec_of({"tags": (62, 48)}, BerTlv(hex=True))
    iso8583.save_spec(spec, tmp_path / "tags.json")
    codec = iso8583.Codec(iso8583.load_spec(tmp_path / "tags.json"))
    assert codec.spec == spec
    message = codec.message({"mti": "1240"})
    message["tags.9C"] = "01"
    assert message.to_dict() == {"mti": "1240", 62: "9C0101"}
