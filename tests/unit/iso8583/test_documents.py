"""pyiso8583's interface, behaviour by behaviour as its documentation has them.

Everything here holds of pyiso8583 itself, which is tested by it too: see
test_what_is_said_of_pyiso8583_holds_of_it.
"""

import contextlib
import copy
import inspect
import io
import pickle
import sys
import weakref
from typing import Any

import pytest

import iso8583
import iso8583.decoder
import iso8583.encoder
import iso8583.tools
from iso8583 import specs

PLAIN = {"len_enc": "ascii", "desc": "a field"}


def spec_with(**fields):
    """Text all through, with these fields in place of the standard's."""
    spec = copy.deepcopy(specs.default_ascii)
    for key, field in fields.items():
        spec[key.removeprefix("f")] = {**PLAIN, **field}
    return spec


def fixed(length, **more):
    return {"data_enc": "ascii", "len_type": 0, "max_len": length, **more}


def variable(prefix_size, length, **more):
    return {"data_enc": "ascii", "len_type": prefix_size, "max_len": length, **more}


NIBBLES = {"data_enc": "b", "len_count": "nibbles"}

# name, field 2, its text, its prefix and data on the wire
FORMS = [
    ("text of a fixed length", fixed(4), "AB12", b"", b"AB12"),
    ("text with a length", variable(2, 19), "1234", b"04", b"1234"),
    ("an empty field", variable(2, 19), "", b"00", b""),
    ("a field that is always empty", fixed(0), "", b"", b""),
    ("EBCDIC", variable(2, 9, data_enc="cp500"), "A1", b"02", b"\xc1\xf1"),
    ("EBCDIC length", variable(2, 9, len_enc="cp500"), "A1", b"\xf0\xf2", b"A1"),
    ("beyond ASCII", variable(2, 9, data_enc="cp500"), "é", b"01", b"\x51"),
    ("its own space", variable(2, 9, data_enc="mac-farsi"), "A B", b"03", b"A\xa0B"),
    ("two bytes a letter", variable(2, 9, data_enc="utf-8"), "é", b"02", b"\xc3\xa9"),
    ("binary", variable(3, 255, data_enc="b"), "9F02", b"002", b"\x9f\x02"),
    ("binary length", variable(1, 99, len_enc="b"), "A" * 16, b"\x10", b"A" * 16),
    ("long binary length", variable(2, 999, len_enc="b"), "A", b"\0\1", b"A"),
    ("packed length", variable(1, 99, len_enc="bcd"), "A" * 16, b"\x16", b"A" * 16),
    ("long packed length", variable(2, 999, len_enc="bcd"), "AA", b"\0\2", b"AA"),
    ("even digits", fixed(4, **NIBBLES), "1234", b"", b"\x12\x34"),
    ("a pad before", fixed(3, **NIBBLES, left_pad="0"), "123", b"", b"\x01\x23"),
    ("a pad behind", fixed(3, **NIBBLES, right_pad="F"), "123", b"", b"\x12\x3f"),
    (
        "two pads, of which the first is written",
        fixed(3, **NIBBLES, left_pad="0", right_pad="F"), "123", b"", b"\x01\x23",
    ),
    (
        "digits that the length counts",
        variable(1, 20, **NIBBLES, len_enc="bcd", left_pad="0"),
        "123", b"\3", b"\1\x23",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "text", "prefix", "data"),
    [form[1:] for form in FORMS],
    ids=[form[0] for form in FORMS],
)
def test_forms_of_a_field(field, text, prefix, data):
    spec = spec_with(f2=field)
    message, encoded = iso8583.encode({"t": "0100", "2": text}, spec)
    assert message == b"01004000000000000000" + prefix + data
    assert type(message) is bytearray
    assert encoded["2"] == {"len": prefix, "data": data}
    for given in (bytes(message), message):
        assert iso8583.decode(given, spec) == (
            {"t": "0100", "p": "4000000000000000", "2": text},
            encoded,
        )


def test_the_second_pad_is_taken_off_when_the_first_is_not_there():
    spec = spec_with(f2=fixed(3, **NIBBLES, left_pad="0", right_pad="F"))
    decoded, _ = iso8583.decode(b"01004000000000000000\x12\x3f", spec)
    assert decoded["2"] == "123"


