"""Either whole frames come out, or a FramingError: never any other error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.link._framing import (
    FRAMING_NAMES,
    FrameReader,
    Framing,
    size_max_of,
)
from switch.link.errors import FrameTooLongError, FramingError

CASES = [(name, inclusive) for name in FRAMING_NAMES for inclusive in (False, True)]

framings = st.builds(
    Framing, st.sampled_from(FRAMING_NAMES), st.booleans(), st.just(300)
)


def cut(framing, pieces):
    """Frames, then the error's place or None."""
    reader = FrameReader(framing)
    frames = []
    for piece in pieces:
        try:
            frames += reader.feed(piece)
        except FramingError as error:
            return frames + error.frames, (error.offset, str(error))
    return frames, None


def one_by_one(stream):
    return [stream[index : index + 1] for index in range(len(stream))]


@pytest.mark.parametrize(
    ("name", "inclusive", "frame"),
    [
        ("binary2", False, b"\x00\x04abcd"),
        ("binary2", True, b"\x00\x06abcd"),
        ("binary4", False, b"\x00\x04\x00\x00abcd"),
        ("binary4", True, b"\x00\x08\x00\x00abcd"),
        ("ascii4", False, b"0004abcd"),
        ("ascii4", True, b"0008abcd"),
        ("bcd2", False, b"\x00\x04abcd"),
        ("bcd2", True, b"\x00\x06abcd"),
    ],
)
def test_wire_layout(name, inclusive, frame):
    framing = Framing(name, inclusive)
    assert framing.encode(b"abcd") == frame
    assert FrameReader(framing).feed(frame) == [b"abcd"]


def test_lengths_of_several_digits():
    body = bytes(1234)
    assert Framing("binary2").encode(body)[:2] == b"\x04\xd2"
    assert Framing("ascii4").encode(body)[:4] == b"1234"
    assert Framing("bcd2").encode(body)[:2] == b"\x12\x34"


@given(framings, st.lists(st.binary(min_size=1, max_size=300)))
def test_what_was_encoded_comes_back_whole_and_byte_by_byte(framing, bodies):
    stream = b"".join(framing.encode(body) for body in bodies)
    assert cut(framing, [stream]) == (bodies, None)
    assert cut(framing, one_by_one(stream)) == (bodies, None)


@given(framings, st.binary(max_size=2000))
def test_random_bytes_give_the_same_whole_and_byte_by_byte(framing, stream):
    assert cut(framing, [stream]) == cut(framing, one_by_one(stream))


@pytest.mark.parametrize(("name", "inclusive"), CASES)
def test_a_frame_of_no_body_is_a_heartbeat(name, inclusive):
    framing = Framing(name, inclusive)
    reader = FrameReader(framing)
    frames = reader.feed(framing.encode(b"") + framing.encode(b"x") * 2)
    assert frames == [b"x", b"x"]
    assert reader.heartbeats == 1
    assert reader.pending_size == 0


@pytest.mark.parametrize(("name", "inclusive"), CASES)
def test_the_longest_frame_is_read_and_one_more_byte_refused(name, inclusive):
    framing = Framing(name, inclusive, 600)
    longest = framing.encode(bytes(600))
    assert FrameReader(framing).feed(longest) == [bytes(600)]
    # We may send one a little longer: a reply has more fields than its request.
    longer = framing.encode(bytes(601))
    with pytest.raises(FramingError, match="at most 600 bytes, got 601"):
        FrameReader(framing).feed(longer[: framing.header_size])


@pytest.mark.parametrize(("name", "inclusive"), CASES)
def test_what_the_length_cannot_say_is_not_sent(name, inclusive):
    framing = Framing(name, inclusive, 600)
    body_size_max = size_max_of(name, inclusive)
    assert len(framing.encode(bytes(body_size_max))) == (
        framing.header_size + body_size_max
    )
    with pytest.raises(
        FrameTooLongError,
        match=f"at most {body_size_max} bytes, got {body_size_max + 1}",
    ):
        framing.encode(bytes(body_size_max + 1))


@pytest.mark.parametrize(
    ("framing", "stream", "message"),
    [
        (
            Framing("binary2"),
            b"\x00\x01aHTTP",
            (
                "binary2 frame at offset 3: expected a body of at most 8192 bytes, "
                "got 18516 (0x4854)"
            ),
        ),
        (
            Framing("binary4"),
            b"\x00\x01\x00\x01a",
            (
                "binary4 frame at offset 2: expected 2 zero bytes after the length, "
                "got 0x00010001"
            ),
        ),
        (
            Framing("ascii4"),
            b"00:1a",
            "ascii4 frame at offset 0: expected 4 ASCII digits, got 0x30303a31",
        ),
        (
            Framing("bcd2"),
            b"\x00\x1aa",
            "bcd2 frame at offset 0: expected 4 packed digits, got 0x001a",
        ),
        (
            Framing("binary4", inclusive=True),
            b"\x00\x03\x00\x00",
            (
                "binary4 frame at offset 0: expected a length of at least 4, which "
                "counts itself, got 3 (0x00030000)"
            ),
        ),
    ],
)
def test_an_error_says_what_was_expected_what_came_and_where(framing, stream, message):
    for pieces in ([stream], one_by_one(stream)):
        _, error = cut(framing, pieces)
        assert error is not None
        assert error[1] == message


def test_a_lost_stream_stays_lost_and_owes_its_frames_once():
    reader = FrameReader(Framing("ascii4"))
    with pytest.raises(FramingError) as first:
        reader.feed(b"0001axxxx")
    assert first.value.frames == [b"a"]
    with pytest.raises(FramingError) as second:
        reader.feed(b"0001b")
    assert second.value.frames == []
    assert str(second.value) == str(first.value)


def test_limits_are_checked_when_the_framing_is_made():
    assert size_max_of("bcd2") == 9999
    assert size_max_of("binary4", inclusive=True) == 65531
    with pytest.raises(ValueError, match="from 1 to 9999 bytes, got 10000"):
        Framing("ascii4", size_max=10_000)
    with pytest.raises(ValueError, match="from 1 to 65535 bytes, got 0"):
        Framing("binary2", size_max=0)
    with pytest.raises(ValueError, match=r"expected one of binary2, .* got 'ascii2'"):
        Framing("ascii2")
