"""Specs: what is shipped, what is refused and how it says so."""

import codecs
import json

import msgspec
import pytest

import iso8583

HEAD = {
    "name": "test",
    "mti": "ascii",
    "bitmap": "hex",
    "prefix_encoding": "ascii",
    "encodings": {"n": "ascii", "b": "binary"},
}
PAN = {"name": "PAN", "content": "n", "length": 19, "prefix_digits": 2}


def test_shipped_specs():
    assert iso8583.spec_names() == [
        "iso2003-ascii",
        "iso2003-binary",
        "iso87-ascii",
        "iso87-binary",
        "iso87-ebcdic",
        "iso87-mixed",
        "iso93-ascii",
        "iso93-binary",
        "mastercard-cis",
        "postilion",
        "visa-base1",
    ]
    for name in iso8583.spec_names():
        spec = iso8583.load_spec(name)
        assert spec.name == name
        # 65 would be the tertiary bitmap.
        fields = [*range(2, 65), *range(66, 129)]
        if name == "visa-base1":
            fields += [*range(130, 141), *range(142, 150), 152]
        assert list(spec.fields) == fields


def test_a_spec_from_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**HEAD, "fields": {"2": PAN}}))
    for name in (path, str(path)):
        codec = iso8583.Codec(iso8583.load_spec(name))
        assert codec.encode({"mti": "0100", 2: "123"}) == (
            b"0100" + b"4000000000000000" + b"03123"
        )


def test_a_spec_goes_through_json_unchanged(tmp_path):
    spec = iso8583.load_spec("mastercard-cis")
    path = tmp_path / "same.json"
    path.write_bytes(msgspec.json.encode(spec))
    assert iso8583.load_spec(path) == spec


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, "Object missing required field `name`"),
        ({**HEAD, "fields": {"1": PAN}}, "expected field numbers in 2..128, got 1"),
        ({**HEAD, "fields": {"129": PAN}}, "expected field numbers in 2..128, got 129"),
        ({**HEAD, "fields": {"x": PAN}}, "Expected `int`, got `str`"),
        ({**HEAD, "bitmap": "bcd", "fields": {}}, "Invalid enum value 'bcd'"),
        (
            {**HEAD, "mti": "no-such", "fields": {}},
            "expected an encoding, got 'no-such'",
        ),
        ({**HEAD, "mti": "utf-8", "fields": {}}, "expected a single-byte encoding"),
        ({**HEAD, "mti": "utf-16", "fields": {}}, "expected a single-byte encoding"),
        ({**HEAD, "mti": "punycode", "fields": {}}, "expected a single-byte encoding"),
        ({**HEAD, "mti": "base64", "fields": {}}, "expected an encoding, got 'base64'"),
        ({**HEAD, "extra": 1, "fields": {}}, "unknown field `extra`"),
        ({**HEAD, "fields": {"2": {**PAN, "lenght": 1}}}, "unknown field `lenght`"),
        ({**HEAD, "fields": {"2": {**PAN, "length": 0}}}, "Expected `int` >= 1"),
        ({**HEAD, "fields": {"2": {**PAN, "length": 65536}}}, "`int` <= 65535"),
        (
            {**HEAD, "fields": {"2": {**PAN, "length": 100}}},
            "field 2: expected a length of at most 99 with 2 ascii prefix digits, got",
        ),
        (
            {
                **HEAD,
                "fields": {"2": {**PAN, "length": 256, "prefix_encoding": "binary"}},
            },
            "field 2: expected a length of at most 255 with 2 binary prefix digits",
        ),
        (
            {**HEAD, "fields": {"2": {**PAN, "content": "z"}}},
            "field 2: expected an encoding, here or for content 'z'",
        ),
        (
            {**HEAD, "fields": {"2": {**PAN, "unit": "digits"}}},
            "field 2: expected unit characters for ascii, got digits",
        ),
        (
            {**HEAD, "fields": {"2": {**PAN, "content": "b", "unit": "characters"}}},
            "field 2: expected unit bytes for binary, got characters",
        ),
        (
            {**HEAD, "fields": {"2": {**PAN, "encoding": "bcd", "unit": "characters"}}},
            "field 2: expected unit digits or bytes for bcd, got characters",
        ),
        (
            {**HEAD, "fields": {"2": {**PAN, "prefix_encoding": "utf-8"}}},
            "field 2: expected a single-byte encoding",
        ),
    ],
)
def test_a_bad_spec_says_what_and_where(tmp_path, spec, text):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(spec))
    with pytest.raises(iso8583.SpecError) as caught:
        iso8583.load_spec(path)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_lengths_are_written_in_an_encoding_with_digits_in_a_row():
    """As in all of Python's; another is refused instead of misread."""
    table = {ord(digit): ord("9") - place for place, digit in enumerate("0123456789")}
    letters = {byte: chr(table.get(byte, byte)) for byte in range(128)}
    backwards = codecs.CodecInfo(
        lambda text, errors="strict": codecs.charmap_encode(
            text, errors, {ord(letter): byte for byte, letter in letters.items()}
        ),
        lambda data, errors="strict": codecs.charmap_decode(data, errors, letters),
        name="backwards",
    )
    find = {"backwards": backwards}.get
    codecs.register(find)
    try:
        with pytest.raises(ValueError, match="with digits in a row, got 'backwards'"):
            msgspec.convert(
                {**HEAD, "prefix_encoding": "backwards", "fields": {2: PAN}},
                iso8583.Spec,
            )
    finally:
        codecs.unregister(find)


