"""Each form that a field may have on the wire, on bytes written out by hand.

Where they are from: BER-TLV lengths are the examples of ISO/IEC 8825-1, 8.1.3 (a
length of 201 is 81 C9); EBCDIC and Shift JIS are looked up in their code pages; the
TPDU is a terminal's, 60 and two addresses; the others follow from the widths of
ISO 8583's tables.
"""

import json

import pytest

import iso8583
from tests.unit.iso8583.test_spec import HEAD

BITMAP = "0000000000200000"


def codec_of(spec=None, **axes):
    """A codec of one field, 43 unless `number` says another."""
    number = axes.pop("number", 43)
    field = iso8583.FieldSpec(**{"name": "field", "content": "ans", **axes})
    return iso8583.Codec(
        iso8583.Spec(
            **{
                "name": "test",
                "mti": "bcd",
                "bitmap": "binary",
                "prefix_encoding": "bcd",
                "fields": {number: field},
                **(spec or {}),
            }
        )
    )


def wire(data: str) -> bytes:
    return bytes.fromhex("0100" + BITMAP + data)


BER = {"length": 70_000 >> 1, "prefix_digits": 1, "prefix_encoding": "ber"}
LATIN = {**BER, "encoding": "latin-1"}
SIGNED = {"content": "x+n", "length": 9, "encoding": "bcd", "sign": "ascii"}
TRACK = {"content": "z", "length": 37, "prefix_digits": 2, "encoding": "bcd"}
WIDE = {"length": 20, "prefix_digits": 2}


@pytest.mark.parametrize(
    ("axes", "value", "data"),
    [
        # L: one digit, in each form of a prefix.
        ({"length": 9, "prefix_digits": 1, "encoding": "ascii"}, "AB", "02 4142"),
        (
            {**WIDE, "prefix_digits": 1, "length": 9, "prefix_encoding": "cp500"}
            | {"encoding": "cp500"},
            "AB",
            "F2 C1C2",
        ),
        (
            {"length": 255, "prefix_digits": 1, "prefix_encoding": "binary"}
            | {"encoding": "ascii"},
            "A" * 200,
            "C8" + "41" * 200,
        ),
        # BER-TLV: a byte up to 127, then 81 and a byte, 82 and two.
        (LATIN, "", "00"),
        (LATIN, "A" * 127, "7F" + "41" * 127),
        (LATIN, "A" * 128, "8180" + "41" * 128),
        (LATIN, "A" * 201, "81C9" + "41" * 201),
        (LATIN, "é" * 256, "820100" + "E9" * 256),
        ({**BER, "encoding": "binary"}, "CAFE", "02 CAFE"),
        ({**BER, "encoding": "bcd"}, "123", "03 0123"),
        ({**BER, "encoding": "bcd", "unit": "bytes"}, "1234", "02 1234"),
        # Text in codecs of more bytes a character: lengths count bytes.
        ({**WIDE, "encoding": "utf-8"}, "é日", "05 C3A9 E697A5"),
        ({**WIDE, "encoding": "utf-16-be"}, "aé", "04 0061 00E9"),
        ({**WIDE, "encoding": "shift_jis"}, "a日", "03 61 93FA"),
        ({"length": 6, "encoding": "utf-8"}, "éé日"[1:] + "x", "C3A9 E697A5 78"),
        # A sign of one byte, and packed digits.
        (SIGNED, "D00001234", "44 00001234"),
        ({**SIGNED, "sign": "cp500"}, "C00001234", "C3 00001234"),
        ({**SIGNED, "length": 17}, "C0000000000001234", "43 0000000000001234"),
        # The sign as a nibble, which packed digits have anyway.
        ({**SIGNED, "sign": None}, "C00001234", "0C 00001234"),
        # Track 2: the separator is D unless the spec says F.
        (TRACK, "9999991=12", "10 9999991D12"),
        ({**TRACK, "separator": "F"}, "9999991=12", "10 9999991F12"),
        (
            {**TRACK, "separator": "F", "pad": "right", "pad_nibble": 15},
            "999999=12",
            "09 999999F12F",
        ),
        ({**TRACK, "separator": "F"}, "9999991D12", "10 9999991D12"),
    ],
)
def test_each_form_as_by_hand(axes, value, data):
    codec = codec_of(**axes)
    encoded = codec.encode({"mti": "0100", 43: value})
    assert encoded == wire(data)
    message = codec.decode(encoded)
    assert message[43] == value
    message[43] = value
    assert bytes(message) == encoded
    for size in range(len(encoded)):
        with pytest.raises(iso8583.DecodeError):
            codec.decode(encoded[:size])


