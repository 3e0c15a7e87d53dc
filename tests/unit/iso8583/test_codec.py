"""Codec and Message, on messages written out by hand."""

import copy
import sys

import pytest

import iso8583

ASCII = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
MIXED = iso8583.Codec(iso8583.load_spec("iso87-mixed"))
PACKED = iso8583.Codec(iso8583.load_spec("iso87-binary"))
EBCDIC = iso8583.Codec(iso8583.load_spec("mastercard-cis"))

ECHO: dict[int | str, str] = {"mti": "0800", 7: "1207233149", 11: "000017", 70: "301"}
PURCHASE: dict[int | str, str] = {
    "mti": "0200",
    2: "4000001234567",
    3: "000000",
    4: "000000001500",
    22: "051",
    41: "TERM0001",
    55: "9F2701809F3602021D",
}

ENCODED = [
    (ASCII, ECHO, b"080082200000000000000400000000000000" + b"1207233149000017301"),
    (
        MIXED,
        ECHO,
        b"0800\x82\x20\0\0\0\0\0\0\x04\0\0\0\0\0\0\0" + b"1207233149000017301",
    ),
    (
        PACKED,
        ECHO,
        bytes.fromhex("0800 8220000000000000 0400000000000000")
        + bytes.fromhex("1207233149 000017 0301"),
    ),
    (
        EBCDIC,
        ECHO,
        "0800".encode("cp500")
        + bytes.fromhex("8220000000000000 0400000000000000")
        + "1207233149000017301".encode("cp500"),
    ),
    (
        ASCII,
        PURCHASE,
        b"0200%b%b" % (b"7000040000800200", b"134000001234567000000000000001500051")
        + b"TERM00010189F2701809F3602021D",
    ),
    (
        PACKED,
        PURCHASE,
        bytes.fromhex("0200 7000040000800200")
        + bytes.fromhex("13 04000001234567 000000 000000001500 0051")
        + b"TERM0001"
        + bytes.fromhex("0009 9F2701809F3602021D"),
    ),
    (
        EBCDIC,
        PURCHASE,
        "0200".encode("cp500")
        + bytes.fromhex("7000040000800200")
        + "134000001234567000000000000001500051TERM0001009".encode("cp500")
        + bytes.fromhex("9F2701809F3602021D"),
    ),
]


@pytest.mark.parametrize(("codec", "fields", "data"), ENCODED)
def test_encode_writes_each_form_as_by_hand(codec, fields, data):
    assert codec.encode(fields) == data


@pytest.mark.parametrize(("codec", "fields", "data"), ENCODED)
def test_decode_reads_each_form_as_by_hand(codec, fields, data):
    message = codec.decode(data)
    assert message.to_dict() == fields
    assert list(message.to_dict()) == list(fields)
    assert codec.encode(message) == data


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_decode_takes_any_bytes(wrap):
    data = ASCII.encode(ECHO)
    assert ASCII.decode(wrap(data)).to_dict() == ECHO


def test_a_message_keeps_its_own_bytes():
    data = bytearray(ASCII.encode(ECHO))
    message = ASCII.decode(data)
    data[:] = bytes(len(data))
    assert message.to_dict() == ECHO


def test_decode_refuses_what_is_not_bytes():
    with pytest.raises(TypeError):
        ASCII.decode("0800")  # type: ignore[arg-type]


# ---- reading a message


def test_fields():
    message = ASCII.message(PURCHASE)
    assert message.mti == "0200"
    assert message[2] == "4000001234567"
    assert 2 in message
    assert 5 not in message
    assert list(message) == [2, 3, 4, 22, 41, 55]
    assert message.get(41) == "TERM0001"
    assert message.get(42) is None
    assert message.get(42, "none") == "none"


@pytest.mark.parametrize("field", [-1, 0, 1, 5, 65, 128, 129, 1 << 20])
def test_a_field_that_is_not_there(field):
    message = ASCII.message(PURCHASE)
    assert field not in message
    assert message.get(field) is None
    with pytest.raises(KeyError):
        message[field]
    with pytest.raises(KeyError):
        del message[field]


@pytest.mark.parametrize("field", ["two", None, 1 << 80, 2.5])
def test_what_is_no_field_number_is_not_in_a_message(field):
    assert field not in ASCII.message(PURCHASE)


