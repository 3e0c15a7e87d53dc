"""A connection's requests and replies, in memory: see `in_memory`.

Invariant 1: no reply leaves before the entries that justify it are durable.
"""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch.flow import replies
from switch.flow.replies import ADVICE_APPROVED
from switch.link._framing import FRAMING_NAMES
from tests.messages import specs_of_1987
from tests.unit.link.in_memory import PANS, Switch, fields, original


def stream_of(switch):
    """A bit of everything that a peer may send, valid and not."""
    frames = [
        switch.frame(message)
        for message in (
            fields("0800", 1, changes={70: "001"}),
            fields("0100", 2),
            fields("0200", 3, card="other"),
            fields("0110", 4, changes={39: "00"}),
            fields("0100", 2),
            fields("0420", 5, changes={90: original("0100", 2)}),
            fields("0100", 6, changes={11: "ABCDEF"}),
            fields("0100", 7, amount=99_999_999),
        )
    ]
    malformed = switch.codec.encode(fields("0100", 8))[:-3]
    frames.insert(3, switch.framing.encode(malformed))
    frames.insert(4, switch.framing.encode(b"no message"))
    frames.insert(5, switch.framing.encode(b""))
    return b"".join(frames)


# --- when replies leave


def test_no_reply_leaves_before_its_commit_is_durable():
    switch = Switch()
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    assert switch.in_flight is not None
    assert line.transport.writes == []
    assert line.connection.outstanding == 1
    switch.make_durable()
    assert line.codes == ["00"]
    assert line.connection.outstanding == 0
    assert switch.released == [1]


def test_a_repeat_waits_for_the_commit_of_its_first_answer():
    switch = Switch()
    line, other = switch.connect(), switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    other.send(fields("0100", 1))
    switch.turn()
    assert other.transport.writes == []
    switch.make_durable()
    switch.turn()
    assert other.codes == ["00"]
    assert other.replies[0][38] == line.replies[0][38]


def test_a_repeat_of_what_is_durable_waits_for_nothing():
    switch = Switch()
    line = switch.connect()
    (first,) = switch.ask(line, fields("0100", 1))
    line.send(fields("0101", 1))
    switch.turn()
    assert switch.in_flight is None
    assert line.replies[1].to_dict() == first.to_dict()


def test_what_arrives_during_a_commit_leaves_with_the_next_one():
    switch = Switch()
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    line.send(fields("0100", 2))
    line.send(fields("0100", 3))
    switch.turn()
    switch.make_durable()
    assert line.stans == ["000001"]
    switch.make_durable()
    assert line.stans == ["000001", "000002", "000003"]
    assert len(switch.committed) == 2


def test_one_write_per_connection_and_commit():
    switch = Switch()
    lines = [switch.connect() for _ in range(3)]
    stans = itertools.count(1)
    for line in lines * 2:
        line.send(*(fields("0100", next(stans), amount=1) for _ in range(5)))
    switch.settle()
    assert [len(line.transport.writes) for line in lines] == [1, 1, 1]
    assert [len(line.replies) for line in lines] == [10, 10, 10]
    assert len(switch.committed) == 1


def test_replies_of_one_connection_do_not_wait_for_anothers():
    switch = Switch()
    early, late = switch.connect(), switch.connect()
    early.send(fields("0100", 1))
    switch.turn()
    late.send(fields("0100", 2, card="other"))
    switch.make_durable()
    assert early.codes == ["00"]
    assert late.codes == []
    assert switch.in_flight is not None


def test_a_peer_whose_write_fails_costs_the_others_nothing():
    switch = Switch()
    broken, sound = switch.connect(), switch.connect()
    broken.transport.write_error = RuntimeError("no write")
    for stan, line in enumerate((broken, sound), 1):
        line.send(fields("0100", stan))
    switch.settle()
    assert sound.codes == ["00"]
    assert broken.transport.is_aborted
    assert switch.counters.replies_dropped == 1
    assert switch.closed == [broken.connection]


def test_a_line_test_is_answered_past_the_journal():
    switch = Switch()
    line = switch.connect()
    line.send(fields("0100", 1), fields("0800", 2), fields("0800", 3))
    assert line.stans == ["000002", "000003"]
    assert len(line.transport.writes) == 1
    switch.settle()
    assert line.stans == ["000002", "000003", "000001"]


