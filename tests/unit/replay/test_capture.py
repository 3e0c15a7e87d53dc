import pytest

from switch.link._framing import Framing
from switch.replay.capture import cut_header, parse_lines, read_capture
from switch.replay.errors import CaptureError


def test_comments_and_blanks_are_passed_over(tmp_path):
    path = tmp_path / "capture.hex"
    path.write_text("# two frames\n\n0002 0a0b # one\n00010C\n")
    frames = list(read_capture(path, Framing("binary2")))
    assert [(frame.line, frame.body) for frame in frames] == [
        (3, b"\x0a\x0b"),
        (4, b"\x0c"),
    ]


def test_a_frame_is_cut_only_when_it_is_exactly_one():
    framing = Framing("ascii4")
    assert cut_header(b"0002ab", framing) == b"ab"
    for frame in (b"0003ab", b"0001ab", b"00x2ab", b"0002", b"", b"0001a0001b"):
        assert cut_header(frame, framing) is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("000zff", "x: line 1: expected hex digits, got another character at 4"),
        ("000", "x: line 1: expected an even number of hex digits, got 3"),
    ],
)
def test_bad_hex_is_told_by_place(line, fault):
    with pytest.raises(CaptureError, match=fault):
        list(parse_lines([line], "x"))


def test_a_frame_of_another_framing_is_told(tmp_path):
    path = tmp_path / "capture.hex"
    path.write_text("0001000041\n")
    assert [frame.body for frame in read_capture(path, Framing("binary4"))] == [b"A"]
    with pytest.raises(CaptureError, match="line 1: expected one whole binary2 frame"):
        list(read_capture(path, Framing("binary2")))
