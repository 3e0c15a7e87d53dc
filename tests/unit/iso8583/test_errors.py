"""Errors cross process boundaries whole."""

import copy

import pytest

import iso8583

ERRORS = [
    iso8583.EncodeError(11, "6 digits", "5"),
    iso8583.EncodeError("55.9F26", "hex digits", "another character", 3),
    iso8583.EncodeError(field=52, expected="hex digits", got="another", offset=3),
    iso8583.EncodeError(None, "at most 65535 bytes", "65536"),
    iso8583.DecodeError(2, 20, "at most 19 digits", "20"),
    iso8583.DecodeError(
        None,
        26,
        "the end of the message",
        "2 more bytes",
        iso8583.Codec(iso8583.load_spec("iso87-ascii")).message({"mti": "0800"}),
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_a_copy_says_the_same(error):
    other = copy.deepcopy(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


@pytest.mark.parametrize(
    ("field", "place"),
    [(None, "message"), (0, "MTI"), (1, "bitmap"), (2, "field 2"), (128, "field 128")],
)
def test_errors_name_the_place(field, place):
    assert str(iso8583.EncodeError(field, "x", "y")) == f"{place}: expected x, got y"
    for error in (
        iso8583.DecodeError(field, 7, "x", "y"),
        iso8583.EncodeError(field, "x", "y", 7),
    ):
        assert str(error) == f"{place} at offset 7: expected x, got y"


def test_one_base_for_all():
    for kind in (iso8583.SpecError, iso8583.EncodeError, iso8583.DecodeError):
        assert issubclass(kind, iso8583.Error)
    assert issubclass(iso8583.Error, ValueError)


def test_errors_of_both_interfaces_are_caught_by_one_name():
    codec = iso8583.Codec(iso8583.load_spec("iso87-mixed"))
    with pytest.raises(iso8583.DecodeError) as native:
        codec.decode(b"")
    with pytest.raises(iso8583.DecodeError) as document:
        iso8583.decode(b"", iso8583.specs.default)
    assert type(native.value) is type(document.value)
    assert not hasattr(native.value, "doc_dec")
    assert not hasattr(document.value, "expected")