@pytest.mark.parametrize("is_writing", [True, False])
def test_after_the_journal_failed_nothing_is_answered_any_more(is_writing):
    """Nor what would need no commit: a repeat of what was answered before."""
    switch = Switch()
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    if not is_writing:
        switch.settle()
    answered = list(line.transport.writes)
    switch.group.stop(OSError("no disk"))
    line.send(fields("0100", 1))
    switch.turn()
    line.send(fields("0100", 2), fields("0100", 1))
    switch.turn()
    line.send(fields("0200", 3))
    switch.turn()
    assert line.transport.writes == answered
    assert switch.group.stopped
    assert switch.released == ([] if is_writing else [1])


# --- the bytes


@pytest.mark.parametrize("spec", specs_of_1987())
@pytest.mark.parametrize("framing", FRAMING_NAMES)
@pytest.mark.parametrize("inclusive", [False, True])
def test_bytes_whole_and_one_by_one_give_the_same_replies(spec, framing, inclusive):
    answers = []
    for size in (1, 7, 1_000_000):
        switch = Switch(spec, framing=framing, inclusive=inclusive)
        line = switch.connect()
        stream = stream_of(switch)
        for at in range(0, len(stream), size):
            line.read(stream[at : at + size])
        switch.settle()
        answers.append(sorted(map(bytes, line.replies)))
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 8


@settings(max_examples=100)
@given(st.lists(st.integers(1, 900), max_size=12))
def test_wherever_the_stream_is_cut_the_replies_are_the_same(sizes):
    switch = Switch()
    line, whole = switch.connect(), Switch().connect()
    stream = stream_of(switch)
    whole.read(stream)
    position = 0
    for size in sizes:
        line.read(stream[position : position + size])
        position += size
    line.read(stream[position:])
    for each in (line, whole):
        each.switch.settle()
    assert sorted(map(bytes, line.replies)) == sorted(map(bytes, whole.replies))


def test_read_events_of_several_connections_do_not_mix():
    """They share one receive buffer; each keeps its own partial frame."""
    switch = Switch()
    lines = [switch.connect() for _ in range(3)]
    streams = [switch.frame(fields("0100", stan)) for stan in (1, 2, 3)]
    for at in range(max(map(len, streams))):
        for line, stream in zip(lines, streams, strict=True):
            if at < len(stream):
                line.read(stream[at : at + 1])
    switch.settle()
    assert [line.stans for line in lines] == [["000001"], ["000002"], ["000003"]]


def test_both_kinds_of_protocol_give_the_same_replies():
    plain, buffered = Switch().connect(), Switch().connect()
    plain.receive(stream_of(plain.switch))
    buffered.read(stream_of(buffered.switch))
    plain.switch.settle()
    buffered.switch.settle()
    assert plain.transport.writes == buffered.transport.writes


def test_more_than_the_receive_buffer_holds_is_read_in_pieces():
    switch = Switch(outstanding_max=1_000_000)
    line = switch.connect()
    line.send(*(fields("0100", stan, amount=1) for stan in range(1, 1_001)))
    switch.settle()
    assert line.stans == [f"{stan:06d}" for stan in range(1, 1_001)]


def test_heartbeats_are_counted_and_not_answered():
    switch = Switch()
    line = switch.connect()
    line.read(switch.framing.encode(b"") * 3)
    assert switch.counters.heartbeats_received == 3
    assert switch.counters.frames_received == 0
    assert line.transport.writes == []


def test_a_frame_may_be_as_long_as_the_framing_allows():
    switch = Switch(frame_size_max=500)
    line = switch.connect()
    line.read(switch.framing.encode(b"x" * 500)[:-1])
    assert switch.counters.frames_received == 0
    line.read(b"x")
    assert switch.counters.frames_received == 1
    assert not line.connection.ending


@pytest.mark.parametrize(
    ("framing", "header"),
    [("binary2", b"\x01\xf5"), ("binary4", b"\x01\xf5\0\0"), ("ascii4", b"0501"),
     ("bcd2", b"\x05\x01"), ("binary4", b"\x01\xf4\0\1"), ("ascii4", b"GET ")],
)  # fmt: skip
def test_a_header_that_is_none_ends_only_that_connection(framing, header):
    """A body too long to be kept is refused by its header: no byte is waited for."""
    switch = Switch(framing=framing, frame_size_max=500)
    line, other = switch.connect(), switch.connect()
    line.read(switch.frame(fields("0100", 1)) + header)
    assert line.connection.end_kind == "framing"
    assert not line.transport.is_closed, "an answer is still due"
    line.read(switch.frame(fields("0100", 2)))
    switch.settle()
    assert line.stans == ["000001"]
    assert line.transport.is_closed
    assert switch.counters.malformed_framing == 1
    assert switch.counters.closed == {"framing": 1}
    assert [reply[39] for reply in switch.ask(other, fields("0100", 3))] == ["00"]


