"""A peer that sends its frames in many small pieces is looked at more and more seldom,
and loses nothing by it."""

from __future__ import annotations

import pytest

from switch.link._connection import (
    PIECE_BYTES,
    PIECE_REST_DOUBLINGS,
    PIECE_REST_S,
    PIECES_MAX,
)
from tests.unit.link.in_memory import Line, Switch, fields

HOUR_MS = 3_600_000


@pytest.fixture
def switch() -> Switch:
    return Switch(session={"echo_interval_ms": HOUR_MS}, frame_timeout_ms=HOUR_MS)


@pytest.fixture
def line(switch):
    return switch.connect()


def frame(switch: Switch, stan: int) -> bytes:
    return switch.frame(fields("0100", stan, amount=1))


def drip(line: Line, data: bytes) -> list[float]:
    """A byte a read, whenever it is read again; how long that took each time."""
    rests = []
    loop = line.switch.loop
    for byte in data:
        since = loop.now
        while not line.transport.is_reading:
            loop.advance(min(timer.at for timer in loop.timers) - loop.now)
        rests.append(loop.now - since)
        line.read(bytes([byte]))
    line.switch.settle()
    return rests


def test_it_rests_twice_as_long_each_time_up_to_a_bound(switch, line):
    data = frame(switch, 1)
    rests = drip(line, data)
    count = PIECE_REST_DOUBLINGS + 3
    expected = [PIECE_REST_S * 2**n for n in range(PIECE_REST_DOUBLINGS + 1)]
    expected += [expected[-1]] * 2
    assert rests[: PIECES_MAX + 1] == [0] * (PIECES_MAX + 1)
    assert rests[PIECES_MAX + 1 :][:count] == pytest.approx(expected)
    assert line.stans == ["000001"]
    assert switch.counters.paused_by_pieces == len(data) - PIECES_MAX - 1


def test_who_did_so_is_not_given_as_many_pieces_again(switch, line):
    drip(line, frame(switch, 1))
    assert drip(line, frame(switch, 2))[2:4] == pytest.approx(
        [PIECE_REST_S, 2 * PIECE_REST_S]
    )
    line.read(frame(switch, 3))
    switch.settle()
    assert drip(line, frame(switch, 4))[: PIECES_MAX + 1] == [0] * (PIECES_MAX + 1)
    switch.settle()
    assert [int(stan) for stan in line.stans] == [1, 2, 3, 4]


def test_who_sends_the_header_and_then_the_rest_never_waits(switch, line):
    for stan in range(1, 4 * PIECES_MAX):
        data = frame(switch, stan)
        line.read(data[:2])
        line.read(data[2:])
    assert switch.counters.paused_by_pieces == 0


def test_large_pieces_are_no_small_ones():
    switch = Switch(frame_size_max=9999)
    line = switch.connect()
    line.read(b"\x20\x00")  # 8192 bytes
    for _ in range(3 * PIECES_MAX):
        line.read(b"0" * PIECE_BYTES)
    assert line.transport.is_reading
    assert switch.counters.paused_by_pieces == 0


def test_a_rest_gives_the_frame_no_more_time():
    switch = Switch(frame_timeout_ms=1_000)
    line = switch.connect()
    data = frame(switch, 1)
    for byte in data[: PIECES_MAX + 1]:
        line.read(bytes([byte]))
    assert not line.transport.is_reading
    assert not line.connection.is_held_up
    switch.loop.advance(1.01)
    assert line.connection.end_kind == "slow"


def test_one_that_ends_meanwhile_is_left_alone(switch, line):
    for byte in frame(switch, 1)[: PIECES_MAX + 1]:
        line.read(bytes([byte]))
    line.transport.abort()
    switch.settle()
    switch.loop.advance(1)
    assert switch.counters.closed == {"peer": 1}
