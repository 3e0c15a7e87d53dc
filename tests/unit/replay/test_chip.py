import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.replay.chip import DEPTH_MAX, TAGS_MAX, Tag, read_chip_data
from switch.replay.emv_tags import EMV_TAGS

PAN = "9999990000000014"


def read(text: str):
    return read_chip_data(bytes.fromhex(text))


def test_tags_are_read_in_order_those_that_come_twice_too():
    chip = read("9C0101 9F0206000000001500 9C0100")
    assert [(tag.tag, tag.value.hex()) for tag in chip.tags] == [
        ("9C", "01"),
        ("9F02", "000000001500"),
        ("9C", "00"),
    ]
    assert chip.fault == ""
    assert chip.tags[1].name == "Amount, authorised"


def test_templates_hold_tags_and_zeros_between_tags_are_padding():
    chip = read("00 70 09 9A03261124 00 5F3400 00 DF81040101")
    template, balance = chip.tags
    assert [tag.tag for tag in template.tags] == ["9A", "5F34"]
    assert (balance.tag, balance.value) == ("DF8104", b"\x01")


@pytest.mark.parametrize("length", ["03", "8103", "820003"])
def test_long_and_short_lengths(length):
    (tag,) = read(f"9A {length} 261124").tags
    assert tag.value == bytes.fromhex("261124")


@pytest.mark.parametrize(
    ("text", "before", "fault"),
    [
        ("9C0101 9A0326", 1, "tag 9A at offset 5: expected 3 bytes, got 1"),
        ("9C0101 9A", 1, "tag 9A at offset 4: expected a length, got none"),
        ("9F", 0, "offset 0: expected a tag of 2 bytes, got fewer"),
        ("9F818181", 0, "offset 0: expected a tag of at most 3 bytes"),
        ("9A80", 0, "tag 9A at offset 1: expected a length of 1 to 2 bytes, got 0x80"),
        ("9A8300000326", 0, "expected a length of 1 to 2 bytes, got 0x83"),
        # a tag inside reaches beyond its template
        ("7003 9A0326 1124", 1, "tag 9A at offset 4: expected 3 bytes, got 1"),
    ],
)
def test_a_fault_is_told_beside_what_came_before_it(text, before, fault):
    chip = read(text)
    assert len(chip.tags) == before
    assert fault in chip.fault


def test_depth_and_number_of_tags_are_bounded():
    deep = b""
    for _ in range(DEPTH_MAX):
        deep = b"\x70" + bytes([len(deep)]) + deep
    assert read_chip_data(deep).fault == ""
    assert "deep" in read_chip_data(b"\x70" + bytes([len(deep)]) + deep).fault

    many = b"\x9c\x00" * TAGS_MAX
    assert read_chip_data(many).fault == ""
    chip = read_chip_data(many + b"\x9c\x00")
    assert len(chip.tags) == TAGS_MAX
    assert "expected at most" in chip.fault


def test_values_are_masked_by_kind():
    shown = {
        "5A": (PAN, "************0014"),
        "57": (f"{PAN}D49121", "<track, 22 characters>"),
        "9F26": ("0102030405060708", "<chip, 16 characters>"),
        "99": ("0102", "<pin, 4 characters>"),
        "5F20": (b"DOE/J".hex(), "<chip, 10 characters>"),
        # nobody knows what is in it
        "DF01": ("9999", "<chip, 4 characters>"),
        "9F02": ("000000001500", "000000001500"),
    }
    for name, (digits, masked) in shown.items():
        tag = Tag(name, bytes.fromhex(digits))
        assert tag.shown() == masked
        assert tag.shown(unmasked=True) == digits.upper()
        assert PAN not in repr(tag)


def test_a_card_number_of_odd_length_keeps_its_last_four_digits():
    tag = Tag("5A", bytes.fromhex("999999000000000017FF"))
    assert tag.shown() == "**************0017"


def test_the_table_is_well_formed():
    for name in EMV_TAGS:
        assert bytes.fromhex(name).hex().upper() == name
        constructed = bytes.fromhex(name)[0] & 0x20
        (tag,) = read_chip_data(bytes.fromhex(name) + b"\x00").tags
        assert (tag.tag, tag.tags is not None) == (name, bool(constructed))


tags_of_one_byte = st.sampled_from([t for t in EMV_TAGS if not int(t[:2], 16) & 0x20])
flat = st.lists(st.tuples(tags_of_one_byte, st.binary(max_size=300)), max_size=8)


@given(flat)
def test_what_is_written_is_read(tags):
    data = b"".join(
        bytes.fromhex(name)
        + (bytes([len(value)]) if len(value) < 0x80 else b"\x82\x01\x2c"[:1])
        + (len(value).to_bytes(2, "big") if len(value) >= 0x80 else b"")
        + value
        for name, value in tags
    )
    chip = read_chip_data(data)
    assert [(tag.tag, tag.value) for tag in chip.tags] == tags
    assert chip.fault == ""


def tags_in(tags):
    for tag in tags:
        yield tag
        yield from tags_in(tag.tags or ())


@given(st.binary(max_size=400) | st.just(b"\x70\x82") | st.just(b"\x70" * 500))
def test_any_bytes_are_read_or_told_as_a_fault(data):
    chip = read_chip_data(data)
    found = list(tags_in(chip.tags))
    assert len(found) <= TAGS_MAX
    assert sum(len(tag.value) for tag in found) <= len(data)
    for tag in found:
        assert tag.name
        assert isinstance(tag.shown(), str)
