"""Five bytes before each message: an id and two addresses, swapped in what we send."""

from __future__ import annotations

import pytest

from switch.link._framing import FrameReader, Framing
from tests.unit.link.in_memory import NOW, Fields, Line, Switch, fields

TPDU, SWAPPED = bytes.fromhex("60 0123 4567"), bytes.fromhex("60 4567 0123")


@pytest.fixture
def switch():
    return Switch(tpdu=True, framing="ascii4", inclusive=True)


def framed(switch: Switch, message: Fields, tpdu: bytes = TPDU) -> bytes:
    return switch.framing.encode(tpdu + switch.codec.encode(message))


def sent(line: Line) -> list[tuple[bytes, str, str]]:
    """TPDU, message type and response code of all that was written."""
    framing = Framing("ascii4", inclusive=True)
    bodies = FrameReader(framing).feed(b"".join(line.transport.writes))
    messages = [(body[:5], line.switch.codec.decode(body[5:])) for body in bodies]
    return [(tpdu, message.mti, message.get(39, "")) for tpdu, message in messages]


def test_a_reply_goes_back_to_where_its_request_came_from(switch):
    line = switch.connect()
    others = bytes.fromhex("68 0a0b 0c0d")
    line.receive(
        framed(switch, fields("0100", 1))
        + framed(switch, fields("0100", 2, card="lost"), others)
        + framed(switch, fields("0800", 3))
    )
    switch.settle()
    assert sorted(sent(line), key=lambda each: each[1:]) == [
        (SWAPPED, "0110", "00"),
        (bytes.fromhex("68 0c0d 0a0b"), "0110", "41"),
        (SWAPPED, "0810", "00"),
    ]


def test_it_may_come_in_pieces(switch):
    line = switch.connect()
    for byte in framed(switch, fields("0100", 1)):
        line.receive(bytes([byte]))
    switch.settle()
    assert sent(line) == [(SWAPPED, "0110", "00")]


def test_a_withdrawn_approval_is_declined_to_where_it_came_from(switch):
    line = switch.connect()
    line.receive(framed(switch, fields("0100", 1)))
    switch.turn()
    # Another one's addresses are the latest by then.
    line.receive(framed(switch, fields("0100", 2), bytes.fromhex("60 1111 2222")))
    switch.now = NOW + 5_001
    switch.settle()
    assert (SWAPPED, "0110", "91") in sent(line)


def test_a_malformed_request_is_answered_with_it(switch):
    line = switch.connect()
    body = TPDU + switch.codec.encode(fields("0100", 1))[:-1]
    line.receive(switch.framing.encode(body))
    switch.settle()
    assert sent(line) == [(SWAPPED, "0110", "30")]


@pytest.mark.parametrize("body", [b"\x60", TPDU[:4], TPDU])
def test_what_is_too_short_for_it_is_dropped(switch, body):
    line = switch.connect()
    line.receive(switch.framing.encode(body))
    line.receive(framed(switch, fields("0100", 1)))
    switch.settle()
    assert switch.counters.malformed_dropped == 1
    assert sent(line) == [(SWAPPED, "0110", "00")]


def test_our_own_requests_have_it_before_anybody_has_sent_any():
    switch = Switch(tpdu=True, session={"sign_on": "send"})
    line = switch.connect()
    (body,) = FrameReader(Framing("binary2")).feed(b"".join(line.transport.writes))
    assert body[:5] == bytes.fromhex("60 0000 0000")
    assert switch.codec.decode(body[5:])[70] == "001"
