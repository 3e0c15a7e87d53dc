"""Frames as they came off a network, or from jPOS (tests/vectors/README.md)."""

import json
from pathlib import Path
from typing import Any

import pytest

import iso8583
from tests.messages import content

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
# By file: spec, size of the length header, how many frames.
FILES = {
    "mastercard-cis": ("mastercard-cis", 2, 3),
    "visa-base1": ("visa-base1", 4, 3),
    "visa-base1-reject": ("visa-base1", 4, 1),
}
CODECS = {
    name: iso8583.Codec(iso8583.load_spec(name))
    for name in ("mastercard-cis", "visa-base1")
}


def bodies(name: str) -> list[bytes]:
    """The messages of a file; a length is two bytes, with zeros behind it or not."""
    _, size, count = FILES[name]
    frames = [
        bytes.fromhex(line)
        for line in (VECTORS / f"{name}.hex").read_text().splitlines()
    ]
    assert len(frames) == count
    for frame in frames:
        length = (len(frame) - size).to_bytes(2)
        assert frame[:size] == length + bytes(size - 2)
    return [frame[size:] for frame in frames]


def tables(name: str) -> list[dict[int | str, Any]]:
    """The same messages as somebody else read them."""
    return [
        {int(key) if key.isdigit() else key: value for key, value in fields.items()}
        for fields in json.loads((VECTORS / f"{name}.json").read_text())
    ]


FRAMES = [(CODECS[FILES[name][0]], body) for name in FILES for body in bodies(name)]
TABLES = [fields for name in FILES for fields in tables(name)]
each_frame = pytest.mark.parametrize(("codec", "body"), FRAMES)


@pytest.mark.parametrize(
    ("codec", "body", "fields"),
    [(*frame, fields) for frame, fields in zip(FRAMES, TABLES, strict=True)],
)
def test_a_captured_frame_reads_as_another_read_it(codec, body, fields):
    message = codec.decode(body)
    assert message.header == fields.pop("header", None)
    assert content(message) == fields


@each_frame
def test_a_captured_frame_encodes_back_byte_for_byte(codec, body):
    message = codec.decode(body)
    assert codec.encode(message) == body
    assert codec.encode(message.to_dict()) == body


@each_frame
def test_a_captured_frame_cut_short_is_refused(codec, body):
    for size in range(len(body)):
        with pytest.raises(iso8583.DecodeError):
            codec.decode(body[:size])


@each_frame
def test_no_card_number_of_a_captured_frame_is_shown(codec, body):
    message = codec.decode(body)
    if 2 not in message:
        assert message.mti in ("0800", "0810")
        return
    shown = iso8583.describe(message) + repr(message)
    assert message[2] not in shown
    assert message[2][:12] not in shown
    assert message[2] in iso8583.describe(message, unmasked=True)


# ---- messages that jPOS packed


def jpos(name: str) -> tuple[bytes, dict[str, str]]:
    """The message, and what was given to jPOS to pack, by path."""
    lines = (VECTORS / f"jpos-{name}.fields").read_text().splitlines()
    fields = dict(line.split(" ", 1) for line in lines)
    data = bytes.fromhex((VECTORS / f"jpos-{name}.hex").read_text())
    return data, {path: text.removeprefix("0x") for path, text in fields.items()}


@pytest.mark.parametrize(
    "name", ["iso2003-ascii", "iso2003-binary", "iso87-ebcdic", "postilion"]
)
def test_a_shipped_spec_reads_and_writes_what_jpos_packed(name):
    data, fields = jpos(name)
    codec = iso8583.Codec(iso8583.load_spec(name))
    message = codec.decode(data)
    message.validate()
    assert message.mti == fields.pop("mti")
    # The positions of that packager's field 21 count from 0.
    moved = {f"21.{n}": f"21.{n + 1}" for n in range(4)}
    assert {path: message[moved.get(path, path)] for path in fields} == fields
    numbers = {int(path.partition(".")[0]) for path in fields}
    assert set(message) == numbers
    assert codec.encode(message.to_dict()) == data
    assert codec.encode(message.to_dict(inside=True)) == data


@pytest.mark.parametrize(
    ("name", "place", "text"),
    [
        ("iso2003-ascii", "4.1", "840"),
        ("iso2003-ascii", "21.2", "TRACE0000000001"),
        ("iso2003-binary", "4.3", "000000001500"),
        ("iso2003-binary", "30.2.1", "978"),
        ("iso2003-binary", "55.9F26", "421563A4A0B2C4A7"),
        ("iso2003-binary", "56.2", "000000000017"),
        ("iso2003-binary", "74.12", "0000000001"),
        ("iso87-ebcdic", "90.2", "000016"),
        ("postilion", "43.2", "Springfield  "),
        ("postilion", "127.25.12", "421563A4A0B2C4A7"),
    ],
)
def test_what_is_inside_of_what_jpos_packed(name, place, text):
    data, _ = jpos(name)
    assert iso8583.Codec(iso8583.load_spec(name)).decode(data)[place] == text


def test_the_chip_data_of_postilion_is_masked():
    data, fields = jpos("postilion")
    message = iso8583.Codec(iso8583.load_spec("postilion")).decode(data)
    shown = iso8583.describe(message) + repr(iso8583.masked(message))
    for path in ("2", "35", "52", "127.25.12", "127.25.18", "127.22"):
        assert fields[path] not in shown
