"""Frames as they came off a network (tests/vectors/README.md)."""

import json
from pathlib import Path

import pytest

import iso8583

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
FRAMES = [
    bytes.fromhex(line)
    for line in (VECTORS / "mastercard-cis.hex").read_text().splitlines()
]
FIELDS = [
    {key if key == "mti" else int(key): value for key, value in fields.items()}
    for fields in json.loads((VECTORS / "mastercard-cis.json").read_text())
]
CODEC = iso8583.Codec(iso8583.load_spec("mastercard-cis"))


def body(frame: bytes) -> bytes:
    """The message in a frame of a 2-byte length and what follows it."""
    assert int.from_bytes(frame[:2], "big") == len(frame) - 2
    return frame[2:]


def test_there_are_as_many_tables_as_frames():
    assert len(FRAMES) == len(FIELDS) == 3


@pytest.mark.parametrize(("frame", "fields"), list(zip(FRAMES, FIELDS, strict=True)))
def test_a_captured_frame_reads_as_another_codec_read_it(frame, fields):
    message = CODEC.decode(body(frame))
    assert message.to_dict() == fields


@pytest.mark.parametrize("frame", FRAMES)
def test_a_captured_frame_encodes_back_byte_for_byte(frame):
    message = CODEC.decode(body(frame))
    assert CODEC.encode(message) == body(frame)
    assert CODEC.encode(message.to_dict()) == body(frame)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_captured_frame_cut_short_is_refused(frame):
    data = body(frame)
    for size in range(len(data)):
        with pytest.raises(iso8583.DecodeError):
            CODEC.decode(data[:size])


@pytest.mark.parametrize("frame", FRAMES)
def test_no_card_number_of_a_captured_frame_is_shown(frame):
    message = CODEC.decode(body(frame))
    shown = iso8583.describe(message) + repr(message)
    assert message[2] not in shown
    assert message[2][:12] not in shown
    assert message[2] in iso8583.describe(message, unmasked=True)