@pytest.mark.parametrize("data", ["8102 4142", "83000002 4142", "8400000002 4142"])
def test_a_length_of_ber_tlv_may_have_zeros_before_it_and_keeps_them(data):
    codec = codec_of(**LATIN)
    message = codec.decode(wire(data))
    assert message[43] == "AB"
    assert codec.encode(message) == wire(data)
    message[43] = "AB"
    assert bytes(message) == wire("02 4142")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", "expected a length prefix of 1 bytes, got 0"),
        ("80", "expected a length of BER-TLV in at most 5 bytes, got 80"),
        ("85 0000000001 41", "expected a length of BER-TLV in at most 5 bytes, got 85"),
        ("FF", "expected a length of BER-TLV in at most 5 bytes, got ff"),
        ("8201", "expected a length prefix of 3 bytes, got 2"),
        ("82FFFF", "expected at most 35000 characters, got 65535"),
        ("84FFFFFFFF", "expected at most 35000 characters, got 4294967295"),
    ],
)
def test_a_length_of_ber_tlv_that_cannot_be(data, text):
    with pytest.raises(iso8583.DecodeError) as caught:
        codec_of(**LATIN).decode(wire(data))
    assert str(caught.value) == f"field 43 at offset 10: {text}"
    assert caught.value.message is not None


def test_a_count_behind_a_long_length_is_of_what_is_there():
    with pytest.raises(iso8583.DecodeError) as caught:
        codec_of(**LATIN).decode(wire("81C9 4142"))
    assert (caught.value.offset, caught.value.got) == (12, "2")


@pytest.mark.parametrize(
    ("axes", "data", "offset", "expected"),
    [
        ({**WIDE, "encoding": "utf-8"}, "03 41 C328", 12, "text in utf-8"),
        ({**WIDE, "encoding": "utf-16-be"}, "03 0041 00", 13, "text in utf-16-be"),
        (SIGNED, "45 00001234", 10, "C or D and digits"),
        (SIGNED, "43 0000123D", 10, "C or D and digits"),
        ({**SIGNED, "sign": "cp500"}, "43 00001234", 10, "C or D and digits"),
    ],
)
def test_content_in_another_form_is_an_error_when_it_is_read(
    axes, data, offset, expected
):
    codec = codec_of(**axes)
    message = codec.decode(wire(data))
    assert codec.encode(message) == wire(data)
    with pytest.raises(iso8583.DecodeError) as caught:
        message[43]
    error = caught.value
    assert (error.field, error.offset, error.expected) == (43, offset, expected)


@pytest.mark.parametrize(
    ("axes", "value", "text"),
    [
        (
            {**WIDE, "encoding": "utf-8"},
            "日" * 7,
            ": expected at most 20 bytes, got 21",
        ),
        (
            {**WIDE, "encoding": "shift_jis"},
            "é",
            " at offset 0: expected text in shift_jis",
        ),
        (
            {**WIDE, "encoding": "utf-8"},
            "\ud800",
            " at offset 0: expected text in utf-8, got another",
        ),
        (SIGNED, "E00001234", " at offset 0: expected C or D and digits, got another"),
        (SIGNED, "c00001234", " at offset 0: expected C or D and digits, got another"),
        (SIGNED, "C0000123A", " at offset 8: expected C or D and digits, got another"),
        (SIGNED, "000001234", " at offset 0: expected C or D and digits, got another"),
        (SIGNED, "C0001234", ": expected 9 characters, got 8"),
        (SIGNED, b"C\0\0\1\2", ": expected str, got bytes"),
    ],
)
def test_what_cannot_be_written(axes, value, text):
    with pytest.raises(iso8583.EncodeError) as caught:
        codec_of(**axes).encode({"mti": "0100", 43: value})
    assert str(caught.value).startswith(f"field 43{text}")


PAN = {"name": "PAN", "content": "n", "length": 19, "prefix_digits": 2}
AMOUNT = {"name": "fee", "content": "x+n", "length": 9, "encoding": "bcd"}


