"""moov's specs: beside a message of moov's own, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import iso8583

VECTORS = Path(__file__).parents[2] / "vectors"
OWN = VECTORS / "moov-own.json"
HEAD: dict[str, Any] = {
    "0": {"type": "String", "length": 4, "enc": "ASCII", "prefix": "ASCII.Fixed"},
    "1": {"type": "Bitmap", "enc": "HexToASCII", "prefix": "Hex.Fixed"},
}
TEXT: dict[str, Any] = {
    "type": "String",
    "length": 6,
    "enc": "ASCII",
    "prefix": "ASCII.Fixed",
}
VARIABLE = TEXT | {"prefix": "ASCII.LL"}
COMPOSITE: dict[str, Any] = {"type": "Composite", "length": 99, "prefix": "ASCII.LL"}


def positional(**subfields):
    return COMPOSITE | {"tag": {"sort": "StringsByInt"}, "subfields": subfields}


def tagged(enc, length, subfields, **more):
    tag = {"enc": enc, "length": length, "sort": "StringsByInt", **more}
    return COMPOSITE | {"tag": tag, "subfields": subfields}


def load(path, fields, left_out=None, **top):
    file = path / "own.json"
    file.write_text(json.dumps({"name": "x", "fields": HEAD | fields, **top}))
    return iso8583.load_spec(file, left_out)


def as_yaml(path, text):
    file = path / "own.yaml"
    file.write_text(text)
    return iso8583.load_spec(file)


def test_a_message_that_moov_packed_is_read_and_written_byte_for_byte():
    data = bytes.fromhex((VECTORS / "moov-own.hex").read_text())
    codec = iso8583.Codec(iso8583.load_spec(OWN))
    assert codec.spec.name == "Own"
    message = codec.decode(data)
    message.validate()
    expected: dict[int | str, str] = {
        2: "9999990000000000015", 3: "001020", "3.2": "10", 4: "000000001500",
        11: "000017", 18: "5411", 41: "TERM0001        ", 44: "ABC 12",
        48: "0105hello370242", "48.37": "42", 49: "840", 52: "0123456789ABCDEF",
        53: "A1B2C3", "55.9F26": "421563A4A0B2C4A7", "60.1": "A", "60.2": "B2",
        61: "0123456789ABCDEF", 64: "1122334455667788", 70: "301",
        102: "ACCOUNT 1", "127.2": "key-1", "127.3": "000007", "127.25.2": "inner",
        "127.25.9": "BEEF", 128: "99AABBCCDDEEFF00",
    }  # fmt: skip
    assert {path: message[path] for path in expected} == expected
    assert codec.encode(message.to_dict()) == data
    assert codec.encode(message.to_dict(inside=True)) == data


def test_yaml_of_the_same_shape_is_the_same_spec(tmp_path):
    text = yaml.safe_dump(json.loads(OWN.read_text()))
    assert as_yaml(tmp_path, text) == iso8583.load_spec(OWN)


def test_an_id_with_a_zero_before_it_is_what_yaml_has(tmp_path):
    field = tagged("ASCII", 3, {"010": VARIABLE})
    text = yaml.safe_dump({"fields": HEAD | {"48": field}}).replace("'", "")
    spec = as_yaml(tmp_path, text)
    assert spec == load(tmp_path, {"48": field}, name="own")
    assert list(spec.fields[48].inside.fields) == ["010"]


def test_a_saved_spec_of_moov_is_loaded_as_it_was(tmp_path):
    spec = iso8583.load_spec(OWN)
    iso8583.save_spec(spec, tmp_path / "saved.json")
    assert iso8583.load_spec(tmp_path / "saved.json") == spec


def test_card_data_is_masked_though_moov_does_not_say_what_it_is():
    fields = iso8583.load_spec(OWN).fields
    assert [fields[number].sensitive for number in (2, 52, 55, 127)] == [
        "pan", "pin", "chip", "private",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "data"),
    [
        (tagged("BCD", 3, {"7": VARIABLE}), {"0007": "ab"}, b"06\x00\x0702ab"),
        (
            tagged("ASCII", 3, {"7": VARIABLE}, padding={"type": "Left", "pad": "0"}),
            {"007": "ab"},
            b"0700702ab",
        ),
        (
            tagged("ASCII", 3, {"A": VARIABLE}, padding={"type": "Right", "pad": "x"}),
            {"Axx": "ab"},
            b"07Axx02ab",
        ),
        (tagged("Binary", 2, {"AB": VARIABLE}), {"4142": "ab"}, b"06AB02ab"),
        (tagged("ASCIIToHex", 2, {"fe01": VARIABLE}), {"FE01": "c"}, b"05\xfe\x0101c"),
        (
            positional(**{"2": TEXT, "10": {**TEXT, "prefix": "None.Fixed"}}),
            {"1": "abcdef", "2": "rest of it"},
            b"16abcdefrest of it",
        ),
        (TEXT | {"type": "Binary", "enc": "HexToASCII"}, "0A" * 6, b"0A" * 6),
        (
            TEXT | {"type": "Binary", "enc": "HexToASCII", "prefix": "Hex.Fixed"},
            "0A" * 6,
            b"0A" * 6,
        ),
        (VARIABLE | {"prefix": "Binary.LL", "enc": "EBCDIC"}, "a", b"\x00\x01\x81"),
        (VARIABLE | {"prefix": "BCD.LLL", "enc": "LBCD"}, "123", b"\x00\x03\x12\x30"),
        (VARIABLE | {"enc": "Binary"}, "é", b"01\xe9"),
    ],
)
def test_a_form_as_by_hand(field, value, data, tmp_path):
    codec = iso8583.Codec(load(tmp_path, {"48": field}))
    encoded = codec.encode({"mti": "0100", 48: value})
    assert encoded == b"01000000000000010000" + data
    message = codec.decode(encoded)
    message.validate()
    assert message.to_dict(inside=True)[48] == value


INCONSISTENT = "moov writes another length than it reads"
TLV = {"type": "Binary", "length": 9, "enc": "Binary", "prefix": "BerTLV"}


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (TEXT | {"type": "Track1"}, "type Track1: no counterpart"),
        (TEXT | {"type": "Bitmap"}, "type Bitmap: no counterpart"),
        (TEXT | {"enc": "EBCDIC1047"}, "enc EBCDIC1047: no counterpart"),
        (TEXT | {"enc": "BerTLVTag"}, "enc BerTLVTag: no counterpart"),
        (TEXT | {"prefix": "ASCII.LLLLL"}, "prefix ASCII.LLLLL: no counterpart"),
        (TEXT | {"prefix": "None.Fixed"}, "prefix None.Fixed: no counterpart"),
        (TEXT | {"prefix": "Hex.LL"}, "prefix Hex.LL: lengths in hex digits"),
        (TEXT | {"prefix": "Binary.LLLL"}, "prefix Binary.LLLL: expected at most 3"),
        (TEXT | {"prefix": "Hex.Fixed"}, f"prefix Hex.Fixed: {INCONSISTENT}"),
        (TEXT | {"enc": "ASCIIToHex"}, f"prefix ASCII.Fixed: {INCONSISTENT}"),
        (VARIABLE | {"enc": "HexToASCII"}, "enc HexToASCII: a length that counts"),
        (TEXT | {"length": 0}, "length: expected 1..65535, got 0"),
        (TEXT | {"length": 1 << 70}, "length: expected 1..65535, got 118"),
        (TEXT | {"length": "six"}, "Expected `int`, got `str` - at `$.length`"),
        (VARIABLE | {"length": 100}, "expected a length of at most 99"),
        (TEXT | {"lenght": 6}, "unknown field `lenght`"),
        (TEXT | {"padding": {"type": "Up", "pad": "0"}}, "padding Up: no counterpart"),
        (TEXT | {"subfields": {"1": TEXT}}, "type String: expected nothing inside"),
        ("text", "Expected `object`, got `str`"),
        (None, "Expected `object`, got `null`"),
        (COMPOSITE, "subfields: expected some"),
        (COMPOSITE | {"subfields": {"1": TEXT}}, "expected either tag or bitmap"),
        (positional(a=TEXT), "tag.sort: expected ids that are Ints"),
        (positional(**{"1": TEXT | {"type": "x"}}), "field 48.1: type x"),
        (tagged("ASCII", 2, {"01": TEXT}), "field 48.01: prefix: expected a length"),
        (tagged("ASCII", 3, {"01": VARIABLE}), "element 01: expected an id of 3 bytes"),
        (tagged("LBCD", 3, {"01": VARIABLE}), "tag.enc LBCD: no counterpart"),
        (
            tagged("ASCII", 1, {"1": VARIABLE, "2": VARIABLE | {"prefix": "BCD.LL"}}),
            "subfields: expected the same prefix behind every tag",
        ),
        (tagged("BerTLVTag", 0, {"9A": VARIABLE}), "48.9A: prefix: expected BerTLV"),
        (
            tagged("BerTLVTag", 0, {"9A": TLV | {"enc": "BCD", "type": "String"}}),
            "counts digits",
        ),
        (tagged("BerTLVTag", 0, {"9F": TLV}), "element 9F: expected a tag"),
        (
            tagged("BerTLVTag", 0, {"9a": TLV, "9A": TLV}),
            "48.9A: expected each id once",
        ),
        (
            COMPOSITE | {"bitmap": HEAD["1"], "subfields": {"2": TEXT}},
            "bitmap: expected disableAutoExpand",
        ),
        (
            COMPOSITE
            | {
                "bitmap": {**HEAD["1"], "disableAutoExpand": True},
                "subfields": {"65": TEXT},
            },
            "field 48.65: expected a number in 1..64",
        ),
    ],
)
def test_what_cannot_be_expressed_is_named_by_field_and_key(field, said, tmp_path):
    with pytest.raises(iso8583.SpecError) as raised:
        load(tmp_path, {"11": TEXT, "48": field})
    text = str(raised.value)
    assert said in text
    assert "own.json: field 48" in text
    left_out: list[str] = []
    spec = load(tmp_path, {"11": TEXT, "48": field}, left_out)
    assert 11 in spec.fields
    assert left_out
    assert all(fault.startswith("field 48") for fault in left_out)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"0": TEXT}, "field 0: expected an MTI"),
        (
            {"1": HEAD["1"] | {"length": 16}},
            "field 1: expected a Bitmap that grows by 8 bytes, got",
        ),
        ({"1": HEAD["1"] | {"enc": "BCD"}}, "field 1: expected a Bitmap, enc Binary"),
        ({"x": TEXT}, "field x: expected a number in 0..192, got 'x'"),
        ({"193": TEXT}, "field 193: expected a number in 0..192"),
        ({"11": TEXT, "011": TEXT}, "field 011: expected each id once"),
        ({"-1": TEXT}, "field -1: expected a number"),
    ],
)
def test_a_message_that_cannot_be_is_named(fields, said, tmp_path):
    with pytest.raises(iso8583.SpecError, match=said):
        load(tmp_path, fields)


def test_fields_that_say_that_there_is_another_bitmap_are_never_read(tmp_path):
    spec = load(tmp_path, {"11": TEXT, "65": TEXT, "129": TEXT, "130": TEXT})
    assert (list(spec.fields), spec.bitmaps) == ([11, 130], 3)


def test_composites_nested_without_end_are_refused(tmp_path):
    field = VARIABLE
    for _ in range(12):
        field = positional(**{"1": field})
    with pytest.raises(iso8583.SpecError, match="composites at most 8 deep"):
        load(tmp_path, {"48": field})


def test_what_else_is_in_the_file_is_named(tmp_path):
    left_out: list[str] = []
    assert load(tmp_path, {"11": TEXT}, left_out, version="1").fields
    assert left_out == ["version: no counterpart here"]


def test_without_pyyaml_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(iso8583.SpecError, match=r"own\.yaml: expected PyYAML: install"):
        as_yaml(tmp_path, "fields:\n  0: {type: String}\n")
