"""How a connection slows down and how it ends, in memory: see `in_memory`."""

from __future__ import annotations

import pytest

from tests.unit.link.in_memory import Switch, fields

DRAIN_S = 10


def asking(switch, line, *stans):
    """These requests are with the journal now."""
    line.send(*(fields("0100", stan, amount=1) for stan in stans))
    switch.turn()


# --- back-pressure


def test_too_many_outstanding_requests_pause_reading_until_half_are_answered():
    switch = Switch(outstanding_max=4)
    line, other = switch.connect(), switch.connect()
    asking(switch, line, 1, 2, 3)
    assert line.transport.is_reading
    asking(switch, line, 4)
    assert not line.transport.is_reading
    assert other.transport.is_reading
    assert switch.counters.paused_by_outstanding == 1
    switch.make_durable()  # 1, 2, 3: one is left
    assert line.connection.outstanding == 1
    assert line.transport.is_reading
    switch.make_durable()
    assert line.codes == ["00"] * 4


def test_reading_goes_on_at_half_and_not_before():
    switch = Switch(outstanding_max=4)
    line = switch.connect()
    asking(switch, line, 1)
    asking(switch, line, 2, 3, 4)
    switch.make_durable()
    assert line.connection.outstanding == 3
    assert not line.transport.is_reading
    switch.make_durable()
    assert line.transport.is_reading


def test_one_read_event_may_bring_more_than_may_be_outstanding():
    """What was read is answered; only no more is read."""
    switch = Switch(outstanding_max=2)
    line = switch.connect()
    asking(switch, line, *range(1, 11))
    assert line.connection.outstanding == 10
    assert not line.transport.is_reading
    switch.settle()
    assert line.codes == ["00"] * 10
    assert line.transport.is_reading


def test_a_peer_that_does_not_read_is_not_read_from():
    switch = Switch()
    line = switch.connect()
    line.connection.pause_writing()
    assert not line.transport.is_reading
    assert switch.counters.paused_by_peer == 1
    line.connection.resume_writing()
    assert line.transport.is_reading


@pytest.mark.parametrize("first", ["peer", "outstanding"])
def test_reading_goes_on_when_both_reasons_to_pause_are_gone(first):
    switch = Switch(outstanding_max=1)
    line = switch.connect()
    asking(switch, line, 1)
    line.connection.pause_writing()
    steps = [line.connection.resume_writing, switch.make_durable]
    if first == "outstanding":
        steps.reverse()
    steps[0]()
    assert not line.transport.is_reading
    steps[1]()
    assert line.transport.is_reading


# --- the end, in good order


def test_finish_answers_what_is_due_and_then_closes():
    switch = Switch()
    line = switch.connect()
    asking(switch, line, 1, 2)
    line.connection.finish("drain", "the switch is stopping")
    assert not line.transport.is_reading
    assert not line.transport.is_closed
    asking(switch, line, 3)  # too late: not even read
    switch.settle()
    assert line.stans == ["000001", "000002"]
    assert line.transport.is_closed
    assert not line.transport.is_aborted
    assert (line.connection.end_kind, line.connection.end_reason) == (
        "drain",
        "the switch is stopping",
    )
    assert switch.closed == [line.connection]
    assert switch.counters.closed == {"drain": 1}


def test_finish_waits_for_every_commit_that_has_an_answer_of_this_connection():
    switch = Switch()
    line = switch.connect()
    asking(switch, line, 1)
    asking(switch, line, 2)
    line.connection.finish("drain", "")
    switch.make_durable()
    assert not line.transport.is_closed
    switch.make_durable()
    assert line.transport.is_closed
    assert line.stans == ["000001", "000002"]


def test_with_nothing_due_finish_closes_at_once():
    switch = Switch()
    line = switch.connect()
    line.connection.finish("drain", "")
    assert line.transport.is_closed


def test_a_signed_on_peer_is_told_before_the_end():
    switch = Switch()
    line, unknown = switch.connect(), switch.connect()
    switch.ask(line, fields("0800", 1, changes={70: "001"}))
    for each in (line, unknown):
        each.connection.finish("drain", "")
    goodbye = line.replies[-1]
    assert (goodbye.mti, goodbye[70]) == ("0800", "002")
    assert unknown.transport.writes == []


def test_the_first_reason_counts():
    switch = Switch()
    line = switch.connect()
    asking(switch, line, 1)
    line.connection.finish("drain", "first")
    line.connection.finish("framing", "second")
    switch.settle()
    assert line.connection.end_reason == "first"
    assert switch.counters.closed == {"drain": 1}