def test_text_outside_ascii_is_read_in_its_codec():
    name = "CAFÉ MÜLLER".ljust(40)
    message = EBCDIC.message({"mti": "0100", 43: name})
    assert message[43] == name
    assert EBCDIC.encode(message.to_dict()) == bytes(message)


def test_text_that_is_none_in_its_codec_fails_when_read():
    message = ASCII.decode(b"08000020000000000000" + b"12345\xff")
    with pytest.raises(iso8583.DecodeError) as caught:
        message[11]
    assert (caught.value.field, caught.value.offset) == (11, 25)
    assert str(caught.value) == (
        "field 11 at offset 25: expected text in ascii, got another byte"
    )


def test_a_pad_nibble_that_is_another_fails_when_read():
    message = PACKED.decode(bytes.fromhex("0100 0000040000000000 1051"))
    with pytest.raises(iso8583.DecodeError, match="expected pad nibble 0, got another"):
        message[22]


def test_packed_digits_beyond_nine_are_letters():
    message = PACKED.decode(bytes.fromhex("0100 2000000000000000 12ABCD"))
    assert message[3] == "12ABCD"


def test_packed_track_2_has_its_separator():
    message = PACKED.message({"mti": "0100", 35: "4000001234567=2512101123"})
    assert bytes(message)[10:] == bytes.fromhex("24 4000001234567D2512101123")
    assert message[35] == "4000001234567=2512101123"


def test_an_empty_variable_field():
    message = ASCII.message({"mti": "0100", 48: ""})
    assert bytes(message).endswith(b"000")
    assert message[48] == ""
    assert 48 in message


def test_lowercase_hex_bitmaps_are_read_and_kept():
    data = b"01000000040000c00000" + b"051" + b"TERM0001" + b"MERCHANT0000001"
    message = ASCII.decode(data)
    assert list(message) == [22, 41, 42]
    assert bytes(message) == data


# ---- changing a message


def test_set_replace_and_delete():
    message = ASCII.message(ECHO)
    message[11] = "123456"
    message[2] = "4000001234567"
    message[39] = "00"
    del message[70]
    assert message.to_dict() == {
        "mti": "0800",
        2: "4000001234567",
        7: "1207233149",
        11: "123456",
        39: "00",
    }
    assert ASCII.decode(bytes(message)) == message
    # No field above 64 is left, and so no secondary bitmap.
    assert bytes(message)[4:20] == b"4220000002000000"


def test_a_change_leaves_the_source_alone():
    data = ASCII.encode(ECHO)
    kept = bytes(bytearray(data))
    message = ASCII.decode(data)
    message[11] = "999999"
    assert data == kept


def test_the_mti_can_be_set():
    message = PACKED.message(ECHO)
    message.mti = "0810"
    assert message.mti == "0810"
    assert PACKED.decode(bytes(message)).to_dict() == {**ECHO, "mti": "0810"}


@pytest.mark.parametrize("mti", ["08", "08000", "08A0", "٠٨٠٠", ""])
def test_an_mti_is_four_digits(mti):
    message = ASCII.message(ECHO)
    with pytest.raises(iso8583.EncodeError, match="MTI: expected a str of 4 digits"):
        message.mti = mti
    with pytest.raises(iso8583.EncodeError):
        ASCII.encode({"mti": mti})
    assert message.to_dict() == ECHO


def test_a_change_that_fails_changes_nothing():
    message = ASCII.message(ECHO)
    for field, value in [(11, "1"), (5, "x"), (65, "1"), (200, "1"), (48, "é")]:
        with pytest.raises(iso8583.EncodeError):
            message[field] = value
    assert message.to_dict() == ECHO


def test_a_message_has_a_largest_size():
    codec = iso8583.Codec(
        iso8583.Spec(
            name="long",
            mti="ascii",
            bitmap="hex",
            prefix_encoding="binary",
            encodings={"ans": "ascii"},
            fields={
                number: iso8583.FieldSpec(
                    name="long", content="ans", length=65_535, prefix_digits=4
                )
                for number in (2, 3)
            },
        )
    )
    largest = {"mti": "0100", 2: "a" * (65_535 - 20 - 2)}
    data = codec.encode(largest)
    assert len(data) == 65_535
    assert codec.decode(data).to_dict() == largest
    message = codec.message(largest)
    with pytest.raises(iso8583.EncodeError, match="at most 65535 bytes, got 65537"):
        message[3] = ""
    assert message.to_dict() == largest
    with pytest.raises(iso8583.EncodeError, match="message: expected at most 65535"):
        codec.encode({**largest, 3: ""})
    with pytest.raises(iso8583.DecodeError, match="at offset 65535: expected at most"):
        codec.decode(data + b"0")


