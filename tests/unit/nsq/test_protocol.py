"""Whatever bytes come, there are frames, or NsqProtocolError; never another error."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.nsq import protocol
from switch.nsq.errors import NsqProtocolError
from switch.nsq.protocol import FRAME_BYTES_MAX, Frame, Frames, FrameType, message_of
from tests.unit.nsq.peer import HEARTBEAT, OK, frame, message

STREAM = HEARTBEAT + OK + frame(1, b"E_BAD_TOPIC no") + message(b"body") + frame(0, b"")
FOUND = [
    Frame(FrameType.RESPONSE, b"_heartbeat_"),
    Frame(FrameType.RESPONSE, b"OK"),
    Frame(FrameType.ERROR, b"E_BAD_TOPIC no"),
    Frame(FrameType.MESSAGE, message(b"body")[8:]),
    Frame(FrameType.RESPONSE, b""),
]


def test_whole_and_byte_by_byte_the_frames_are_the_same():
    assert list(Frames().feed(STREAM)) == FOUND
    frames = Frames()
    found: list[Frame] = []
    for index in range(len(STREAM)):
        found += frames.feed(STREAM[index : index + 1])
    assert found == FOUND


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_wherever_it_is_cut_the_frames_are_the_same(cuts):
    frames = Frames()
    found: list[Frame] = []
    begin = 0
    for cut in [*sorted(cuts), len(STREAM)]:
        found += frames.feed(STREAM[begin:cut])
        begin = cut
    assert found == FOUND


@given(st.binary(max_size=200))
def test_garbage_is_frames_or_a_protocol_error(data):
    with contextlib.suppress(NsqProtocolError):
        for found in Frames().feed(data):
            if found.type == FrameType.MESSAGE:
                message_of(found)


@pytest.mark.parametrize("size", [0, 3, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_a_frame_of_no_possible_size_is_refused_at_once(size):
    with pytest.raises(NsqProtocolError, match=f"got {size}"):
        list(Frames().feed(struct.pack(">II", size, 0)))


def test_a_frame_of_no_known_type_is_refused():
    with pytest.raises(NsqProtocolError, match="expected a type up to 2, got 3"):
        list(Frames().feed(frame(3, b"")))


def test_a_message_too_short_to_be_one_is_refused():
    with pytest.raises(NsqProtocolError, match="at least 26 bytes, got 25"):
        message_of(Frame(FrameType.MESSAGE, bytes(25)))
    (found,) = Frames().feed(message(b"", b"fedcba9876543210", 3))
    taken = message_of(found)
    assert (taken.body, taken.id, taken.attempts) == (b"", b"fedcba9876543210", 3)


def test_commands_are_as_nsqd_reads_them():
    assert protocol.publish_many("t", [b"a", b""]) == (
        b"MPUB t\n\0\0\0\x0d\0\0\0\2\0\0\0\1a\0\0\0\0"
    )
    assert protocol.subscribe("t", "c") == b"SUB t c\n"
    assert protocol.ready(7) == b"RDY 7\n"
    assert protocol.finish(b"i" * 16) == b"FIN " + b"i" * 16 + b"\n"
    assert protocol.requeue(b"i" * 16, 250) == b"REQ " + b"i" * 16 + b" 250\n"
    assert protocol.touch(b"i" * 16) == b"TOUCH " + b"i" * 16 + b"\n"