def test_half_a_close_still_gets_its_answers():
    switch = Switch()
    line = switch.connect()
    asking(switch, line, 1)
    assert line.connection.eof_received() is True
    assert not line.transport.is_closed
    switch.settle()
    assert line.codes == ["00"]
    assert line.transport.is_closed
    assert switch.counters.closed == {"peer": 1}


def test_half_a_frame_before_the_close_is_nothing():
    switch = Switch()
    line = switch.connect()
    line.read(switch.frame(fields("0100", 1))[:-1])
    line.connection.eof_received()
    switch.settle()
    assert line.transport.is_closed
    assert line.transport.writes == []
    assert switch.committed == []


# --- the end, in bad order


def test_what_takes_too_long_is_cut_off():
    switch = Switch(drain_timeout_ms=DRAIN_S * 1000)
    line = switch.connect()
    asking(switch, line, 1)
    line.connection.finish("drain", "the switch is stopping")
    switch.loop.advance(DRAIN_S - 1)
    assert not line.transport.is_closed
    switch.loop.advance(1)
    assert line.transport.is_aborted
    switch.turn()
    assert switch.counters.closed == {"timeout": 1}
    assert line.connection.end_reason == "the switch is stopping; 1 answers were due"
    # the commit comes all the same, and finds nobody
    switch.settle()
    assert line.transport.writes == []
    assert switch.counters.replies_dropped == 1
    assert switch.counters.outstanding == 0


def test_an_end_in_time_is_not_cut_off_later():
    switch = Switch(drain_timeout_ms=DRAIN_S * 1000)
    line = switch.connect()
    asking(switch, line, 1)
    line.connection.finish("drain", "")
    switch.settle()
    switch.loop.advance(DRAIN_S * 2)
    assert not line.transport.is_aborted


def test_a_connection_that_is_cut_for_a_fault_is_counted_as_one():
    switch = Switch()
    line = switch.connect()
    asking(switch, line, 1)
    line.connection.finish("fault", "the journal cannot be written")
    line.connection.cut_off()
    switch.turn()
    assert switch.counters.closed == {"fault": 1}
    assert line.transport.is_aborted


def test_a_peer_that_is_lost_before_its_commit_is_only_not_answered():
    switch = Switch()
    line, other = switch.connect(), switch.connect()
    asking(switch, line, 1)
    asking(switch, other, 2)
    line.transport.lose(ConnectionResetError(104, "Connection reset by peer"))
    switch.settle()
    assert line.transport.writes == []
    assert other.codes == ["00"]
    assert switch.counters.replies_dropped == 1
    assert switch.counters.closed == {"peer": 1}
    assert line.connection.end_reason == "connection reset by peer"
    # the same request on another connection gets the answer
    switch.ask(other, fields("0101", 1, amount=1))
    assert other.codes == ["00", "00"]
    assert switch.account().held == 2
    assert switch.dispatcher.repeated == 1


def test_a_connection_that_may_not_stay_is_cut_and_leaves_nothing():
    switch = Switch()
    switch.accepts = False
    line = switch.connect()
    assert line.transport.is_aborted
    line.read(switch.frame(fields("0100", 1)))
    switch.settle()
    assert line.transport.writes == []
    assert switch.closed == []
    assert switch.counters.frames_received == 0
    assert switch.loop.timers == []


def test_a_lost_connection_leaves_no_timer():
    switch = Switch()
    lines = [switch.connect(), switch.connect()]
    asking(switch, lines[0], 1)
    lines[0].connection.finish("drain", "")
    for line in lines:
        line.transport.lose(None)
    switch.settle()
    assert all(timer.cancelled for timer in switch.loop.timers)


# --- line tests


def test_a_peer_that_answers_no_line_test_is_gone(caplog):
    switch = Switch(
        session={
            "echo_interval_ms": 60_000,
            "response_timeout_ms": 10_000,
            "unanswered_max": 2,
        }
    )
    line = switch.connect()
    switch.ask(line, fields("0800", 1, changes={70: "001"}))
    switch.loop.advance(61)
    assert [message[70] for message in line.replies[1:]] == ["301"]
    switch.loop.advance(20)
    switch.turn()
    assert [message.mti for message in line.replies[1:]] == ["0800", "0800"]
    assert switch.counters.closed == {"session": 1}
    assert switch.counters.network_unanswered == 2
    silent = [record for record in caplog.records if "no answer" in record.message]
    assert [record.switch_fields for record in silent] == [
        {"link": "main", "peer": "192.0.2.1:40000"}
    ] * 2