# ---- encoding


def test_field_numbers_may_be_strings():
    fields = {str(key): value for key, value in ECHO.items()}
    assert ASCII.encode(fields) == ASCII.encode(ECHO)


@pytest.mark.parametrize("codec", [ASCII, MIXED, PACKED, EBCDIC])
def test_fields_may_come_in_any_order(codec):
    values: dict[int | str, str] = {"mti": "0200"}
    for number in (2, 4, 41, 60, 90):
        values[number] = "1" * codec.spec.field(number).length
    values[55] = "9F2701809F3602021D"
    data = codec.encode({key: values[key] for key in ("mti", 2, 4, 41, 55, 60, 90)})
    for order in ((90, 2, 55, 41, "mti", 60, 4), (2, 4, 41, 55, 90, 60, "mti")):
        assert codec.encode({key: values[key] for key in order}) == data
    assert codec.decode(data).to_dict() == values


@pytest.mark.parametrize("length", [8191, 8192, 8193, 20_000])
def test_a_long_message_is_written_as_a_short_one(length):
    codec = iso8583.Codec(
        iso8583.Spec(
            name="long",
            mti="ascii",
            bitmap="binary",
            prefix_encoding="ascii",
            encodings={"ans": "ascii"},
            fields={
                number: iso8583.FieldSpec(name="long", content="ans", length=size)
                for number, size in ((2, length - 3), (3, 2), (4, 1))
            },
        )
    )
    fields = {"mti": "0100", 2: "a" * (length - 3), 3: "bc", 4: "d"}
    data = codec.encode(fields)
    assert data[12:] == b"a" * (length - 3) + b"bcd"
    assert codec.encode(dict(reversed(fields.items()))) == data


@pytest.mark.parametrize("size", [1, 17, 127, 128, 129, 255])
def test_only_hex_digits_are_hex_digits(size):
    good = "0123456789abcdefABCDEF"
    text = (good * 24)[: 2 * size]
    wanted = bytes.fromhex(text)
    assert MIXED.encode({"mti": "0200", 55: text}).endswith(wanted)
    for place in {0, 1, size, 2 * size - 1}:
        for character in map(chr, range(128)):
            fields = {"mti": "0200", 55: text[:place] + character + text[place + 1 :]}
            if character in good:
                assert MIXED.message(fields)[55] == fields[55].upper()
                continue
            with pytest.raises(iso8583.EncodeError) as caught:
                MIXED.encode(fields)
            assert caught.value.expected == "hex digits"
            assert caught.value.offset == place


def test_values_may_be_the_bytes_on_the_wire():
    fields: dict[int | str, str | bytes] = {
        "mti": "0100",
        41: b"TERM0001",
        55: bytes.fromhex("9F2701 80"),
    }
    assert MIXED.message(fields).to_dict() == {
        "mti": "0100",
        41: "TERM0001",
        55: "9F270180",
    }


def test_hex_may_be_lowercase():
    assert MIXED.message({"mti": "0100", 52: "0123456789abcdef"})[52] == (
        "0123456789ABCDEF"
    )


def test_encoding_does_not_change_the_fields_given():
    fields = {"mti": "0100", 43: "CAFÉ".ljust(40)}
    EBCDIC.encode(fields)
    assert fields == {"mti": "0100", 43: "CAFÉ".ljust(40)}


def test_a_message_of_another_spec_is_translated():
    assert PACKED.encode(ASCII.message(ECHO)) == PACKED.encode(ECHO)


class Text(str):
    """A str in all but its layout, with an encode of its own."""

    __slots__ = ()

    def encode(self, *_):
        return 5

    def __len__(self):
        return 4


@pytest.mark.parametrize("codec", [ASCII, MIXED, PACKED, EBCDIC])
def test_subclasses_of_str_are_text(codec):
    fields = {key: Text(value) for key, value in ECHO.items()}
    assert codec.encode(fields) == codec.encode(ECHO)


