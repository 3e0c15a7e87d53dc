"""What is inside fields, read by paths and as a whole."""

import json

import msgspec
import pytest

import iso8583
from iso8583.inside import (
    DEPTH_MAX,
    ELEMENTS_MAX,
    BerTlv,
    NestedBitmap,
    Positional,
    Tagged,
)
from tests.captures import CAPTURES, VECTORS
from tests.properties.inside_reference import read
from tests.unit.iso8583.inside_specs import (
    CHIP,
    DATA_AT,
    DATASETS,
    NUMBERED,
    POSITIONS,
    SUBELEMENTS,
    codec_of,
    field,
    message,
)

CODECS = {
    name: iso8583.Codec(iso8583.load_spec(name))
    for name in ("mastercard-cis", "visa-base1")
}
INSIDE = json.loads((VECTORS / "inside.json").read_text())


def captured(spec: str, index: int) -> iso8583.Message:
    return CODECS[spec].decode(CAPTURES[spec].bodies()[index])


# ---- by path


@pytest.mark.parametrize(
    ("spec", "index", "place", "value"),
    [
        ("mastercard-cis", 0, "55.9F26", "42215634A0B2C4A7"),
        ("mastercard-cis", 0, "55.5F2A", "0840"),
        ("mastercard-cis", 0, "55.9F37", "13D46EBF"),
        ("mastercard-cis", 0, "48.tcc", "R"),
        ("mastercard-cis", 0, "48.38", "Z"),
        ("mastercard-cis", 1, "48.61.1", "1"),
        ("mastercard-cis", 1, "48.61.5", "0"),
        ("mastercard-cis", 2, "48.63", "MRW0110NZ1206  "),
        ("mastercard-cis", 0, "61.14", "902101234"),
        ("mastercard-cis", 2, "63.2", "0110NZ"),
        ("mastercard-cis", 2, "90.2", "000016"),
        ("mastercard-cis", 0, "43.5", "MO "),
        ("visa-base1", 0, "55.01.9F26", "0123456789ABCDEF"),
        ("visa-base1", 0, "60.2", "5"),
        ("visa-base1", 0, "60.6", "4"),
        ("visa-base1", 0, "62.1", "Y"),
        ("visa-base1", 0, "63.1", "0002"),
        ("visa-base1", 0, "43.3", "US"),
    ],
)
def test_captured_frames_are_read_by_path(spec, index, place, value):
    found = captured(spec, index)
    assert found[place] == value
    assert found[tuple(place.split("."))] == value
    assert place in found
    assert found.get(place) == value


@pytest.mark.parametrize("spec", CODECS)
def test_the_places_of_the_dialects_can_be_read(spec):
    dialect = iso8583.load_dialect(spec, CODECS[spec].spec)
    assert dialect.partial_approval is not None
    for place in (*dialect.trace_id, dialect.partial_approval.field):
        changed = CODECS[spec].message({"mti": "0100"})
        assert changed.get(place) is None
        steps = place.split(".")
        if place == "60.10":
            changed[60] = "050000400001"
        elif place == "62.2":
            changed[place] = "123456789012345"
        elif len(steps) > 1:
            changed[place] = "1"
        else:
            changed[place] = "1207" if place == "15" else "MCS01106L"
        assert changed[place]
    assert captured("mastercard-cis", 1)["48.61.1"] == "1"
    assert captured("mastercard-cis", 0)["63"] == "MCS01106L"


@pytest.mark.parametrize("vector", INSIDE, ids=lambda vector: vector["name"])
def test_vectors(vector):
    codec = iso8583.Codec(iso8583.load_spec(vector["spec"]))
    number = vector["field"]
    found = codec.message({"mti": "0100", number: vector["value"]})
    found.validate()
    resolved = codec.spec.field(number)
    wire, count = vector["value"].encode(), len(vector["value"])
    if resolved.encoding in ("bcd", "binary"):
        wire = bytes.fromhex("0" * (count % 2) + vector["value"])
        count = len(wire) if resolved.unit == "bytes" else count
    elif resolved.encoding is not None:
        wire = vector["value"].encode(resolved.encoding)
    assert read(resolved, codec.spec, wire, count) == vector["inside"]
    assert found.to_dict(inside=True)[number] == vector["inside"]
    assert list(found.to_dict(inside=True)[number]) == list(vector["inside"])
    assert codec.message({"mti": "0100", number: vector["inside"]}) == found


