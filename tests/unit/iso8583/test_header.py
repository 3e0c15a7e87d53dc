"""The message header before the MTI, on messages written out by hand."""

import json
import pickle

import pytest

import iso8583
from tests.messages import content

VISA = iso8583.Codec(iso8583.load_spec("visa-base1"))
ASCII = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
# What one server hands to the next: an id, and where to and where from.
TPDU = iso8583.HeaderSpec(
    parts=(
        iso8583.HeaderPart(name="id", size=1, default="60"),
        iso8583.HeaderPart(name="to", size=2, role="destination"),
        iso8583.HeaderPart(name="from", size=2, role="source"),
    )
)
ECHO: dict[int | str, str] = {"mti": "0800", 7: "1207233149", 11: "000017", 70: "301"}
MESSAGE = "0800 8220000000000000 0400000000000000 1207233149 000017 0301"
HEADER = "16 01 02 0032 123456 654321 01 0203 040506 07 08090A 0B"
DATA = bytes.fromhex(HEADER + MESSAGE)
REJECT_HEADER = "1A 01 02 004C 654321 000000 00 0000 000000 00 000000 00 8000 0017"
REJECT = bytes.fromhex(REJECT_HEADER + HEADER + MESSAGE)


def test_the_parts_are_read_by_name():
    message = VISA.decode(DATA)
    assert message.header == {
        "header_length": "16",
        "header_format": "01",
        "text_format": "02",
        "total_length": "0032",
        "destination": "123456",
        "source": "654321",
        "round_trip_control": "01",
        "base1_flags": "0203",
        "message_status_flags": "040506",
        "batch_number": "07",
        "reserved": "08090A",
        "user_information": "0B",
    }
    assert content(message) == ECHO
    assert not message.rejected
    assert message.to_dict()["header"] == DATA[:22].hex().upper()
    assert VISA.encode(message) == VISA.encode(message.to_dict()) == DATA


def test_a_spec_without_a_header_has_none():
    message = ASCII.message(ECHO)
    assert message.header is None
    assert not message.rejected
    assert "header" not in message.to_dict()
    with pytest.raises(iso8583.EncodeError, match="header: expected none in this spec"):
        ASCII.encode({**ECHO, "header": "00"})


def test_the_default_header_has_the_right_lengths():
    assert VISA.encode(ECHO) == bytes.fromhex(
        "16 01 02 0032 000000 000000 00 0000 000000 00 000000 00" + MESSAGE
    )


def test_parts_may_be_given_by_name_and_the_others_have_their_defaults():
    data = VISA.encode(
        {**ECHO, "header": {"destination": "123456", "source": b"\x65\x43\x21"}}
    )
    assert data == bytes.fromhex(
        "16 01 02 0032 123456 654321 00 0000 000000 00 000000 00" + MESSAGE
    )


def test_lengths_given_wrong_are_made_right():
    wrong = b"\xff\x01\x02\xff\xff" + DATA[5:22]
    assert VISA.encode({**ECHO, "header": wrong}) == DATA
    assert VISA.encode({**ECHO, "header": wrong.hex()}) == DATA


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("16", "header: expected 22 or 48 bytes, got 1"),
        (DATA[:21], "header: expected 22 or 48 bytes, got 21"),
        (REJECT[:26], "header: expected 22 or 48 bytes, got 26"),
        ("x" * 44, "header at offset 0: expected hex digits, got another character"),
        ("16 3y", "header at offset 4: expected hex digits, got another character"),
        ("163", "header: expected two hex digits a byte, got one"),
        (22, "header: expected str or bytes, got int"),
        ({"sauce": "123456"}, "header: expected names of its parts, got another key"),
        ({"source": "1234"}, "header source: expected 3 bytes, got 2"),
        ({"source": 1}, "header source: expected str or bytes, got int"),
        (
            {"reject_bitmap": "0000"},
            "header reject_bitmap: expected its first bit set, got 0",
        ),
    ],
)
def test_what_cannot_be_written(header, text):
    with pytest.raises(iso8583.EncodeError) as caught:
        VISA.encode({**ECHO, "header": header})
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "header header_length at offset 0: expected 1 bytes, got 0"),
        (DATA[:6], "header destination at offset 5: expected 3 bytes, got 1"),
        (DATA[:21], "header user_information at offset 21: expected 1 bytes, got 0"),
        (b"\x17" + DATA[1:], "header header_length at offset 0: expected 22 or 26, "),
        (REJECT[:25], "header reject_code at offset 24: expected 2 bytes, got 1"),
        (REJECT[:30], "header original_header at offset 26: expected 22 bytes, got 4"),
        (
            REJECT[:22] + b"\0" + REJECT[23:],
            "header reject_bitmap at offset 22: expected its first bit set, got 0",
        ),
        (DATA[:23], "MTI at offset 22: expected 2 bytes, got 1"),
        (DATA[:22] + b"\xff\xff", "MTI at offset 22: expected 4 digits, got ffff"),
    ],
)
def test_what_cannot_be_read_is_no_message(data, text):
    with pytest.raises(iso8583.DecodeError) as caught:
        VISA.decode(data)
    assert str(caught.value).startswith(text)
    assert caught.value.message is None


