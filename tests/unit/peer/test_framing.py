"""What nodes say to each other, as bytes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.peer.errors import PeerProtocolError
from switch.peer.framing import BODY_SIZE_MAX, Frame, FrameReader, Kind, pack

frames = st.builds(
    Frame,
    st.sampled_from(Kind),
    st.integers(0, 0xFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF_FFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.binary(max_size=40),
)


def packed(frame):
    return pack(
        frame.kind, frame.body, link=frame.link, shard=frame.shard,
        number=frame.number, left_ms=frame.left_ms,
    )  # fmt: skip


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 60), max_size=30))
def test_what_was_packed_is_read_wherever_the_stream_is_cut(sent, sizes):
    stream = b"".join(map(packed, sent))
    reader = FrameReader()
    read = []
    at = 0
    for size in [*sizes, len(stream)]:
        read += reader.feed(stream[at : at + size])
        at += size
    assert read == sent


def test_byte_by_byte_it_is_the_same():
    sent = [
        Frame(Kind.REQUEST, 1, 2, 3, 4, b"body"),
        Frame(Kind.PING, 0, 0, 0, 0, b""),
        Frame(Kind.ANSWER, 0, 0, 9, 0, b"x" * BODY_SIZE_MAX),
    ]
    reader = FrameReader()
    stream = b"".join(map(packed, sent))
    read = [frame for byte in stream for frame in reader.feed(bytes((byte,)))]
    assert read == sent


def test_a_frame_by_its_bytes():
    assert (
        pack(Kind.REQUEST, b"ab", link=2, shard=0x0304, number=5, left_ms=1000)
        == bytes.fromhex("00000012 02 02 0304 0000000000000005 000003e8") + b"ab"
    )


@pytest.mark.parametrize("kind", [0, 11, 255])
def test_a_kind_that_is_none_is_refused(kind):
    wrong = bytearray(pack(Kind.PING))
    wrong[4] = kind
    with pytest.raises(PeerProtocolError, match="a kind from 1 to 10"):
        FrameReader().feed(bytes(wrong))


@pytest.mark.parametrize("size", [0, 15, 16 + BODY_SIZE_MAX + 1, 0xFFFFFFFF])
def test_a_size_that_is_none_is_refused_before_anything_is_kept(size):
    wrong = size.to_bytes(4, "big") + pack(Kind.PING)[4:]
    with pytest.raises(PeerProtocolError, match=f"a body up to {BODY_SIZE_MAX} bytes"):
        FrameReader().feed(wrong)


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(data):
    with suppress(PeerProtocolError):
        FrameReader().feed(data)