@pytest.mark.parametrize(
    "place",
    [
        *("60.9F27", "60.9F26.1", "60.9F26.9F27", "60.9F26#2", "60.70.9A", "60.1"),
        *("60.", "60..9F26", "60.9f2", "60.9F26#0", "60.9F26#", "60.#1", "60.zz"),
        *("", ".", ".9F26", "0", "1.2", "129.1", "60.9F2é", "11.1", "12.1", "6O.9F26"),
        *("60" + ".70" * DEPTH_MAX, "60" + ".70" * (DEPTH_MAX + 1), "60.9F26#00001"),
    ],
)
def test_a_place_where_nothing_is(place):
    found = message(codec_of(CHIP), "9F260101")
    assert place not in found
    assert found.get(place) is None
    assert found.get(place, "none") == "none"
    with pytest.raises(KeyError):
        found[place]
    with pytest.raises(KeyError):
        del found[place]


def test_a_place_is_a_number_a_text_or_steps():
    found = message(codec_of(CHIP), "9F260101")
    assert found[60] == found["60"] == found[(60,)] == "9F260101"
    assert found["60.9F26"] == found["60.9f26"] == found[60, "9F26"] == "01"
    for key in (None, 6.0, b"60"):
        assert key not in found
        with pytest.raises(TypeError, match="expected a field number or a path"):
            found[key]  # type: ignore[index]


def test_those_that_come_twice_are_counted():
    found = message(codec_of(CHIP), "9C0101" + "9A03261124" + "9C0102" + "9C0103")
    assert found["60.9C"] == found["60.9C#1"] == "01"
    assert found["60.9C#2"] == "02"
    assert found["60.9C#3"] == "03"
    assert "60.9C#4" not in found
    inside = found.to_dict(inside=True)[60]
    assert inside == {"9C": "01", "9A": "261124", "9C#2": "02", "9C#3": "03"}
    assert message(codec_of(CHIP), inside) == found


def test_templates_hold_tags_and_zeros_between_tags_are_padding():
    found = message(codec_of(CHIP), "0070099A03261124005F340000DF81040101")
    assert found["60.70.9A"] == "261124"
    assert found["60.70.5F34"] == ""
    assert found["60.70"] == "9A03261124005F3400"
    assert found["60.DF8104"] == "01"


@pytest.mark.parametrize("length", ["03", "8103", "820003", "83000003", "8400000003"])
def test_long_and_short_lengths(length):
    found = message(codec_of(CHIP), f"9A{length}261124")
    assert found["60.9A"] == "261124"
    found.validate()


def test_text_of_hex_digits_is_read_as_what_it_stands_for():
    codec = codec_of(BerTlv(hex=True), "an")
    found = message(codec, "70059a032611249C0101")
    assert found["60.70.9A"] == "261124"
    assert found.to_dict(inside=True)[60] == {"70": {"9A": "261124"}, "9C": "01"}
    with pytest.raises(iso8583.DecodeError) as caught:
        message(codec, "9C019A0301")["60.9A"]
    # tag 9C has one byte, 9A; what follows it is a tag of its own, and cut short
    assert caught.value.offset == DATA_AT + 10
    for value, expected in (("9C0", "an even number"), ("9C010G", "hex digits")):
        with pytest.raises(iso8583.DecodeError, match=expected):
            message(codec, value).validate()


def test_packed_digits_are_read_as_digits():
    codec = codec_of(Positional(fields=(field(1), field(2), field(1)), required=1), "n")
    found = message(codec, "1234")
    assert found.to_dict(inside=True)[60] == {"1": "1", "2": "23", "3": "4"}
    # of an odd count the first half byte is none of them
    assert message(codec, "123")["60.2"] == "23"
    with pytest.raises(iso8583.DecodeError) as caught:
        message(codec, "12345").validate()
    assert caught.value.offset == DATA_AT + 2