def test_an_answered_line_test_keeps_the_connection():
    switch = Switch(session={"echo_interval_ms": 60_000})
    line = switch.connect()
    switch.ask(line, fields("0800", 1, changes={70: "001"}))
    for _ in range(5):
        switch.loop.advance(61)
        test = line.replies[-1]
        assert test.mti == "0800"
        answer = fields("0810", int(test[11]), changes={70: "301", 39: "00"})
        assert switch.ask(line, answer) == []
    assert not line.connection.ending
    assert switch.counters.responses_unexpected == 0
    assert switch.counters.network_unanswered == 0


def test_a_connection_that_we_do_not_read_is_not_taken_for_dead():
    switch = Switch(
        outstanding_max=1,
        session={
            "echo_interval_ms": 60_000,
            "response_timeout_ms": 10_000,
            "unanswered_max": 1,
        },
    )
    line = switch.connect()
    switch.ask(line, fields("0800", 1, changes={70: "001"}))
    asking(switch, line, 2)
    assert not line.transport.is_reading
    switch.loop.advance(500)
    assert not line.connection.ending


# --- half a frame that never becomes whole

FRAME_S = 1
FRAME_MS = 1000


def half(switch):
    frame = switch.frame(fields())
    return frame[: len(frame) // 2], frame[len(frame) // 2 :]


def test_a_frame_that_never_becomes_whole_ends_its_connection_and_no_other():
    switch = Switch(frame_timeout_ms=FRAME_MS)
    line, idle = switch.connect(), switch.connect()
    first, _rest = half(switch)
    line.receive(first)
    switch.loop.advance(FRAME_S - 0.1)
    assert not line.connection.ending
    switch.loop.advance(0.2)
    switch.turn()
    assert line.connection.end_reason == (
        f"{len(first)} bytes of a frame that is not whole after 1 s"
    )
    assert switch.counters.closed == {"slow": 1}
    assert switch.closed == [line.connection]
    assert not idle.connection.ending


def test_a_byte_now_and_then_buys_no_time():
    switch = Switch(frame_timeout_ms=FRAME_MS)
    line = switch.connect()
    for byte in switch.frame(fields())[:-1]:
        if line.transport.is_closed:
            break
        line.receive(bytes([byte]))
        switch.loop.advance(0.1)
    switch.turn()
    assert switch.loop.now < 1_000 + 1.5
    assert switch.counters.closed == {"slow": 1}


def test_each_frame_has_its_own_time():
    switch = Switch(frame_timeout_ms=FRAME_MS)
    line = switch.connect()
    first, rest = half(switch)
    line.receive(first)
    for _ in range(5):
        switch.loop.advance(FRAME_S * 0.9)
        line.receive(rest + first)
        switch.settle()
    assert line.codes == ["00"] * 5
    switch.loop.advance(FRAME_S * 0.9)
    assert not line.connection.ending
    switch.loop.advance(FRAME_S * 0.2)
    switch.turn()
    assert switch.counters.closed == {"slow": 1}


def test_what_is_due_is_answered_before_a_slow_connection_ends():
    switch = Switch(frame_timeout_ms=FRAME_MS)
    line = switch.connect()
    line.receive(switch.frame(fields()) + half(switch)[0])
    switch.turn()
    switch.loop.advance(FRAME_S)
    assert not line.transport.is_closed
    switch.settle()
    assert line.codes == ["00"]
    assert line.transport.is_closed


def test_while_we_do_not_read_no_frame_is_late():
    switch = Switch(frame_timeout_ms=FRAME_MS)
    line = switch.connect()
    first, rest = half(switch)
    line.receive(first)
    line.connection.pause_writing()
    switch.loop.advance(FRAME_S * 3)
    line.connection.resume_writing()
    switch.loop.advance(FRAME_S * 0.9)
    assert not line.connection.ending
    line.receive(rest)
    switch.settle()
    assert line.codes == ["00"]


def test_a_switch_that_was_stopped_itself_first_reads_what_has_come():
    switch = Switch(frame_timeout_ms=FRAME_MS)
    line = switch.connect()
    first, rest = half(switch)
    line.receive(first)
    (timer,) = (t for t in switch.loop.timers if t.at == switch.loop.now + FRAME_S)
    switch.loop.now += FRAME_S * 5
    switch.loop.timers.remove(timer)
    timer.callback()
    assert not line.connection.ending
    line.receive(rest)
    switch.settle()
    assert line.codes == ["00"]
    switch.loop.advance(FRAME_S)
    assert not line.connection.ending