def test_another_total_length_is_refused_with_all_fields_read():
    with pytest.raises(iso8583.DecodeError) as caught:
        VISA.decode(DATA[:3] + b"\x00\x33" + DATA[5:])
    error = caught.value
    assert str(error) == "header total_length at offset 3: expected 50, got 51"
    assert error.field == "header total_length"
    assert error.message == VISA.decode(DATA)
    assert bytes(error.message) == DATA


def test_what_was_read_before_a_fault_is_a_message_of_the_right_length():
    with pytest.raises(iso8583.DecodeError) as caught:
        VISA.decode(DATA[:-1])
    assert (caught.value.field, caught.value.offset) == (70, 48)
    partial = caught.value.message
    assert partial is not None
    whole = VISA.decode(DATA).header or {}
    assert partial.header == whole | {"total_length": "0028"}
    assert VISA.decode(bytes(partial)) == partial


def test_changes_keep_the_header_and_make_its_length_right():
    message = VISA.decode(DATA)
    message[39] = "00"
    message.mti = "0810"
    del message[70]
    assert bytes(message) == bytes.fromhex(
        "16 01 02 002A 123456 654321 01 0203 040506 07 08090A 0B"
        "0810 0220000002000000 1207233149 000017 F0F0"
    )


def test_a_message_of_another_spec_leaves_its_header_behind():
    message = VISA.decode(DATA)
    assert ASCII.decode(ASCII.encode(message)).to_dict() == ECHO
    assert VISA.encode(ASCII.message(ECHO)) == VISA.encode(ECHO)
    same = iso8583.Codec(VISA.spec)
    assert same.encode(message) == DATA


def test_messages_with_another_header_differ():
    message = VISA.decode(DATA)
    assert message == pickle.loads(pickle.dumps(message))
    other = VISA.message({**ECHO, "header": {"destination": "123457"}})
    assert message != other
    assert VISA.decode(REJECT) != message
    # The same message, but that it says in two bitmaps what one would.
    bitmaps = "0800 8220000000000000 0000000000000000 1207233149 000017"
    header = "16 01 02 0030 000000 000000 00 0000 000000 00 000000 00"
    longer = VISA.decode(bytes.fromhex(header + bitmaps))
    assert longer == VISA.message({"mti": "0800", 7: "1207233149", 11: "000017"})


def test_a_reply_goes_where_the_request_is_from():
    template = iso8583.ReplyTemplate(VISA, "0810", (7, 11, 70))
    assert template.build(VISA.decode(DATA), "00") == bytes.fromhex(
        "16 01 02 0034 654321 123456 01 0203 040506 07 08090A 0B"
        "0810 8220000002000000 0400000000000000 1207233149 000017 F0F0 0301"
    )


def test_a_reject_is_told_and_kept():
    message = VISA.decode(REJECT)
    assert message.rejected
    assert message.header is not None
    assert message.header["destination"] == "654321"
    assert message.header["reject_bitmap"] == "8000"
    assert message.header["reject_code"] == "0017"
    assert message.header["original_header"] == DATA[:22].hex().upper()
    assert content(message) == ECHO
    assert VISA.encode(message.to_dict()) == REJECT
    assert VISA.encode({**ECHO, "header": message.header}) == REJECT
    original = VISA.message({**ECHO, "header": message.header["original_header"]})
    assert bytes(original) == DATA
    del message[70]
    assert message.header["total_length"] == "0042"
    assert message.header["original_header"] == DATA[:22].hex().upper()
    assert VISA.decode(bytes(message)) == message