def test_each_element_has_axes_of_its_own():
    found = message(
        codec_of(NUMBERED), "E000000000000001E80123456789012345036162630102FEFF"
    )
    assert found.to_dict(inside=True)[60] == {
        "1": "Y",
        "2": "123456789012345",
        "3": "abc",
        "64": "0102FEFF",
    }


def test_a_hex_bitmap():
    codec = codec_of(
        NestedBitmap(size=1, encoding="hex", fields={1: field(1), 8: field(2)}), "ans"
    )
    found = message(codec, "81Xyz")
    assert found.to_dict(inside=True)[60] == {"1": "X", "8": "yz"}
    assert message(codec, {8: "yz", 1: "X"}) == found
    with pytest.raises(iso8583.DecodeError, match="a bitmap of 2 hex digits"):
        message(codec, "8GXyz").validate()


def test_bitmaps_nest():
    inner = NestedBitmap(size=2, fields={2: field(3, prefix_digits=1)})
    outer = NestedBitmap(
        size=8, fields={25: field(99, "b", prefix_digits=2, inside=inner)}
    )
    codec = codec_of(outer)
    found = message(codec, {25: {2: "abc"}})
    assert (
        found[60] == "0000008000000000" + b"06".hex() + "4000" + b"3abc".hex().upper()
    )
    assert found["60.25.2"] == "abc"


def test_datasets_hold_tags():
    found = message(codec_of(DATASETS), "560006800480008101")
    assert found["60.56.80"] == "80008101"


def test_the_last_position_may_take_what_is_left():
    codec = codec_of(
        Positional(fields=(field(3), field(5)), required=1, open_end=True), "ans"
    )
    assert message(codec, "abc").to_dict(inside=True)[60] == {"1": "abc"}
    assert message(codec, "abcde")["60.2"] == "de"
    assert message(codec, {1: "abc", 2: "de"})[60] == "abcde"
    with pytest.raises(iso8583.DecodeError, match="at most 5, got 6"):
        message(codec, "abc123456").validate()


def test_positions_repeat():
    pair = Positional(fields=(field(1), field(2)), repeats=3, required=2)
    codec = codec_of(pair, "ans")
    found = message(codec, "abbcdd")
    assert found.to_dict(inside=True)[60] == {"1": "a", "2": "bb", "3": "c", "4": "dd"}


def test_leading_parts_may_be_left_out_where_the_spec_says_so():
    inside = msgspec.structs.replace(SUBELEMENTS, leading_optional=True)
    codec = codec_of(inside, "ans")
    assert message(codec, "R9203123")["60.category"] == "R"
    assert message(codec, "9203123").to_dict(inside=True)[60] == {"92": "123"}
    assert message(codec, "").to_dict(inside=True)[60] == {}
    with pytest.raises(iso8583.DecodeError, match=r"field 60\.92 at offset"):
        message(codec_of(SUBELEMENTS, "ans"), "R92041234").validate()


# ---- ids that the spec does not know


def test_unknown_ids_are_kept():
    found = message(codec_of(CHIP), "DF0102ABCD9C0101")
    assert found["60.DF01"] == "ABCD"
    found.validate()


def test_unknown_ids_have_a_length_of_their_own():
    codec = codec_of(BerTlv(tags="emv", default=field(1, "b")))
    message(codec, "9F100201029A03261124DF010101").validate()
    with pytest.raises(iso8583.DecodeError, match="a length of at most 1, got 2"):
        message(codec, "DF01020101").validate()


def test_unknown_ids_are_passed_over():
    inside = BerTlv(fields={"9C": field(1, "b")}, unknown="skip")
    found = message(codec_of(inside), "DF0102ABCD9C0101DF0100")
    assert "60.DF01" not in found
    assert found.to_dict(inside=True)[60] == {"9C": "01"}
    found.validate()
    # but they are not lost
    found["60.9C"] = "02"
    assert found[60] == "DF0102ABCD9C0102DF0100"