@pytest.mark.parametrize(
    ("codec", "fields", "text"),
    [
        (ASCII, {}, "MTI: expected a str of 4 digits, got NoneType"),
        (ASCII, {"mti": 200}, "MTI: expected a str of 4 digits, got int"),
        (ASCII, {11: "12345"}, "field 11: expected 6 characters, got 5"),
        (ASCII, {2: "1" * 20}, "field 2: expected at most 19 characters, got 20"),
        (ASCII, {11: 123456}, "field 11: expected str or bytes, got int"),
        (PACKED, {11: b"123"}, "field 11: expected str, got bytes"),
        (PACKED, {11: "12345"}, "field 11: expected 6 digits, got 5"),
        (
            PACKED,
            {11: "12345x"},
            "field 11 at offset 5: expected hex digits, got another character",
        ),
        (PACKED, {11: "12345é"}, "field 11 at offset 5: expected text in ascii, got"),
        (
            PACKED,
            {11: "12345="},
            "field 11 at offset 5: expected hex digits, got another character",
        ),
        (MIXED, {52: "123"}, "field 52: expected an even number of digits, got 3"),
        (MIXED, {52: "1234"}, "field 52: expected 8 bytes, got 2"),
        (ASCII, {43: "é" * 40}, "field 43 at offset 0: expected text in ascii, got"),
        (ASCII, {1: "0"}, "bitmap: expected a field of the spec, got an undefined"),
        (ASCII, {65: "0"}, "field 65: expected a field of the spec, got an undefined"),
        (ASCII, {129: "0"}, "field 129: expected a field of the spec, got an undefine"),
        (ASCII, {193: "0"}, "message: expected field numbers up to 192"),
        (ASCII, {1 << 80: "0"}, "message: expected field numbers up to 192"),
        (ASCII, {-2: "0"}, "message: expected field numbers up to 192"),
        (ASCII, {"x": "0"}, "message: expected field numbers up to 192"),
        (ASCII, {2.5: "0"}, "message: expected field numbers up to 192"),
        (
            ASCII,
            {11: "000017", "11": "000017"},
            "field 11: expected one value, got two",
        ),
    ],
)
def test_encode_errors_say_what_and_where(codec, fields, text):
    with pytest.raises(iso8583.EncodeError) as caught:
        codec.encode({"mti": "0100", **fields} if fields else fields)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("message", [None, b"0100", [("mti", "0100")]])
def test_encode_refuses_what_is_no_message(message):
    with pytest.raises(TypeError, match="expected a Message or a mapping"):
        ASCII.encode(message)


# ---- faults

FAULTS = [
    (ASCII, b"", 0, 0, "4 bytes", "0"),
    (ASCII, b"080", 0, 0, "4 bytes", "3"),
    (ASCII, b"08A0" + b"0" * 16, 0, 0, "4 digits", "3038..."),
    (PACKED, bytes.fromhex("08A0 0000000000000000"), 0, 0, "4 digits", "08a0"),
    (ASCII, b"08008220", 1, 4, "16 bytes", "4"),
    (MIXED, b"0800\x82", 1, 4, "8 bytes", "1"),
    (ASCII, b"080082200000000000000400", 1, 20, "16 bytes", "4"),
    (ASCII, b"0800822000000000000x", 1, 4, "16 hex digits", "another character"),
    (
        ASCII,
        b"080080000000000000008000000000000000",
        65,
        36,
        "a field of the spec",
        "an undefined one",
    ),
    (
        ASCII,
        b"01004000000000000000" + b"1",
        2,
        20,
        "a length prefix of 2 bytes",
        "1",
    ),
    (
        ASCII,
        b"01004000000000000000" + b" 4" + b"1234",
        2,
        20,
        "a length prefix of digits",
        "2034",
    ),
    (
        PACKED,
        bytes.fromhex("0100 4000000000000000 1A 00"),
        2,
        10,
        "a length prefix of digits",
        "1a",
    ),
    (
        ASCII,
        b"01004000000000000000" + b"20" + b"1" * 20,
        2,
        20,
        "at most 19 characters",
        "20",
    ),
    (
        ASCII,
        b"01004000000000000000" + b"16" + b"1" * 15,
        2,
        22,
        "16 bytes of data",
        "15",
    ),
    (ASCII, b"01000020000000000000" + b"1" * 5, 11, 20, "6 bytes of data", "5"),
    (
        ASCII,
        b"01000020000000000000" + b"1" * 8,
        None,
        26,
        "the end of the message",
        "2 more bytes",
    ),
    (ASCII, b"0" * 65_536, None, 65_535, "at most 65535 bytes", "65536"),
]