@pytest.mark.parametrize(
    ("top", "field", "text"),
    [
        (
            {},
            {**PAN, "encoding": "utf-8", "unit": "characters"},
            "unit bytes for utf-8",
        ),
        ({}, {**PAN, "unit": "bytes"}, "expected unit characters for ascii, got bytes"),
        ({}, {**PAN, "encoding": "undefined"}, "expected an encoding that has digits"),
        ({}, {**PAN, "encoding": "base64"}, "expected an encoding, got 'base64'"),
        ({}, {**PAN, "separator": "F"}, "a separator in packed track data only"),
        ({}, {**PAN, "content": "z", "separator": "E"}, "Invalid enum value 'E'"),
        ({}, {**PAN, "sign": "ascii"}, "a sign before packed digits of content 'x+n'"),
        ({}, {**AMOUNT, "sign": "utf-8"}, "expected a single-byte encoding"),
        (
            {},
            {**AMOUNT, "sign": "ascii", "length": 8},
            "expected a fixed length with a",
        ),
        (
            {},
            {**AMOUNT, "sign": "ascii", "prefix_digits": 2},
            "expected a fixed length",
        ),
        (
            {},
            {**AMOUNT, "sign": "ascii", "unit": "bytes"},
            "expected a sign before pac",
        ),
        ({"mti": "ber"}, PAN, "expected an encoding, got 'ber'"),
        ({"bitmaps": 4}, PAN, "Invalid enum value 4"),
        ({"versions": ["2010"]}, PAN, "Invalid enum value '2010'"),
    ],
)
def test_a_spec_that_cannot_be_says_so(tmp_path, top, field, text):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**HEAD, **top, "fields": {"28": field}}))
    with pytest.raises(iso8583.SpecError) as caught:
        iso8583.load_spec(path)
    assert text in str(caught.value)


# ---- three bitmaps

THREE = {"bitmaps": 3, "encodings": {"ans": "ascii"}}
ZEROS = "0000000000000000"
FIRST = "8000000000000000"


def test_a_tertiary_bitmap_lies_behind_the_secondary():
    codec = codec_of(THREE, number=130, length=2)
    data = bytes.fromhex("0100" + FIRST + FIRST + "4000000000000000" + "4142")
    assert codec.encode({"mti": "0100", 130: "AB"}) == data
    message = codec.decode(data)
    assert message.to_dict() == {"mti": "0100", 130: "AB"}
    assert list(message) == [130]
    assert 130 in message
    assert 129 not in message
    for size in range(len(data)):
        with pytest.raises(iso8583.DecodeError):
            codec.decode(data[:size])
    del message[130]
    assert bytes(message) == bytes.fromhex("0100" + ZEROS)
    message[130] = "AB"
    assert bytes(message) == data


def test_as_hex_digits_there_are_48():
    codec = codec_of({**THREE, "bitmap": "hex"}, number=192, length=1)
    assert codec.encode({"mti": "0100", 192: "A"}) == (
        b"\x01\x00" + (FIRST + FIRST + "0000000000000001").encode() + b"A"
    )


def test_a_tertiary_bitmap_without_fields_is_read_and_kept():
    codec = codec_of(THREE, number=130, length=2)
    data = bytes.fromhex("0100" + FIRST + FIRST + ZEROS)
    message = codec.decode(data)
    assert list(message) == []
    assert bytes(message) == data
    assert message == codec.message({"mti": "0100"})


def test_field_129_is_a_field_like_any_other():
    codec = codec_of(THREE, number=129, length=1)
    data = bytes.fromhex("0100" + FIRST + FIRST + FIRST + "41")
    assert codec.decode(data)[129] == "A"


def test_fields_behind_128_count_when_messages_are_compared():
    codec = codec_of(THREE, number=130, length=2)
    message = codec.message({"mti": "0100", 130: "AB"})
    assert message != codec.message({"mti": "0100"})
    assert message == message.copy()


def test_where_a_tertiary_bitmap_is_cut_short():
    codec = codec_of(THREE, number=130, length=2)
    with pytest.raises(iso8583.DecodeError) as caught:
        codec.decode(bytes.fromhex("0100" + FIRST + FIRST + "40"))
    assert str(caught.value) == "bitmap at offset 18: expected 8 bytes, got 1"