def test_unknown_ids_are_refused():
    inside = BerTlv(fields={"9C": field(1, "b")}, unknown="refuse")
    found = message(codec_of(inside), "9C0101DF0102ABCD")
    # nobody has got so far yet
    assert found["60.9C"] == "01"
    with pytest.raises(iso8583.DecodeError, match="a tag of the spec") as caught:
        found.validate()
    assert (caught.value.field, caught.value.offset) == ("60", DATA_AT + 3)


@pytest.mark.parametrize("unknown", ["keep", "skip"])
def test_what_is_behind_the_last_position(unknown):
    codec = codec_of(Positional(fields=(field(2),), unknown=unknown), "ans")
    found = message(codec, "abcdef")
    assert found["60.1"] == "ab"
    assert found.get("60.rest") == ("cdef" if unknown == "keep" else None)
    found["60.1"] = "AB"
    assert found[60] == "ABcdef"


# ---- faults


@pytest.mark.parametrize(
    ("inside", "value", "place", "at", "expected", "got"),
    [
        (CHIP, "9C01019A0326", "60.9A", 5, "3 bytes of data", "1"),
        (CHIP, "9C01019A", "60.9A", 4, "a length of 1 bytes", "0"),
        (CHIP, "9F", "60", 0, "a tag of 2 bytes", "1"),
        (CHIP, "9F8181", "60", 0, "a tag of at most 3 bytes", "more"),
        (CHIP, "9A80", "60.9A", 1, "a length of 1 to 4 bytes", "0"),
        (CHIP, "9A8500000000", "60.9A", 1, "a length of 1 to 4 bytes", "5"),
        (CHIP, "9A8201", "60.9A", 2, "a length of 2 bytes", "1"),
        (
            CHIP,
            "9A84FFFFFFFF00",
            "60.9A",
            6,
            "a length of at most 65535",
            f"{2**32 - 1}",
        ),
        (CHIP, "70039A03261124", "60.70.9A", 4, "3 bytes of data", "1"),
        (CHIP, "DF0103AA", "60", 3, "3 bytes of data", "1"),
        (DATASETS, "5600", "60", 1, "a length of 2 bytes", "1"),
        (DATASETS, "56000480039A01", "60.56", 5, "3 bytes of data", "2"),
        (NUMBERED, "80", "60", 0, "a bitmap of 8 bytes", "1"),
        (NUMBERED, "8000000000000000", "60.1", 8, "1 bytes of data", "0"),
        (NUMBERED, "8000000000000000E8FF", "60", 9, "the end", "1 more bytes"),
        (NUMBERED, "1000000000000000", "60", 8, "an element of the spec", None),
        (NUMBERED, "200000000000000015", "60.3", 8, "a length of at most 20", "21"),
        (POSITIONS, "313233", "60.2", 2, "3 bytes of data", "1"),
        (POSITIONS, "", "60", 0, "at least 1 elements", "0"),
        (POSITIONS, "31" * 10, "60", 9, "the end", "1 more bytes"),
        (SUBELEMENTS, "5239", "60", 1, "an id of 2 bytes", "1"),
        (SUBELEMENTS, "", "60", 0, "at least 1 elements", "0"),
    ],
)
def test_a_fault_says_where_it_is(inside, value, place, at, expected, got):
    codec = codec_of(inside, "ans" if inside is SUBELEMENTS else "b")
    found = message(codec, bytes.fromhex(value))
    for reading in (found.validate, lambda: found.to_dict(inside=True)):
        with pytest.raises(iso8583.DecodeError) as caught:
            reading()
        error = caught.value
        assert (error.field, error.offset) == (place, DATA_AT + at)
        assert error.expected == expected
        assert error.got == got or (
            got is None and error.got.startswith("an undefined")
        )
        assert str(error).startswith(f"field {place} at offset {DATA_AT + at}: ")
    # It is nobody's business who asks for something else.
    assert codec.decode(bytes(found)) == found
    assert len(found[60]) == len(value) // (2 if inside is SUBELEMENTS else 1)