# --- frames that are no requests


@pytest.mark.parametrize("mti", ["0110", "0130", "0210", "0410", "0430", "0810"])
def test_a_response_nobody_waits_for_is_counted_and_dropped(mti):
    switch = Switch()
    line = switch.connect()
    message = fields("0100", 1, changes={39: "00"}) | {"mti": mti}
    for _ in range(100):
        line.send(message)
    switch.settle()
    assert line.transport.writes == []
    assert switch.counters.responses_unexpected == 100
    assert switch.counters.malformed_dropped == 0
    assert not line.connection.ending


def test_a_malformed_response_is_not_answered_either():
    switch = Switch()
    line = switch.connect()
    message = switch.codec.encode(fields("0110", 1, changes={39: "00"}))
    line.read(switch.framing.encode(message[:-3]))
    switch.settle()
    assert line.transport.writes == []
    assert switch.counters.malformed_dropped == 1


@pytest.mark.parametrize("mti", ["0140", "0460", "0180"])
def test_a_notification_is_dropped(mti):
    switch = Switch()
    line = switch.connect()
    line.send(fields("0100", 1) | {"mti": mti})
    switch.settle()
    assert line.transport.writes == []
    assert switch.counters.malformed_dropped == 1


@pytest.mark.parametrize("spec", specs_of_1987())
def test_a_malformed_message_is_answered_30_with_what_could_be_read(spec):
    switch = Switch(spec)
    line = switch.connect()
    body = switch.codec.encode(fields("0100", 1))[:-3]
    line.read(switch.framing.encode(body))
    switch.settle()
    (reply,) = line.replies
    assert (reply.mti, reply[39]) == ("0110", "30")
    assert (reply[2], reply[11]) == (PANS["active"], "000001")
    assert 38 not in reply
    assert switch.committed == []
    assert switch.counters.malformed_answered == 1


@pytest.mark.parametrize("body", [b"x", b"0100", b"01", b"0100" + b"Z" * 16, b"A" * 90])
def test_a_frame_without_mti_and_bitmap_is_dropped(body):
    switch = Switch()
    line = switch.connect()
    line.read(switch.framing.encode(body))
    switch.settle()
    assert line.transport.writes == []
    assert switch.counters.malformed_dropped == 1
    assert [reply[39] for reply in switch.ask(line, fields("0100", 1))] == ["00"]


def test_a_peer_that_sends_no_messages_is_closed_after_so_many_in_a_row():
    switch = Switch(undecodable_max=3)
    line = switch.connect()
    rubbish = switch.framing.encode(b"no message")
    line.read(rubbish * 2 + switch.frame(fields("0100", 1)) + rubbish * 2)
    assert not line.connection.ending
    line.read(rubbish + switch.frame(fields("0100", 2)))
    assert line.connection.end_kind == "undecodable"
    switch.settle()
    assert line.stans == ["000001"]
    assert switch.counters.closed == {"undecodable": 1}


def test_sign_on_may_be_required():
    switch = Switch(session={"sign_on_required": True})
    line, other = switch.connect(), switch.connect()
    codes = [reply[39] for reply in switch.ask(line, fields("0100", 1))]
    assert codes == ["91"]
    assert switch.committed == []
    switch.ask(line, fields("0800", 2, changes={70: "001"}))
    assert line.connection.signed_on
    assert [reply[39] for reply in switch.ask(line, fields("0100", 1))] == ["00"]
    # of each connection, not of the link
    assert [reply[39] for reply in switch.ask(other, fields("0100", 3))] == ["91"]
    switch.ask(line, fields("0800", 4, changes={70: "002"}))
    assert [reply[39] for reply in switch.ask(line, fields("0100", 5))] == ["91"]


# --- what is refused