def test_a_spec_of_two_bitmaps_refuses_a_third():
    with pytest.raises(iso8583.DecodeError, match="field 65 at offset 18: expected a "):
        codec_of(length=1, encoding="ascii").decode(
            bytes.fromhex("0100" + FIRST + FIRST + ZEROS)
        )


@pytest.mark.parametrize(
    ("bitmaps", "number", "text"),
    [
        (2, 129, r"expected field numbers in 2\.\.128, got 129"),
        (3, 193, r"expected field numbers in 2\.\.192, got 193"),
        (3, 65, "expected no field 65, which says that there is a tertiary bitmap"),
    ],
)
def test_field_numbers_go_as_far_as_the_bitmaps(bitmaps, number, text):
    with pytest.raises(iso8583.SpecError, match=text):
        codec_of({"bitmaps": bitmaps}, number=number, length=1, encoding="ascii")


def test_a_reply_copies_fields_behind_128():
    field = iso8583.FieldSpec(name="field", content="an", length=2)
    codec = iso8583.Codec(
        iso8583.Spec(
            name="test",
            mti="ascii",
            bitmap="hex",
            bitmaps=3,
            prefix_encoding="ascii",
            encodings={"an": "ascii"},
            fields={
                38: iso8583.FieldSpec(name="approval", content="an", length=6),
                39: field,
                70: field,
                190: field,
            },
        )
    )
    template = iso8583.ReplyTemplate(codec, "0110", (70, 190))
    request = codec.message({"mti": "0100", 70: "AB", 190: "CD"})
    assert template.build(request, "00", "123456") == codec.encode(
        {"mti": "0110", 38: "123456", 39: "00", 70: "AB", 190: "CD"}
    )


# ---- versions


def test_a_spec_takes_the_versions_that_it_says():
    codec = codec_of({"versions": ["1993", "private"]}, length=1, encoding="ascii")
    for mti in ("1100", "9100"):
        message = codec.message({"mti": mti, 43: "A"})
        assert message.mti == mti
    for mti in ("0100", "2100", "8100"):
        text = f"expected version 1 or 9, got {mti[0]}"
        with pytest.raises(iso8583.EncodeError, match=f"^MTI: {text}$"):
            codec.encode({"mti": mti})
        with pytest.raises(iso8583.EncodeError, match=f"^MTI: {text}$"):
            message.mti = mti
        with pytest.raises(iso8583.DecodeError, match=f"^MTI at offset 0: {text}$"):
            codec.decode(bytes.fromhex(mti + ZEROS))
    assert message.mti == "9100"


# ---- a TPDU before everything


def test_a_reply_has_both_pairs_of_addresses_the_other_way_round():
    header = iso8583.HeaderSpec(
        parts=(
            iso8583.HeaderPart(name="tpdu", size=5, role="tpdu"),
            iso8583.HeaderPart(name="to", size=1, role="destination"),
            iso8583.HeaderPart(name="from", size=1, role="source"),
        )
    )
    field = iso8583.FieldSpec(name="response", content="an", length=2)
    codec = iso8583.Codec(
        iso8583.Spec(
            name="test",
            header=header,
            mti="bcd",
            bitmap="binary",
            prefix_encoding="bcd",
            encodings={"an": "ascii"},
            fields={38: iso8583.FieldSpec(name="x", content="an", length=6), 39: field},
        )
    )
    assert codec.encode({"mti": "0800"})[:7] == bytes.fromhex("6000000000 00 00")
    data = bytes.fromhex("60 0123 8000 AA BB 0800" + ZEROS)
    message = codec.decode(data)
    assert message.header == {"tpdu": "6001238000", "to": "AA", "from": "BB"}
    reply = iso8583.ReplyTemplate(codec, "0810", ()).build(message, "00")
    assert reply[:9] == bytes.fromhex("60 8000 0123 BB AA 0810")
    with pytest.raises(
        iso8583.DecodeError, match="header tpdu at offset 0: expected 5"
    ):
        codec.decode(data[:3])


def test_a_tpdu_has_five_bytes():
    with pytest.raises(iso8583.SpecError, match="header t: expected 5 bytes for tpdu,"):
        iso8583.HeaderPart(name="t", size=4, role="tpdu")