def test_text_inside_that_is_not_in_its_encoding():
    found = message(codec_of(POSITIONS), "313233FF35")
    with pytest.raises(iso8583.DecodeError, match="text in ascii") as caught:
        found["60.2"]
    assert (caught.value.field, caught.value.offset) == ("60.2", DATA_AT + 3)
    with pytest.raises(iso8583.DecodeError, match=r"field 60\.2 at offset"):
        found.validate()


def test_validate_reads_fields_without_anything_inside_too():
    codec = codec_of(CHIP)
    frame = bytearray(bytes(message(codec, "9C0101")))
    codec.decode(frame).validate()
    frame[12] = 0xFF
    with pytest.raises(iso8583.DecodeError) as caught:
        codec.decode(frame).validate()
    assert (caught.value.field, caught.value.offset) == (11, 12)


def test_a_fault_quotes_nothing_that_the_spec_does_not_know():
    # out of step: what stands in an id's place may be anything
    found = message(codec_of(SUBELEMENTS, "ans"), "R" + "4000991234567899")
    with pytest.raises(iso8583.DecodeError) as caught:
        found.validate()
    assert caught.value.field == "60"
    assert "40" not in str(caught.value).replace("offset", "")
    with pytest.raises(iso8583.DecodeError, match="printable"):
        message(codec_of(SUBELEMENTS, "ans"), "R\x1b[01").validate()


def test_what_may_be_something_else_is_no_fault():
    inside = msgspec.structs.replace(DATASETS, strict=False)
    found = message(codec_of(inside), "F1F2F3F4")
    found.validate()
    assert found.to_dict(inside=True)[60] == "F1F2F3F4"
    with pytest.raises(iso8583.DecodeError):
        found["60.F1"]


# ---- limits


def nested(depth: int) -> bytes:
    deep = b""
    for _ in range(depth):
        deep = b"\x70" + bytes([len(deep)]) + deep
    return deep


def test_depth_is_bounded():
    codec = codec_of(CHIP)
    found = message(codec, nested(DEPTH_MAX - 1))
    found.validate()
    inside = found.to_dict(inside=True)[60]
    assert message(codec, inside) == found
    too_deep = message(codec, nested(DEPTH_MAX + 1))
    for reading in (too_deep.validate, lambda: too_deep.to_dict(inside=True)):
        with pytest.raises(iso8583.DecodeError, match=f"at most {DEPTH_MAX} deep"):
            reading()
    assert iso8583.describe(too_deep).count("deep") == 1
    with pytest.raises(iso8583.EncodeError, match=f"at most {DEPTH_MAX} deep"):
        message(codec, {"70": {"70": inside}})


def test_the_number_of_elements_is_bounded():
    codec = codec_of(CHIP, length=9999, prefix_digits=4)
    message(codec, b"\x9c\x00" * ELEMENTS_MAX).validate()
    many = message(codec, b"\x9c\x00" * (ELEMENTS_MAX + 1))
    assert many["60.9C"] == ""
    for reading in (
        many.validate,
        lambda: many.to_dict(inside=True),
        lambda: many["60.9A"],
    ):
        with pytest.raises(iso8583.DecodeError, match=f"at most {ELEMENTS_MAX} elem"):
            reading()
    assert len(many.parts()[1].parts or ()) == ELEMENTS_MAX


def test_ids_of_private_formats():
    packed = Tagged(
        id_size=2, id_encoding="bcd", prefix_digits=3, prefix_encoding="bcd"
    )
    found = message(codec_of(packed), "00230003414243")
    assert found["60.0023"] == "414243"
    pds = Tagged(id_size=4, prefix_digits=3, prefix_encoding="cp500")
    codec = codec_of(pds, "an")
    found = message(codec, "0023003POI01480048402")
    assert found["60.0023"] == "POI"
    assert found["60.0148"] == "8402"