def test_documents_are_in_order_of_the_message():
    spec = spec_with(h=fixed(3), f129=fixed(1), f70=fixed(1))
    document = {"129": "D", "70": "C", "2": "12", "t": "0800", "h": "HDR", "note": ""}
    message, encoded = iso8583.encode(document, spec)
    bitmaps = b"C00000000000000084000000000000008000000000000000"
    assert message == b"HDR0800" + bitmaps + b"0212CD"
    keys = ["h", "t", "p", "1", "2", "70", "129"]
    assert list(encoded) == keys
    decoded, again = iso8583.decode(message, spec)
    assert list(decoded) == list(again) == keys
    assert again == encoded
    assert decoded["1"] == "84000000000000008000000000000000"
    assert all(list(entry) == ["len", "data"] for entry in encoded.values())


def test_encode_makes_the_bitmaps_of_its_document():
    document = {"p": "what", "1": "ever", "65": "1", "t": "0800", "2": "12"}
    iso8583.encode(document, specs.default)
    assert list(document.items()) == [
        ("p", "4000000000000000"),
        ("t", "0800"),
        ("2", "12"),
    ]
    document = {"1": "ever", "t": "0800", "70": "301"}
    iso8583.encode(document, specs.default)
    assert list(document.items()) == [
        ("t", "0800"),
        ("70", "301"),
        ("p", "8000000000000000"),
        ("1", "0400000000000000"),
    ]


def test_a_message_may_be_long():
    spec = spec_with(f3=variable(6, 65535), f4=variable(6, 70000, data_enc="b"))
    document = {str(number): "1" * 999 for number in (46, 47, 48, *range(120, 128))}
    document |= {"t": "0800", "3": "2" * 65535, "4": "34" * 70000}
    message, encoded = iso8583.encode(document, spec)
    assert len(message) == 4 + 32 + 11 * (3 + 999) + 6 + 65535 + 6 + 70000
    assert iso8583.decode(message, spec) == (document, encoded)
    assert message == b"".join(
        entry["len"] + entry["data"] for entry in encoded.values()
    )
    document["3"] += "2"
    with pytest.raises(iso8583.EncodeError, match="larger than maximum 65535: field 3"):
        iso8583.encode(document, spec)


def test_a_header_is_there_when_the_spec_says_so():
    spec = spec_with(h=variable(2, 10))
    message, _ = iso8583.encode({"h": "ABC", "t": "0800"}, spec)
    assert message == b"03ABC08000000000000000000"
    spec["h"]["max_len"] = 0
    document = {"h": "ABC", "t": "0800"}
    assert iso8583.encode(document, spec)[0] == b"08000000000000000000"
    assert document["h"] == "ABC"


def test_a_spec_may_be_edited_between_calls():
    spec = spec_with(f2=fixed(2))
    data = b"01004000000000000000"
    assert iso8583.decode(data + b"12", spec)[0]["2"] == "12"
    spec["2"]["max_len"] = 3
    assert iso8583.decode(data + b"123", spec)[0]["2"] == "123"
    spec["2"]["data_enc"] = "b"
    assert iso8583.decode(data + b"123", spec)[0]["2"] == "313233"
    spec["2"] = {**PLAIN, **variable(1, 9)}
    assert iso8583.decode(data + b"212", spec)[0]["2"] == "12"
    del spec["2"]
    with pytest.raises(KeyError, match="'2'"):
        iso8583.decode(data + b"212", spec)


def test_a_spec_need_not_be_a_dict():
    class Described(dict[str, Any]):
        """As programs write that have defaults for what a field leaves out."""

        def __missing__(self, key):
            return {**PLAIN, **fixed(1)}

    spec = Described({key: specs.default[key] for key in ("h", "t", "p", "1")})
    message, _ = iso8583.encode({"t": "0100", "3": "X"}, spec)
    assert message == b"0100\x20\0\0\0\0\0\0\0X"
    assert iso8583.decode(message, spec)[0]["3"] == "X"