# ---- shipped specs of these forms, by their tables


ANSWER: dict[int | str, str] = {
    "mti": "1110",
    3: "000000",
    4: "000000001500",
    11: "000017",
    12: "261124120000",
    39: "000",
}

ANSWER_OF_2003 = ANSWER | {
    "mti": "2110",
    4: "9782000000001500",
    11: "000000000017",
    12: "20261124120000",
    39: "0000",
}


@pytest.mark.parametrize(
    ("name", "fields", "data"),
    [
        (
            "iso93-ascii",
            ANSWER,
            b"1110" + b"3030000002000000" + b"000000000000001500000017261124120000000",
        ),
        (
            "iso93-binary",
            ANSWER,
            bytes.fromhex("1110 3030000002000000 000000 000000001500 000017")
            + bytes.fromhex("261124120000 0000"),
        ),
        (
            "iso93-ascii",
            {"mti": "1520", 97: "D0000000000001500"},
            b"1520" + b"80000000000000000000000080000000" + b"D0000000000001500",
        ),
        (
            "iso93-binary",
            {"mti": "1520", 97: "D0000000000001500"},
            bytes.fromhex("1520 8000000000000000 0000000080000000")
            + bytes.fromhex("44 0000000000001500"),
        ),
        (
            "iso2003-ascii",
            ANSWER_OF_2003,
            b"2110" + b"3030000002000000" + b"000000" + b"9782000000001500"
            b"00000000001720261124120000" + b"0000",
        ),
        (
            "iso2003-binary",
            ANSWER_OF_2003,
            bytes.fromhex("2110 3030000002000000 000000 9782000000001500")
            + bytes.fromhex("000000000017 20261124120000 0000"),
        ),
        (
            "iso2003-binary",
            {"mti": "2520", 97: "D97820000000000001500"},
            bytes.fromhex("2520 8000000000000000 0000000080000000")
            + bytes.fromhex("44 97820000000000001500"),
        ),
        (
            "iso87-ebcdic",
            {"mti": "0110", 11: "000017", 39: "A1", 52: "0123456789ABCDEF"},
            bytes.fromhex("F0F1F1F0 0020000002001000 F0F0F0F0F1F7 C1F1")
            + bytes.fromhex("0123456789ABCDEF"),
        ),
        (
            "postilion",
            {
                "mti": "0800",
                127: "7000000000000000" + b"02AB".hex() + "52" * 48 + b"22".hex() * 11,
            },
            b"0800"
            + bytes.fromhex("8000000000000000 0000000000000002")
            + b"000082"
            + bytes.fromhex("7000000000000000")
            + b"02AB"
            + b"R" * 48
            + b"2" * 22,
        ),
        (
            "visa-base1",
            {"mti": "0100", 136: "0123456789ABCDEF"},
            bytes.fromhex("16 01 02 0038 000000 000000 00 0000 000000 00 000000 00")
            + bytes.fromhex("0100" + FIRST + FIRST + "0100000000000000")
            + bytes.fromhex("0123456789ABCDEF"),
        ),
    ],
)
def test_a_shipped_spec_as_by_hand(name, fields, data):
    codec = iso8583.Codec(iso8583.load_spec(name))
    assert codec.encode(fields).hex() == data.hex()
    message = codec.decode(data)
    assert {key: message[key] for key in message} | {"mti": message.mti} == fields


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("iso93-ascii", 1), ("iso93-binary", 1),
        ("iso2003-ascii", 2), ("iso2003-binary", 2),
    ],
)  # fmt: skip
def test_a_spec_of_a_later_version_refuses_other_versions(name, version):
    codec = iso8583.Codec(iso8583.load_spec(name))
    with pytest.raises(iso8583.EncodeError, match=f"expected version {version}, got 0"):
        codec.encode({"mti": "0100"})


def test_an_element_has_no_length_prefix_of_ber_tlv():
    element = iso8583.FieldSpec(
        name="x", content="b", prefix_digits=1, length=5, encoding="binary"
    )
    inside = iso8583.Positional(fields=(element,))
    with pytest.raises(iso8583.SpecError, match="prefix encoding inside a field, got"):
        codec_of({"prefix_encoding": "ber"}, length=9, encoding="ascii", inside=inside)