@pytest.mark.parametrize(
    ("codec", "data", "field", "offset", "expected", "got"), FAULTS
)
def test_decode_errors_say_what_and_where(codec, data, field, offset, expected, got):
    with pytest.raises(iso8583.DecodeError) as caught:
        codec.decode(data)
    error = caught.value
    assert (error.field, error.offset, error.expected, error.got) == (
        field,
        offset,
        expected,
        got,
    )
    assert f"at offset {offset}: expected {expected}, got {got}" in str(error)
    if field in (0, 1) or len(data) > 65_535:
        assert error.message is None
    else:
        assert error.message is not None
        assert error.message.mti == "0800" if field == 65 else "0100"


def test_a_partial_message_has_the_fields_before_the_fault():
    data = PACKED.encode({**PURCHASE, 90: "0" * 42})
    with pytest.raises(iso8583.DecodeError) as caught:
        PACKED.decode(data[:-35])
    partial = caught.value.message
    assert partial is not None
    assert partial.to_dict() == {
        key: value for key, value in PURCHASE.items() if key not in (41, 55, 90)
    }
    # It is a message like any other.
    partial[39] = "30"
    partial.mti = "0210"
    assert PACKED.decode(bytes(partial)) == partial


def test_no_field_content_in_errors():
    pan = "4000001234567899"
    track = f"{pan}=25121011234"
    data = ASCII.encode({"mti": "0100", 2: pan, 35: track, 52: pan})
    texts = []
    for size in range(20, len(data)):
        with pytest.raises(iso8583.DecodeError) as caught:
            ASCII.decode(data[:size])
        texts.append(str(caught.value) + repr(caught.value))
    for field, value in [(11, pan), (2, pan * 2), (35, track + "é"), (pan, "1")]:
        with pytest.raises(iso8583.EncodeError) as refused:
            ASCII.encode({"mti": "0100", field: value})
        texts.append(str(refused.value) + repr(refused.value))
    for text in texts:
        assert pan[:6] not in text
        assert pan[-6:] not in text


# ---- the objects


def test_equality_is_of_mti_and_fields():
    message = ASCII.message(ECHO)
    assert message == ASCII.decode(bytes(message))
    assert message != ASCII.message({**ECHO, 11: "000018"})
    assert message != ASCII.message({**ECHO, "mti": "0810"})
    assert message != ASCII.message({key: ECHO[key] for key in ("mti", 7, 11)})
    assert message != MIXED.message(ECHO)
    assert message != ECHO
    assert message == iso8583.Codec(iso8583.load_spec("iso87-ascii")).message(ECHO)
    with pytest.raises(TypeError):
        hash(message)


def test_equality_ignores_how_bitmaps_are_written():
    plain = ASCII.decode(b"01000000040000000000" + b"051")
    empty_secondary = ASCII.decode(b"0100800004000000000" + b"0" * 17 + b"051")
    assert plain == empty_secondary
    assert bytes(plain) != bytes(empty_secondary)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda m: m.copy()])
def test_a_copy_is_apart(duplicate):
    message = ASCII.message(ECHO)
    other = duplicate(message)
    assert other == message
    other[11] = "999999"
    assert message[11] == "000017"


def test_repr_shows_numbers_and_no_content():
    message = ASCII.message(
        {"mti": "0200", 2: "4000001234567", 52: "1" * 16, 3: "0" * 6}
    )
    assert repr(message) == "<Message 0200 of iso87-ascii: fields 2, 3, 52>"
    assert repr(ASCII) == "<Codec iso87-ascii>"


def test_messages_come_from_a_codec():
    with pytest.raises(TypeError, match=r"Codec\.decode"):
        iso8583.Message()


def test_a_message_made_around_the_constructor_is_harmless():
    message = iso8583.Message.__new__(iso8583.Message)
    assert list(message) == []
    assert 2 not in message
    assert message.get(2) is None
    with pytest.raises(AttributeError):
        message[2] = "4000001234567"
    with pytest.raises(AttributeError):
        repr(message)
    with pytest.raises(AttributeError):
        message.mti = "0100"
    assert message != ASCII.message(ECHO)
    assert message.copy() == message


def test_the_size_of_a_message_is_known():
    message = ASCII.message(ECHO)
    assert 0 < sys.getsizeof(message) - sys.getsizeof(message.encode()) <= 488
    before = sys.getsizeof(message)
    message[2] = "9999990000000014"
    assert sys.getsizeof(message) == before + len("169999990000000014")
