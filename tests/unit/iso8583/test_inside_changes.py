"""What is inside fields, written and changed: what nobody touches keeps its bytes."""

import pytest

import iso8583
from iso8583.inside import (
    DEPTH_MAX,
    ELEMENTS_MAX,
    BerTlv,
    NestedBitmap,
    Positional,
)
from tests.unit.iso8583.inside_specs import (
    CHIP,
    DATASETS,
    NUMBERED,
    POSITIONS,
    SUBELEMENTS,
    codec_of,
    field,
    message,
)

DIGITS = Positional(fields=(field(1), field(2), field(3)), required=1)
HEX = BerTlv(hex=True)


@pytest.mark.parametrize(
    ("inside", "content", "before", "place", "value", "after"),
    [
        # in the middle, longer and shorter than it was; how others say their lengths
        # and what is between them stays
        (CHIP, "b", "9A810326112400009C0101", "9C", "0203", "9A810326112400009C020203"),
        (CHIP, "b", "009C01019A03261124", "9C", "", "009C009A03261124"),
        (CHIP, "b", "9C01019C01029C0103", "9C#2", "AA", "9C01019C01AA9C0103"),
        # behind the others, in a template, with the template
        (CHIP, "b", "9C0101", "9A", "261124", "9C01019A03261124"),
        (CHIP, "b", "70039C0101DF0100", "70.9C", "0203", "70049C020203DF0100"),
        (CHIP, "b", "70039C0101", "70.9F36", "0001", "70089C01019F36020001"),
        (CHIP, "b", "9C0101", "70.70.9A", "01", "9C0101700570039A0101"),
        (CHIP, "b", "", "9A", "7F" * 128, "9A8180" + "7F" * 128),
        (CHIP, "b", "", "9A", "7F" * 256, "9A820100" + "7F" * 256),
        (HEX, "ans", "9C0101", "9C", "0203", "9C020203"),
        (HEX, "ans", "70039c0101", "70.9C", "0203", "70049C020203"),
        (SUBELEMENTS, "ans", "R6105100009203123", "61.2", "7", "R6105170009203123"),
        (SUBELEMENTS, "ans", "R9203123", "61.1", "1", "R920312361011"),
        (SUBELEMENTS, "ans", "R9203123", "92", "", "R9200"),
        (SUBELEMENTS, "ans", "R9203123", "category", "T", "T9203123"),
        (SUBELEMENTS, "ans", "R9203123", "77", "C01", "R92031237703C01"),
        (DIGITS, "n", "122", "1", "9", "922"),
        (DIGITS, "n", "1", "2", "34", "134"),
        (DATASETS, "b", "560003800101", "56.81", "02", "560006800101810102"),
        (DATASETS, "b", "560003800101", "57.80", "02", "560003800101570003800102"),
    ],
)
def test_a_change_keeps_everything_else(inside, content, before, place, value, after):
    codec = codec_of(inside, content)
    changed = message(codec, before)
    copied = changed.copy()
    changed[f"60.{place}"] = value
    assert changed[60] == after
    assert changed[f"60.{place}"] == value
    assert codec.decode(bytes(changed)) == changed
    assert copied[60] == before
    assert changed[11] == "000017"


@pytest.mark.parametrize(
    ("inside", "content", "before", "place", "after"),
    [
        (CHIP, "b", "9C0101009A03261124", "9C", "009A03261124"),
        (CHIP, "b", "9C01019C0102", "9C#2", "9C0101"),
        (CHIP, "b", "70069C01019A0101", "70.9C", "70039A0101"),
        (CHIP, "b", "70039C0101", "70.9C", "7000"),
        (CHIP, "b", "9C0101", "9C", ""),
        (SUBELEMENTS, "ans", "R6105100009203123", "61", "R9203123"),
        (SUBELEMENTS, "ans", "R610510000", "61.5", "R61041000"),
        (DIGITS, "n", "134", "2", "1"),
    ],
)
def test_what_is_deleted_is_gone(inside, content, before, place, after):
    codec = codec_of(inside, content)
    changed = message(codec, before)
    del changed[f"60.{place}"]
    assert changed[60] == after
    assert codec.decode(bytes(changed)) == changed
    with pytest.raises(KeyError):
        del changed["60.zz"]


def test_a_bitmap_is_kept_right():
    changed = message(codec_of(NUMBERED), {64: "01020304"})
    changed["60.2"] = "123456789012345"
    changed["60.1"] = "Y"
    assert changed[60] == "C000000000000001E8012345678901234501020304"
    changed["60.2"] = "000000000000000"
    assert changed["60.64"] == "01020304"
    del changed["60.1"]
    assert changed[60] == "4000000000000001000000000000000001020304"
    del changed["60.2"]
    del changed["60.64"]
    assert changed[60] == "00" * 8
    hexed = NestedBitmap(size=1, encoding="hex", fields={1: field(1), 8: field(1)})
    changed = message(codec_of(hexed, "ans"), "01b")
    changed["60.1"] = "a"
    assert changed[60] == "81ab"


def test_a_field_that_was_not_there():
    codec = codec_of(CHIP)
    changed = codec.message({"mti": "0100"})
    changed["60.70.9C"] = "01"
    assert changed[60] == "70039C0101"
    changed[60] = {"9A": "261124"}
    assert changed.to_dict(inside=True)[60] == {"9A": "261124"}
    changed["60"] = "9C0102"
    assert changed["60.9C"] == "02"
    del changed["60"]
    assert 60 not in changed
    with pytest.raises(KeyError):
        del changed["60"]


def test_an_element_takes_a_mapping_and_bytes():
    changed = message(codec_of(CHIP), "9C0101")
    changed["60.70"] = {"9A": b"\x26\x11\x24", "5F34": "01"}
    assert changed[60] == "9C010170099A032611245F340101"


