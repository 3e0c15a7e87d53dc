"""A link that is flooded takes turns: a turn of no time at all is one frame."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.link.in_memory import Switch, fields

MANY = 50
# Longer than a connection is left alone that sends too many pieces.
REST_S = 0.2
HOUR_MS = 3_600_000


def read(switch, line, *messages):
    """All of them in one read event."""
    line.read(b"".join(map(switch.frame, messages)))


def requests(*stans, amount=1):
    return [fields("0100", stan, amount=amount) for stan in stans]


def test_what_was_read_and_has_no_turn_yet_is_handled_later_in_order():
    switch = Switch(turn_ns=0)
    line = switch.connect()
    read(switch, line, *requests(*range(MANY)))
    assert line.connection.outstanding == 1
    assert not line.transport.is_reading
    assert line.connection.is_held_up
    switch.settle()
    assert [int(stan) for stan in line.stans] == list(range(MANY))
    assert line.transport.is_reading
    assert not line.connection.is_held_up
    assert switch.counters.paused_by_turn == MANY - 1


def test_in_a_turn_that_is_long_enough_all_is_handled_at_once():
    switch = Switch()
    line = switch.connect()
    read(switch, line, *requests(*range(MANY)))
    assert line.connection.outstanding == MANY
    assert line.transport.is_reading


def test_those_that_wait_go_on_one_after_the_other():
    """One that sends little does not wait for all of one that sends much."""
    switch = Switch(turn_ns=0)
    flooding, other = switch.connect(), switch.connect()
    read(switch, flooding, *requests(*range(MANY)))
    read(switch, other, fields("0800", 1))
    assert other.transport.writes == []
    while not other.transport.writes:
        switch.ready.pop(0)()
    assert flooding.connection.outstanding == 2


@settings(max_examples=30)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.data())
def test_turns_change_no_answer(counts, data):
    """However the streams are cut, and whoever reads first."""
    switch = Switch(
        turn_ns=0, session={"echo_interval_ms": HOUR_MS}, frame_timeout_ms=HOUR_MS
    )
    lines = [switch.connect() for _ in counts]
    streams = [b"".join(map(switch.frame, requests(*range(count)))) for count in counts]
    while any(streams):
        index = data.draw(st.sampled_from([i for i, s in enumerate(streams) if s]))
        size = data.draw(st.integers(1, len(streams[index])))
        if not lines[index].transport.is_reading:
            switch.settle()
            switch.loop.advance(REST_S)  # it may have sent too many pieces
        lines[index].read(streams[index][:size])
        streams[index] = streams[index][size:]
    switch.settle()
    switch.loop.advance(REST_S)
    for line, count in zip(lines, counts, strict=True):
        assert [int(stan) for stan in line.stans] == list(range(count))
        assert line.transport.is_reading


@pytest.mark.parametrize("kind", ["drain", "peer"])
def test_what_was_received_is_answered_before_the_end(kind):
    switch = Switch(turn_ns=0)
    line = switch.connect()
    read(switch, line, *requests(1, 2, 3))
    if kind == "drain":
        line.connection.finish("drain", "the switch is stopping")
    else:
        assert line.connection.eof_received()
    switch.settle()
    assert line.stans == ["000001", "000002", "000003"]
    assert line.transport.is_closed
    assert switch.counters.closed == {kind: 1}


def test_a_transport_that_cannot_wait_is_handled_at_once():
    switch = Switch(turn_ns=0)
    line = switch.connect()
    line.send(*requests(*range(MANY)))
    assert line.connection.outstanding == MANY


def test_one_that_is_lost_while_it_waits_is_only_not_answered():
    switch = Switch(turn_ns=0)
    line, other = switch.connect(), switch.connect()
    read(switch, line, *requests(1, 2, 3))
    line.transport.lose(None)
    read(switch, other, *requests(4, 5))
    switch.settle()
    assert other.stans == ["000004", "000005"]
    assert switch.closed == [line.connection]
    assert switch.counters.faults == 0


def test_garbage_that_waits_for_its_turn_ends_the_connection_then():
    switch = Switch(turn_ns=0)
    line = switch.connect()
    line.read(switch.frame(fields()) + b"\xff\xff")
    assert not line.connection.ending
    switch.settle()
    assert line.codes == ["00"]
    assert switch.counters.closed == {"framing": 1}


def test_too_many_outstanding_stop_its_turns_until_half_are_answered():
    switch = Switch(turn_ns=0, outstanding_max=2)
    line = switch.connect()
    read(switch, line, *requests(1, 2, 3, 4))
    switch.turn()
    assert line.connection.outstanding == 2
    switch.settle()
    assert line.stans == ["000001", "000002", "000003", "000004"]
    assert line.transport.is_reading


def test_a_peer_that_does_not_read_has_no_turn_until_it_does():
    switch = Switch(turn_ns=0)
    line = switch.connect()
    read(switch, line, *requests(1, 2, 3))
    line.connection.pause_writing()
    switch.settle()
    assert line.stans == ["000001"]
    line.connection.resume_writing()
    switch.settle()
    assert line.stans == ["000001", "000002", "000003"]
    assert line.transport.is_reading


# --- frames that are no requests


def noise(count):
    return [fields("0110", stan, changes={39: "00"}) for stan in range(count)]


def test_frames_that_are_no_requests_leave_most_of_the_time_to_others():
    switch = Switch(turn_ns=0)
    line, other = switch.connect(), switch.connect()
    # Reads of many connections in one turn: what they bring first is taken.
    noisy = [switch.connect() for _ in range(6)]
    read(switch, line, *noise(3))
    for each in noisy:
        each.receive(b"".join(map(switch.frame, noise(2))))
    dropped = switch.counters.responses_unexpected
    switch.turn()
    assert switch.counters.responses_unexpected == dropped
    read(switch, other, *requests(7))
    switch.settle()
    assert switch.counters.responses_unexpected == dropped
    switch.loop.advance(0.001)
    switch.settle()
    assert switch.counters.responses_unexpected == 15
    assert other.stans == ["000007"]
    assert line.transport.is_reading
