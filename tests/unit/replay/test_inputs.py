import base64

import pytest

from switch.replay import inputs
from switch.replay.errors import CaptureError
from switch.replay.inputs import readings


def forms(data: bytes) -> dict[str, list[bytes]]:
    return {
        reading.form: [frame.body for frame in reading.frames]
        for reading in readings(data, "x")
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
    (reading,) = [r for r in readings(data, "x") if r.form == "base64"]
    assert [(frame.line, frame.body) for frame in reading.frames] == [
        (2, b"one"),
        (4, b"three!"),
    ]


def test_bytes_that_are_no_text_are_binary_alone():
    assert forms(b"\x00\x2a\xf0\n") == {"binary": [b"\x00\x2a\xf0\n"]}
    assert forms(b"0800\x000") == {"binary": [b"0800\x000"]}


@pytest.mark.parametrize(
    ("form", "data", "fault"),
    [
        ("hex", b"0g", "x: line 1: expected hex digits, got another character at 2"),
        ("base64", b"abc", "x: line 1: expected base64, got 3 characters that are not"),
        ("hex", b"# nothing\n", "x: expected a message, got none"),
        ("binary", b"", "x: expected a message, got none"),
    ],
)
def test_a_fault_says_where(form, data, fault):
    (reading,) = readings(data, "x", form)
    assert (reading.frames, reading.fault) == ([], fault)


def test_an_input_is_bounded(monkeypatch):
    monkeypatch.setattr(inputs, "INPUT_SIZE_MAX", 3)
    with pytest.raises(CaptureError, match="expected at most 3 bytes"):
        readings(b"0800", "x")