@pytest.mark.parametrize(
    ("inside", "content", "value", "place"),
    [
        (CHIP, "b", {"9": "01"}, "60"),
        (CHIP, "b", {"9F": "01"}, "60"),
        (CHIP, "b", {"9C01": "01"}, "60"),
        (CHIP, "b", {"00": "01"}, "60"),
        (CHIP, "b", {"9F818101": "01"}, "60"),
        (CHIP, "b", {"9C": "0"}, "60.9C"),
        (CHIP, "b", {"9C": "0G"}, "60.9C"),
        (CHIP, "b", {"9C": 1}, "60.9C"),
        (CHIP, "b", {"9C": {"9A": "01"}}, "60.9C"),
        (CHIP, "b", {"70": {"9C": "0"}}, "60.70.9C"),
        (CHIP, "b", {"9C": "00" * 1000}, 60),
        (SUBELEMENTS, "ans", {"61": "1"}, "60"),
        (SUBELEMENTS, "ans", {"category": "R", "6": "1"}, "60"),
        (SUBELEMENTS, "ans", {"category": "R", "6\x01": "1"}, "60"),
        (SUBELEMENTS, "ans", {"category": "R", "61": "123456"}, "60.61"),
        (SUBELEMENTS, "ans", {"category": "RR"}, "60.category"),
        (SUBELEMENTS, "ans", {"category": "é"}, "60.category"),
        (NUMBERED, "b", {"4": "1"}, "60.4"),
        (NUMBERED, "b", {"65": "1"}, "60.65"),
        (NUMBERED, "b", {"rest": "1"}, "60"),
        (NUMBERED, "b", {"1": "A", 1: "B"}, "60"),
        (POSITIONS, "b", {"2": "abc"}, "60"),
        (POSITIONS, "b", {"1": "ab", "3": "abcd"}, "60"),
        (POSITIONS, "b", {}, "60"),
        (POSITIONS, "b", {"1": "abc"}, "60.1"),
        (POSITIONS, "b", {"1": "ab", "4": "a"}, "60.4"),
        (DIGITS, "n", {"1": "x"}, 60),
        (
            POSITIONS,
            "b",
            dict.fromkeys(range(1, ELEMENTS_MAX + 2), "ab"),
            "60",
        ),
    ],
)
def test_what_does_not_fit_is_refused(inside, content, value, place):
    codec = codec_of(inside, content)
    with pytest.raises(iso8583.EncodeError) as caught:
        message(codec, value)
    assert caught.value.field == place


@pytest.mark.parametrize(
    ("inside", "content", "before", "place", "value"),
    [
        (CHIP, "b", "9C0101", "60.9C", None),
        (CHIP, "b", "9C0101", "60.9C", "0"),
        (CHIP, "b", "9C0101", "60.9C.9A", "01"),
        (CHIP, "b", "9C0101", "60.9", "01"),
        (CHIP, "b", "9C0101", "60.9F", "01"),
        (CHIP, "b", "9C0101", "60." + "70." * DEPTH_MAX + "9C", "01"),
        (CHIP, "b", "9C0101", "11.1", "01"),
        (CHIP, "b", "9C0101", "12.1", "01"),
        (CHIP, "b", "9C0101", "x", "01"),
        (POSITIONS, "b", "3132", "60.3", "abcd"),
        (POSITIONS, "b", "3132", "60.4", "a"),
        (POSITIONS, "b", "3132", "60.rest", "a"),
        (NUMBERED, "b", "00" * 8, "60.5", "a"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(inside, content, before, place, value):
    changed = message(codec_of(inside, content), before)
    with pytest.raises(iso8583.EncodeError):
        changed[place] = value
    assert changed[60] == before


def test_a_mapping_that_changes_the_message_meanwhile():
    changed = message(codec_of(CHIP), {"70": {"9A": "261124"}, "9C": "01"})

    class Meddler(dict):  # type: ignore[type-arg]
        def items(self):
            changed[60] = "DF0100" * 50
            changed[11] = "000018"
            return super().items()

    changed["60.70"] = Meddler({"9A": "261125"})
    assert changed.to_dict(inside=True)[60] == {"70": {"9A": "261125"}, "9C": "01"}
    assert changed[11] == "000018"


@pytest.mark.parametrize(
    ("inside", "content", "before", "place"),
    [
        (POSITIONS, "b", "3132333435", "60.1"),
        (POSITIONS, "b", "3132", "60.1"),
        (SUBELEMENTS, "ans", "R9203123", "60.category"),
    ],
)
def test_what_has_to_be_there_stays(inside, content, before, place):
    changed = message(codec_of(inside, content), before)
    with pytest.raises(iso8583.EncodeError):
        del changed[place]
    assert changed[60] == before


def test_what_has_a_fault_in_it_is_not_changed():
    changed = message(codec_of(CHIP), "9C01019A03")
    with pytest.raises(iso8583.DecodeError):
        changed["60.9C"] = "02"
    with pytest.raises(iso8583.DecodeError):
        del changed["60.9C"]
    assert changed[60] == "9C01019A03"


def test_leading_parts_are_told_from_ids():
    optional = SUBELEMENTS.__class__(
        id_size=2,
        prefix_digits=2,
        leading={"category": field(1, "a")},
        leading_optional=True,
    )
    codec = codec_of(optional, "ans")
    changed = message(codec, "R9203123")
    del changed["60.category"]
    assert changed[60] == "9203123"
    changed["60.category"] = "T"
    assert changed[60] == "T9203123"
    with pytest.raises(iso8583.EncodeError, match="another character first"):
        changed["60.category"] = "7"
    del changed["60.category"]
    with pytest.raises(iso8583.EncodeError, match="a digit first"):
        message(codec, {"A1": "123"})