REFUSALS = {
    # what is sent, the answer, what the log says of it
    "type": (
        fields("0300", 2),
        "12",
        {"mti": "0300", "reason": "message type is not served"},
    ),
    "missing": (
        fields("0100", 2, changes={4: None}),
        "30",
        {"mti": "0100", "reason": "a field is missing or not of its kind"},
    ),
    "letters": (
        fields("0420", 2, changes={90: "X" * 42}),
        "30",
        {"mti": "0420", "reason": "a field is missing or not of its kind"},
    ),
    "room": (
        fields("0100", 2),
        "91",
        {"mti": "0100", "reason": "no room for a decision"},
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_message_that_is_refused_has_a_line_that_says_why(name, caplog):
    message, code, told = REFUSALS[name]
    switch = Switch(pending_max=1)
    line = switch.connect()
    # The first takes all the room there is until its commit.
    replies = switch.ask(line, fields("0100", 1), message)
    assert {reply[11]: reply[39] for reply in replies} == {
        "000001": "00",
        "000002": code,
    }
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "request refused")
    assert record.switch_fields == {
        "link": "main",
        "peer": "192.0.2.1:40000",
        **told,
    }


def test_one_that_is_refused_for_want_of_a_sign_on_has_a_line_too(caplog):
    switch = Switch(session={"sign_on_required": True})
    line = switch.connect()
    assert [reply[39] for reply in switch.ask(line, fields("0100", 1))] == ["91"]
    (record,) = caplog.records
    assert record.message == "request refused"
    assert record.switch_fields["reason"] == "the peer has not signed on"


def test_declines_and_repeats_are_answers_and_have_no_line(caplog):
    caplog.set_level(logging.INFO)
    switch = Switch()
    line = switch.connect()
    poor, lost = fields("0100", 1, amount=99_999), fields("0100", 2, card="lost")
    codes = [reply[39] for reply in switch.ask(line, poor, lost, poor, lost)]
    assert codes == ["51", "41", "51", "41"]
    assert caplog.records == []


# --- faults of our own


class FailsOnce:
    """`replies.ADVICE_APPROVED` that fails when it is first looked into."""

    has_failed = False

    def __contains__(self, code):
        if not self.has_failed:
            self.has_failed = True
            raise RuntimeError("no codes")
        return code in ADVICE_APPROVED


@pytest.fixture
def faulty_codes(monkeypatch):
    monkeypatch.setattr(replies, "ADVICE_APPROVED", FailsOnce())


def advice(stan, code="00", mti="0120"):
    return fields(mti, stan, changes={39: code})


@pytest.mark.usefixtures("faulty_codes")
def test_a_fault_in_one_message_is_answered_96_and_the_next_is_handled(caplog):
    switch = Switch()
    line = switch.connect()
    codes = {
        reply[11]: reply[39]
        for reply in switch.ask(line, advice(1), advice(2, "08"), advice(3))
    }
    assert codes == {"000001": "00", "000002": "96", "000003": "00"}
    assert switch.counters.faults == 1
    assert not line.connection.ending
    # nothing of it is remembered: it may come again
    again = switch.ask(line, advice(2, "08", "0121"))
    assert [reply[39] for reply in again] == ["00"]


def test_a_reply_may_be_longer_than_a_request_may_be():
    bare = fields(
        "0100", 1, changes=dict.fromkeys((12, 13, 14, 18, 22, 32, 37, 41, 42, 43))
    )
    switch = Switch(frame_size_max=len(Switch().codec.encode(bare)))
    (reply,) = switch.ask(switch.connect(), bare)
    assert reply[39] == "00"
    assert len(reply.encode()) > switch.settings.frame_size_max


@pytest.mark.usefixtures("faulty_codes")
def test_no_card_number_gets_into_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    switch = Switch(undecodable_max=2)
    line = switch.connect()
    line.read(stream_of(switch))
    line.read(switch.framing.encode(switch.codec.encode(advice(7, "08"))))
    pan = PANS["active"].encode()
    line.read(switch.framing.encode(b"0100" + b"4" + b"0" * 15 + b"16" + pan + b"?"))
    line.read(switch.framing.encode(pan * 4) * 2)
    switch.settle()
    assert line.connection.end_kind == "undecodable"
    texts = [
        f"{record.getMessage()} {record.__dict__} {record.exc_text}"
        for record in caplog.records
    ]
    assert {record.getMessage() for record in caplog.records} >= {
        "request failed",
        "malformed request answered 30",
        "frame dropped: no message of this spec",
        "response dropped: nobody waits for it",
    }
    assert not [text for text in texts if "999999" in text]
