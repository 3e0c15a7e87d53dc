from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iso8583.dialect import FunctionCodes, NetworkCodes
from switch.link.session import (
    TABLE,
    Answer,
    Close,
    Drop,
    Event,
    Report,
    Send,
    Session,
    State,
    Step,
)
from switch.link.settings import SessionSettings

STANDARD = NetworkCodes()
ASKING = {
    State.OPEN_TESTING,
    State.SIGNING_ON,
    State.SIGNED_ON_TESTING,
    State.SIGNING_OFF,
}


class Line:
    """A session and the clock it is given."""

    def __init__(self, codes=STANDARD, **settings):
        self.now = 1000.0
        self.session = Session(
            SessionSettings(**settings),
            lambda: self.now,
            itertools.count(1).__next__,
            codes,
        )

    def after(self, seconds):
        self.now += seconds
        return self.session.tick()


def test_the_peer_signs_on_tests_the_line_and_signs_off():
    session = Line().session
    assert session.opened() == []
    assert not session.signed_on
    assert session.peer_request("301") == [Answer("00")]
    assert session.peer_request("001") == [Answer("00")]
    assert session.signed_on
    assert session.peer_request("301") == [Answer("00")]
    assert session.signed_on
    assert session.peer_request("002") == [Answer("00")]
    assert not session.signed_on


def test_the_dialect_says_which_codes_are_taken_and_which_are_sent():
    codes = NetworkCodes(
        sign_on=FunctionCodes("071", ("001",)),
        sign_off=FunctionCodes("072"),
        echo=FunctionCodes("270", ("301",)),
    )
    line = Line(codes, sign_on="send")
    assert line.session.opened() == [Send("071", 1)]
    assert line.session.peer_answer(1, "00") == []
    assert line.after(60) == [Send("270", 2)]
    assert line.session.peer_answer(2, "00") == []
    assert line.session.sign_off() == [Send("072", 3)]
    assert line.session.peer_answer(3, "00") == []
    for function, signed_on in (("001", True), ("072", False), ("071", True)):
        assert line.session.peer_request(function) == [Answer("00")]
        assert line.session.signed_on is signed_on
    assert line.session.peer_request("002") == [Answer("12")]
    assert line.session.peer_request("301") == [Answer("00")]
    assert line.session.signed_on


def test_an_unknown_function_is_invalid_and_a_missing_one_a_format_error():
    session = Line().session
    assert session.peer_request("999") == [Answer("12")]
    assert session.peer_request(None) == [Answer("30")]


def test_an_answer_that_nobody_waits_for_is_dropped():
    session = Line().session
    assert session.peer_answer(7, "00") == [Drop()]
    session.peer_request("001")
    assert session.peer_answer(7, "00") == [Drop()]
    assert session.signed_on


def test_we_sign_on_when_told_to_and_off_again():
    session = Line(sign_on="send").session
    assert session.opened() == [Send("001", 1)]
    assert not session.signed_on
    assert session.peer_answer(1, "00") == []
    assert session.signed_on
    assert session.sign_off() == [Send("002", 2)]
    assert session.peer_answer(2, "00") == []
    assert not session.signed_on


def test_a_refused_sign_on_is_reported_and_tried_again_after_the_interval():
    line = Line(sign_on="send")
    line.session.opened()
    assert line.session.peer_answer(1, "05") == [Report("signing on: refused with 05")]
    assert line.after(59) == []
    assert line.after(1) == [Send("001", 2)]


def test_two_sign_ons_may_cross():
    session = Line(sign_on="send").session
    session.opened()
    assert session.peer_request("001") == [Answer("00")]
    assert session.peer_answer(1, "00") == []
    assert session.signed_on


def test_a_silent_line_is_tested_and_an_answer_to_any_repeat_counts():
    line = Line()
    line.session.peer_request("001")
    assert line.after(60) == [Send("301", 1)]
    assert line.after(9) == []
    assert line.after(1) == [Send("301", 2)]
    assert line.session.peer_answer(1, "00") == []
    assert line.session.state is State.SIGNED_ON
    assert line.after(59) == []
    assert line.after(1) == [Send("301", 3)]


def test_after_three_unanswered_tests_the_connection_is_closed():
    line = Line()
    line.session.peer_request("001")
    assert line.after(60) == [Send("301", 1)]
    assert line.after(10) == [Send("301", 2)]
    assert line.after(10) == [Send("301", 3)]
    assert line.after(10) == [Close("signed on testing: 3 requests were not answered")]
    assert line.after(1000) == []
    assert line.session.peer_request("001") == []


def test_other_traffic_proves_the_peer_alive_and_puts_the_test_off():
    line = Line()
    line.session.peer_request("001")
    line.after(60)
    line.now += 5
    line.session.heard(line.now)
    assert line.after(5) == []
    assert line.session.state is State.SIGNED_ON
    line.now += 50
    line.session.heard(line.now)
    assert line.after(59) == []
    assert line.after(1) == [Send("301", 2)]


def test_a_line_that_was_never_used_is_left_alone_and_a_used_one_is_tested():
    line = Line()
    assert line.after(60) == []
    assert line.after(60) == []
    line.session.heard(line.now)
    assert line.after(60) == [Send("301", 1)]


@pytest.mark.parametrize("state", set(State) - {State.CLOSED})
def test_every_state_answers_whatever_the_peer_can_send(state):
    for event in Event:
        if event.name.startswith("PEER_"):
            _, step = TABLE[state][event]
            assert step.name.startswith(("APPROVE", "REFUSE"))
    assert TABLE[state][Event.UNEXPECTED] == (state, Step.DROP)
    assert TABLE[state][Event.LOST][0] is State.CLOSED


def test_an_answer_never_causes_an_answer():
    for row in TABLE.values():
        for event in (Event.ACCEPTED, Event.REFUSED, Event.UNEXPECTED):
            if event in row:
                assert row[event][1] in (Step.NOTHING, Step.REPORT_REFUSED, Step.DROP)


steps = st.one_of(
    st.tuples(st.just("peer"), st.sampled_from(["001", "002", "301", "xyz", None])),
    st.tuples(st.just("answer"), st.integers(1, 40)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 10, 60])),
    st.tuples(st.just("heard"), st.none()),
    st.tuples(st.sampled_from(["on", "off"]), st.none()),
)


@given(st.lists(steps, max_size=60), st.sampled_from(["wait", "send"]))
def test_any_sequence_keeps_timer_and_state_in_step(sequence, sign_on):
    line = Line(sign_on=sign_on)
    session = line.session
    session.opened()
    for name, value in sequence:
        if name == "peer":
            actions = session.peer_request(value)
            expected = 0 if session.state is State.CLOSED else 1
            assert len([a for a in actions if isinstance(a, Answer)]) == expected
        elif name == "answer":
            session.peer_answer(value, "00")
        elif name == "wait":
            line.after(value)
        elif name == "heard":
            session.heard(line.now)
        else:
            getattr(session, f"sign_{name}")()
        if session.state is not State.CLOSED:
            assert (session._asked_at is not None) == (session.state in ASKING)
            assert len(session._trace_numbers) <= 3