def test_a_reject_made_of_one_part_has_defaults_for_the_others():
    data = VISA.encode({**ECHO, "header": {"reject_code": "0017"}})
    message = VISA.decode(data)
    assert message.rejected
    assert message.header is not None
    assert message.header["header_length"] == "1A"
    assert message.header["reject_bitmap"] == "8000"


def test_the_header_is_shown():
    message = VISA.decode(DATA)
    assert iso8583.masked(message)["header"] == DATA[:22].hex().upper()
    shown = iso8583.describe(message).splitlines()
    assert shown[0] == "MTI 0800"
    assert shown[5] == "    H  destination: 123456"
    assert shown[13] == "    7  Transmission date and time: 1207233149"


def test_a_header_without_lengths():
    spec = iso8583.Spec(
        name="tpdu",
        header=TPDU,
        mti="ascii",
        bitmap="hex",
        prefix_encoding="ascii",
        encodings={"an": "ascii"},
        fields={
            38: iso8583.FieldSpec(name="approval", content="an", length=6),
            39: iso8583.FieldSpec(name="response", content="an", length=2),
        },
    )
    codec = iso8583.Codec(spec)
    data = bytes.fromhex("60 0001 0002") + b"0800" + b"0" * 16
    message = codec.decode(data)
    assert message.header == {"id": "60", "to": "0001", "from": "0002"}
    assert codec.encode(message.to_dict()) == data
    reply = iso8583.ReplyTemplate(codec, "0810", ()).build(message, "00")
    assert reply.startswith(bytes.fromhex("60 0002 0001") + b"0810")
    with pytest.raises(iso8583.EncodeError, match="header: expected 5 bytes, got 1"):
        codec.encode({"mti": "0800", "header": "60"})


SOURCE = {"name": "source", "size": 3, "role": "source"}
LENGTH = {"name": "length", "size": 1, "role": "header_length"}
BITMAP = {"name": "bitmap", "size": 1, "role": "reject_bitmap", "default": "80"}


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"parts": []}, "header: expected 1 to 255 bytes"),
        ({"parts": [{"name": "a", "size": 200}, {"name": "b", "size": 56}]}, "to 255"),
        ({"parts": [{"name": "a", "size": 0}]}, "Expected `int` >= 1"),
        ({"parts": [{"name": "a", "size": 1, "roll": "source"}]}, "unknown field"),
        ({"parts": [{"name": "a", "size": 1, "role": "to"}]}, "Invalid enum value"),
        ({"parts": [LENGTH, LENGTH]}, "header: expected part names that differ"),
        (
            {"parts": [{"name": "original_header", "size": 1}]},
            "none of them original_header",
        ),
        (
            {"parts": [LENGTH, {**LENGTH, "name": "second"}]},
            "header: expected one part of each role",
        ),
        (
            {"parts": [{**LENGTH, "role": "total_length"}]},
            "header length: expected 2 to 4 bytes for total_length, got 1",
        ),
        (
            {"parts": [{**LENGTH, "default": "16"}]},
            "header length: expected no default for a length",
        ),
        (
            {"parts": [{"name": "a", "size": 2, "default": "16"}]},
            "header a: expected a default of 2 bytes in hex",
        ),
        ({"parts": [{"name": "a", "size": 1, "default": "XX"}]}, "expected hex digits"),
        ({"parts": [SOURCE]}, "header: expected destination and source of the same"),
        ({"parts": [LENGTH, BITMAP]}, "expected the reject bitmap in the reject form"),
        (
            {"parts": [{"name": "a", "size": 1}], "reject": [BITMAP]},
            "header: expected a header length to tell a reject by",
        ),
        (
            {"parts": [{"name": "a", "size": 1}], "reject": [LENGTH]},
            "header: expected lengths and stations among the parts",
        ),
    ],
)
def test_a_bad_header_says_what_and_where(tmp_path, header, text):
    path = tmp_path / "bad.json"
    spec = {"name": "bad", "mti": "bcd", "bitmap": "hex", "prefix_encoding": "bcd"}
    path.write_text(json.dumps({**spec, "fields": {}, "header": header}))
    with pytest.raises(iso8583.SpecError) as caught:
        iso8583.load_spec(path)
    assert text in str(caught.value)