# name, spec, message, text of the fault, position, field, what was decoded before it
BROKEN = [
    ("nothing", spec_with(), b"", "Field data is 0 bytes, expecting 4",
     0, "t", {"t": ""}),
    ("half a header", spec_with(h=fixed(4)), b"AB",
     "Field data is 2 bytes, expecting 4", 0, "h", {"h": ""}),
    ("an MTI of another alphabet", spec_with(), b"01\xff0",
     "Failed to decode field, invalid data", 0, "t", {"t": ""}),
    ("half a bitmap", spec_with(), b"01004000", "Field data is 4 bytes, expecting 16",
     4, "p", {"t": "0100", "p": ""}),
    ("a bitmap that is none", spec_with(), b"0100X000000000000000",
     "Failed to decode field, non-hex data", 4, "p",
     {"t": "0100", "p": "X000000000000000"}),
    ("half a tertiary bitmap", spec_with(), b"01008000000000000000800000000000000012",
     "Field data is 18 bytes, expecting 32", 36, "1",
     {"t": "0100", "p": "8000000000000000", "1": "8000000000000000"}),
    ("half a length", spec_with(), b"010040000000000000001",
     "Field length is 1 bytes wide, expecting 2", 20, "2", None),
    ("a length of letters", spec_with(), b"01004000000000000000AB",
     "Failed to decode field length, non-numeric data", 20, "2", None),
    ("a length in another alphabet", spec_with(), b"01004000000000000000\xf0\xf1",
     "Failed to decode field length, invalid data", 20, "2", None),
    ("a packed length of letters", spec_with(f2=variable(1, 9, len_enc="bcd")),
     b"01004000000000000000\x0a", "Failed to decode field length, invalid BCD data",
     20, "2", None),
    ("an encoding of a length that there is not",
     spec_with(f2=variable(1, 9, len_enc="nosuch")), b"010040000000000000001A",
     "Failed to decode field length, unknown encoding specified", 20, "2", None),
    ("too long", spec_with(), b"0100400000000000000020" + b"0" * 20,
     "Field data is 20 bytes, larger than maximum 19", 20, "2", None),
    ("too long in digits", spec_with(f2=variable(1, 3, len_enc="b", **NIBBLES)),
     b"01004000000000000000\x04\x12\x34",
     "Field data is 4 nibbles, larger than maximum 3", 20, "2", None),
    ("cut short", spec_with(), b"0100400000000000000004123",
     "Field data is 3 bytes, expecting 4", 22, "2", None),
    ("digits cut short", spec_with(f2=fixed(5, **NIBBLES, left_pad="0")),
     b"01004000000000000000\x12", "Field data is 2 nibbles, expecting 5",
     20, "2", None),
    ("another pad", spec_with(f2=fixed(3, **NIBBLES, left_pad="0")),
     b"01004000000000000000\x12\x34", "Field data is 4 nibbles, expecting 3", 20, "2",
     {"t": "0100", "p": "4000000000000000", "2": "1234"}),
    ("an encoding that there is not", spec_with(f2=fixed(1, data_enc="nosuch")),
     b"01004000000000000000A", "Failed to decode field, unknown encoding specified",
     20, "2", None),
    ("more than there should be", spec_with(), b"01004000000000000000011X",
     "Extra data after last field", 23, "2",
     {"t": "0100", "p": "4000000000000000", "2": "1"}),
    ("more than nothing", spec_with(), b"01000000000000000000X",
     "Extra data after last field", 20, "p", {"t": "0100", "p": "0000000000000000"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "data", "text", "position", "field", "decoded"),
    [case[1:] for case in BROKEN],
    ids=[case[0] for case in BROKEN],
)
def test_what_is_wrong_with_a_message(spec, data, text, position, field, decoded):
    if decoded is None:
        decoded = {"t": "0100", "p": "4000000000000000", "2": ""}
    for given in (data, bytearray(data)):
        with pytest.raises(iso8583.DecodeError) as caught:
            iso8583.decode(given, spec)
        error = caught.value
        assert str(error) == f"{text}: field {field} pos {position}"
        assert (error.msg, error.pos, error.field) == (text, position, field)
        assert error.s is given
        assert error.doc_dec == decoded
        assert list(error.doc_enc) == list(decoded)


TOO_LONG_FOR_PREFIX = (
    "Failed to encode field length, "
    "field length does not fit into configured field size"
)

# name, spec, document, text of the fault, field
UNWRITABLE = [
    ("no MTI", spec_with(), {}, "Field data is required", "t"),
    ("no header", spec_with(h=fixed(1)), {"t": "0100"},
     "Field data is required according to specifications", "h"),
    ("a short MTI", spec_with(), {"t": "010"},
     "Field data is 3 bytes, expecting 4", "t"),
    ("a packed MTI of letters", spec_with(t=fixed(4, data_enc="b")), {"t": "01XX"},
     "Failed to encode field, non-hex data", "t"),
    ("keys that are no text", spec_with(), {"t": "0100", 2: "1", None: ""},
     "Dictionary contains invalid fields [2, None]", "p"),
    ("fields that there are not", spec_with(), {"t": "0100", "0": "", "193": ""},
     "Dictionary contains fields outside of 1-192 range [0, 193]", "p"),
    ("too short", spec_with(), {"t": "0100", "3": "12345"},
     "Field data is 5 bytes, expecting 6", "3"),
    ("too long", spec_with(), {"t": "0100", "2": "1" * 20},
     "Field data is 20 bytes, larger than maximum 19", "2"),
    ("too long in digits", spec_with(f2=variable(1, 3, len_enc="b", **NIBBLES)),
     {"t": "0100", "2": "1234"},
     "Field data is 4 nibbles, larger than maximum 3", "2"),
    ("half a byte", spec_with(f2=variable(2, 9, data_enc="b")),
     {"t": "0100", "2": "123"}, "Failed to encode field, odd-length hex data", "2"),
    ("half a byte and no pad", spec_with(f2=fixed(3, **NIBBLES)),
     {"t": "0100", "2": "123"},
     "Failed to encode field, odd-length nibble data, specify pad", "2"),
    ("letters that are no digits", spec_with(f2=fixed(1, data_enc="b")),
     {"t": "0100", "2": "1G"}, "Failed to encode field, non-hex data", "2"),
    ("characters that the encoding has not", spec_with(), {"t": "0100", "2": "é"},
     "Failed to encode field, invalid data", "2"),
    ("no text", spec_with(), {"t": "0100", "2": 12},
     "Failed to encode field, invalid data", "2"),
    ("an encoding that there is not", spec_with(f2=fixed(1, data_enc="nosuch")),
     {"t": "0100", "2": "1"},
     "Failed to encode field, unknown encoding specified", "2"),
    ("a length that its prefix cannot say", spec_with(f2=variable(1, 99)),
     {"t": "0100", "2": "1" * 10},
     TOO_LONG_FOR_PREFIX, "2"),
    ("an encoding of a length that there is not",
     spec_with(f2=variable(1, 9, len_enc="nosuch")), {"t": "0100", "2": "1"},
     "Failed to encode field length, unknown encoding specified", "2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "document", "text", "field"),
    [case[1:] for case in UNWRITABLE],
    ids=[case[0] for case in UNWRITABLE],
)
def test_what_is_wrong_with_a_document(spec, document, text, field):
    given = dict(document)
    with pytest.raises(iso8583.EncodeError) as caught:
        iso8583.encode(given, spec)
    error = caught.value
    assert str(error) == f"{text}: field {field}"
    assert (error.msg, error.field) == (text, field)
    assert error.doc_dec is given
    assert field not in error.doc_enc or error.doc_enc[field]["len"] in (b"", b"10")


@pytest.mark.parametrize("wrong", ["0100", None, memoryview(b"0100"), [1]])
def test_messages_are_bytes(wrong):
    kind = type(wrong).__name__
    text = f"Encoded ISO8583 data must be bytes or bytearray, not {kind}"
    with pytest.raises(TypeError, match=text):
        iso8583.decode(wrong, specs.default)


@pytest.mark.parametrize("wrong", [b"0100", None, [("t", "0100")]])
def test_documents_are_dicts(wrong):
    text = f"Decoded ISO8583 data must be dict, not {type(wrong).__name__}"
    with pytest.raises(TypeError, match=text):
        iso8583.encode(wrong, specs.default)


def test_a_field_that_the_spec_has_not_is_a_key_error():
    with pytest.raises(KeyError, match="'129'"):
        iso8583.encode({"t": "0100", "129": ""}, specs.default)


ERRORS = [
    iso8583.DecodeError("what", b"0100", {"t": "0100"}, {"t": {"len": b""}}, 4, "p"),
    iso8583.EncodeError("what", {"t": "0100"}, {"t": {"len": b""}}, "p"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_errors_are_made_and_pickled_as_pyiso8583_does(error):
    assert str(error).startswith("what: field p")
    assert error.args == (str(error),)
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    assert isinstance(error, ValueError)


def test_errors_are_made_by_name_and_derived_from():
    class OwnError(iso8583.DecodeError):
        pass

    error = OwnError(msg="a", s=b"", doc_dec={}, doc_enc={}, pos=1, field="2")
    assert str(error) == "a: field 2 pos 1"
    assert error.msg == "a"


def test_pyiso8583s_modules_are_there():
    assert iso8583.decoder.decode is iso8583.decode
    assert iso8583.decoder.DecodeError is iso8583.DecodeError
    assert iso8583.encoder.encode is iso8583.encode
    assert iso8583.encoder.EncodeError is iso8583.EncodeError
    assert iso8583.tools.pp is iso8583.pp


def test_arguments_have_pyiso8583s_names():
    assert list(inspect.signature(iso8583.decode).parameters) == ["s", "spec"]
    assert list(inspect.signature(iso8583.encode).parameters) == ["doc_dec", "spec"]
    message, _ = iso8583.encode(doc_dec={"t": "0800"}, spec=specs.default)
    assert iso8583.decode(s=message, spec=specs.default)[0]["t"] == "0800"
    names = ["doc", "spec", "desc_width", "stream", "line_width"]
    assert list(inspect.signature(iso8583.pp).parameters) == names


def test_specs_are_made_to_be_copied_and_edited():
    assert list(specs.default) == ["h", "t", "p", *map(str, range(1, 129))]
    assert specs.default["55"] == {
        "data_enc": "b",
        "len_enc": "ascii",
        "len_type": 3,
        "max_len": 255,
        "desc": "ICC data",
    }
    assert specs.default_ascii["55"]["max_len"] == 510
    assert specs.default["2"] is not specs.default_ascii["2"]


@pytest.mark.parametrize("length", [4, 5])
def test_nothing_of_a_document_is_kept(length):
    spec = spec_with(f2=fixed(4))
    text = "1234567"[:length]
    document = {"t": "0100", "2": text}
    before = sys.getrefcount(text)
    for _ in range(3):
        with contextlib.suppress(iso8583.EncodeError):
            iso8583.encode(document, spec)
    assert sys.getrefcount(text) == before


def test_what_is_kept_of_specs_is_bounded():
    class Description(str):
        """Something of a spec that can be watched."""

        __slots__ = ("__weakref__",)

    kept = []
    for _ in range(40):
        description = Description("a field")
        kept.append(weakref.ref(description))
        spec = spec_with(f2=fixed(4, desc=description))
        iso8583.encode({"t": "0100", "2": "1234"}, spec)
        del spec, description
    assert len([one for one in kept if one() is not None]) <= 8


# ---- pp


def printed(document, spec=specs.default_ascii, **options):
    stream = io.StringIO()
    iso8583.pp(document, spec, stream=stream, **options)
    return stream.getvalue().splitlines()


DOCUMENT = {"12": "123456", "2": "9999990000000014", "t": "0200", "p": "4010"}


def test_pp_shows_a_line_a_field_in_order():
    assert printed(DOCUMENT) == [
        "t   Message Type                  : '0200'",
        "p   Bitmap, Primary               : '4010'",
        "2   Primary Account Number (PAN)  : '9999990000000014'",
        "12  Time, Local Transaction       : '123456'",
    ]


def test_pp_shows_lengths_of_what_is_encoded():
    document = {"2": {"len": b"02", "data": b"12"}, "3": {"len": b"", "data": b"1"}}
    assert printed(document, desc_width=7) == [
        "2   Primary: b'02' b'12'",
        "3   Process: b'1'",
    ]


def test_pp_can_leave_descriptions_out():
    spec: dict[str, dict[str, str]] = {key: {} for key in DOCUMENT}
    assert printed({"2": "12"}, spec, desc_width=0) == ["2  : '12'"]


def test_pp_shows_a_header_that_the_spec_has():
    assert printed({"h": "HDR"}) == []
    spec = spec_with(h=fixed(3))
    assert printed({"h": "HDR"}, spec, desc_width=0) == ["h  : 'HDR'"]


def test_pp_continues_long_lines_below():
    assert printed({"2": "12345678"}, desc_width=0, line_width=10) == [
        "2  : '123'",
        "     '456'",
        "     '78'",
    ]
    document = {"2": {"len": b"04", "data": b"12\x00\xff4"}}
    assert printed(document, desc_width=0, line_width=22) == [
        "2  : b'04' b'12\\x00'",
        "           b'\\xff4'",
    ]


def test_pp_goes_to_standard_output(capsys):
    iso8583.pp({"t": "0200"}, specs.default)
    assert capsys.readouterr().out == "t   Message Type                  : '0200'\n"