def test_a_file_that_is_no_json(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(iso8583.SpecError, match=r"bad\.json: Input data was truncated"):
        iso8583.load_spec(path)


def test_a_file_too_large(tmp_path):
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(iso8583.SpecError, match="expected at most 1048576 bytes"):
        iso8583.load_spec(path)


def test_a_name_that_is_not_there():
    with pytest.raises(iso8583.SpecError, match="expected one of iso2003-ascii, "):
        iso8583.load_spec("iso87-asci")


def test_a_spec_made_in_python_is_checked_too():
    with pytest.raises(
        iso8583.SpecError, match="field 2: expected a length of at most"
    ):
        iso8583.Spec(
            name="test",
            mti="ascii",
            bitmap="hex",
            prefix_encoding="ascii",
            encodings={"n": "ascii"},
            fields={
                2: iso8583.FieldSpec(
                    name="PAN", content="n", length=10, prefix_digits=1
                )
            },
        )


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ({"length": 70_000}, "Expected `int` <= 65535"),
        ({"length": "x"}, "Expected `int`, got `str`"),
        ({"prefix_digits": 50}, "Expected `int` <= 6"),
        ({"pad_nibble": 16}, "Expected `int` <= 15"),
        ({"content": "q"}, "Invalid enum value 'q'"),
    ],
)
def test_a_codec_checks_what_python_did_not(axes, text):
    sound = {"name": "x", "content": "n", "length": 1, "encoding": "bcd"}
    field = iso8583.FieldSpec(**sound | axes)
    spec = iso8583.Spec(
        name="test",
        mti="ascii",
        bitmap="hex",
        prefix_encoding="ascii",
        fields={2: field},
    )
    with pytest.raises(iso8583.SpecError, match=text):
        iso8583.Codec(spec)


def test_a_codec_is_apart_from_the_spec_it_was_given():
    spec = iso8583.load_spec("iso87-ascii")
    codec = iso8583.Codec(spec)
    spec.fields[5000] = spec.fields[2]
    del spec.fields[3]
    assert codec.message({"mti": "0100", 3: "000000"})[3] == "000000"
    with pytest.raises(iso8583.SpecError, match=r"numbers in 2\.\.128, got 5000"):
        iso8583.Codec(spec)
    codec.spec.fields[5000] = codec.spec.fields[2]
    with pytest.raises(ValueError, match="expected fields of the spec, got 5000"):
        iso8583.ReplyTemplate(codec, "0110", (5000,))


@pytest.mark.parametrize("spec", [None, "iso87-ascii", {}])
def test_a_codec_is_made_from_a_spec(spec):
    with pytest.raises(TypeError, match="expected a Spec, got"):
        iso8583.Codec(spec)


@pytest.mark.parametrize("encoding", ["cp037", "cp500", "cp1140", "latin-1", "cp1252"])
def test_text_in_other_single_byte_codecs(encoding):
    field = iso8583.FieldSpec(name="name", content="ans", length=99, prefix_digits=2)
    codec = iso8583.Codec(
        iso8583.Spec(
            name="test",
            mti=encoding,
            bitmap="binary",
            prefix_encoding=encoding,
            encodings={"ans": encoding},
            fields={43: field},
        )
    )
    text = "Zoë's, 12 Rue de l'Été [x]"
    data = codec.encode({"mti": "0100", 43: text})
    assert data[12:] == (f"{len(text)}" + text).encode(encoding)
    assert codec.decode(data)[43] == text


@pytest.mark.parametrize(
    ("axes", "value", "data"),
    [
        ({"prefix_encoding": "binary", "prefix_digits": 2}, "ABC", "03 414243"),
        ({"prefix_encoding": "binary", "prefix_digits": 3}, "ABC", "0003 414243"),
        ({"prefix_encoding": "bcd", "prefix_digits": 1}, "ABC", "03 414243"),
        ({"prefix_encoding": "bcd", "prefix_digits": 4}, "A" * 12, "0012" + "41" * 12),
        ({"prefix_encoding": "cp500", "prefix_digits": 2}, "ABC", "F0F3 414243"),
        ({"prefix_encoding": "ascii", "prefix_digits": 6}, "A", "303030303031 41"),
        ({"encoding": "bcd", "length": 3}, "123", "0123"),
        ({"encoding": "bcd", "length": 3, "pad": "right"}, "123", "1230"),
        (
            {"encoding": "bcd", "length": 3, "pad": "right", "pad_nibble": 15},
            "123",
            "123F",
        ),
        ({"encoding": "bcd", "length": 3, "pad_nibble": 10}, "123", "A123"),
        ({"encoding": "bcd", "length": 2, "unit": "bytes"}, "1234", "1234"),
        (
            {
                "encoding": "bcd",
                "unit": "bytes",
                "prefix_encoding": "bcd",
                "prefix_digits": 2,
            },
            "1234",
            "02 1234",
        ),
        (
            {"encoding": "bcd", "prefix_encoding": "binary", "prefix_digits": 2},
            "12345",
            "05 012345",
        ),
        ({"encoding": "binary", "length": 2}, "CAFE", "CAFE"),
    ],
)
def test_each_axis_by_itself(axes, value, data):
    field = iso8583.FieldSpec(
        **{"name": "field", "content": "ans", "length": 9, **axes}
        | ({"length": 12} if axes.get("prefix_digits", 0) == 4 else {})
    )
    codec = iso8583.Codec(
        iso8583.Spec(
            name="test",
            mti="bcd",
            bitmap="binary",
            prefix_encoding="ascii",
            encodings={"ans": "ascii"},
            fields={2: field},
        )
    )
    encoded = codec.encode({"mti": "0100", 2: value})
    assert encoded == bytes.fromhex("0100 4000000000000000" + data)
    assert codec.decode(encoded)[2] == value
