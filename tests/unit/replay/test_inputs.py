import base64

import pytest

import iso8583
from switch.link._framing import Framing
from switch.replay import inputs
from switch.replay.errors import CaptureError
from switch.replay.inputs import readings
from tests.unit.replay.packets import Conversation, pcap, pcapng

CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))


def forms(data: bytes) -> dict[str, list[bytes]]:
    return {
        reading.form: reading.records
        for reading in readings(data, "x", CODEC)
        if not reading.fault
    }


def test_digits_can_be_hex_base64_or_a_message():
    assert forms(b"0800\n") == {
        "hex": [b"\x08\x00"],
        "base64": [base64.b64decode("0800")],
        "binary": [b"0800"],
    }


def test_lines_are_records_and_comments_are_passed_over():
    one, two = base64.b64encode(b"one"), base64.b64encode(b"three!")
    data = b"# two\n" + one + b"\n\n" + two + b" # the second\n"
    (reading,) = [r for r in readings(data, "x", CODEC) if r.form == "base64"]
    assert [(frame.place, frame.body) for frame in reading.frames(None)] == [
        ("line 2", b"one"),
        ("line 4", b"three!"),
    ]


def test_bytes_that_are_no_text_are_binary_alone():
    assert forms(b"\x00\x2a\xf0\n") == {"binary": [b"\x00\x2a\xf0\n"]}
    assert forms(b"0800\x000") == {"binary": [b"0800\x000"]}


@pytest.mark.parametrize(
    ("form", "data", "fault"),
    [
        ("hex", b"0g", "x: line 1: expected hex digits, got another character at 2"),
        (
            "base64",
            b"abc",
            "x: line 1: expected base64 in whole groups of 4 characters, got 3",
        ),
        ("hex", b"# nothing\n", "x: expected a message, got none"),
        ("binary", b"", "x: expected a message, got none"),
    ],
)
def test_a_fault_says_where(form, data, fault):
    (reading,) = readings(data, "x", CODEC, form)
    assert (reading.records, reading.fault) == ([], fault)


def test_an_input_is_bounded(monkeypatch):
    monkeypatch.setattr(inputs, "INPUT_SIZE_MAX", 3)
    with pytest.raises(CaptureError, match="expected at most 3 bytes"):
        readings(b"0800", "x", CODEC)


def test_frames_of_a_record_are_numbered():
    framing = Framing("binary2")
    data = framing.encode(b"one") + framing.encode(b"two")
    (reading,) = readings(data, "x", CODEC)
    assert [(frame.place, frame.body) for frame in reading.frames(framing)] == [
        ("message 1", b"one"),
        ("message 2", b"two"),
    ]
    (torn,) = readings(data[:-1], "x", CODEC)
    assert [frame.body for frame in torn.frames(framing)] == [b""]


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_a_network_capture_is_streams(write):
    framing = Framing("binary2")
    one, two = framing.encode(b"one"), framing.encode(b"two")
    conversation = Conversation().open().to_switch(one[:3]).to_switch(one[3:])
    conversation.from_switch(two).lose(1, 7).from_switch(two)
    (reading,) = readings(write(conversation.packets), "x", CODEC)
    assert reading.form == write.__name__
    assert reading.records == [one, two]
    assert [frame.body for frame in reading.frames(framing)] == [b"one", b"two", b"two"]
