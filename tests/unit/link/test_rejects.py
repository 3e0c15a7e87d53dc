"""What the peer sends back behind a reject header is nothing to answer."""

import logging

import pytest

from tests.messages import content
from tests.unit.link.in_memory import Switch, fields

STATIONS = {"destination": "123456", "source": "654321"}
REJECT = {"reject_bitmap": "8000", "reject_code": "0017"}
SIGN_ON = fields("0800", 7, changes={70: "071"})


@pytest.fixture
def switch():
    return Switch("visa-base1", framing="binary4")


def test_a_reply_goes_back_to_the_station_that_asked(switch):
    line = switch.connect()
    (reply,) = switch.ask(line, fields() | {"header": STATIONS})
    assert (reply.mti, reply[39]) == ("0110", "00")
    assert reply.header["destination"] == "654321"
    assert reply.header["source"] == "123456"
    assert int(reply.header["total_length"], 16) == len(bytes(reply))


@pytest.mark.parametrize("mti", ["0100", "0110", "0420", "0800", "0810"])
def test_a_reject_is_logged_and_counted_but_never_answered(switch, caplog, mti):
    line = switch.connect()
    with caplog.at_level(logging.WARNING, "switch.link"):
        assert switch.ask(line, fields(mti) | {"header": REJECT}) == []
    (told, dropped) = caplog.records
    assert told.message == "rejected by the peer"
    assert told.switch_fields["mti"] == mti
    assert told.switch_fields["reject"] == "reject_bitmap=8000 reject_code=0017"
    assert dropped.message == "response dropped: nobody waits for it"
    assert switch.counters.responses_unexpected == 1
    assert switch.entries() == []
    assert not line.transport.is_closed


def test_a_reject_that_is_malformed_is_not_answered_either(switch):
    line = switch.connect()
    body = switch.codec.encode(fields() | {"header": REJECT})
    line.receive(switch.framing.encode(body[:-3]))
    switch.settle()
    assert line.replies == []
    assert switch.counters.malformed_dropped == 1


def test_a_rejected_sign_on_of_ours_is_refused(caplog):
    switch = Switch("visa-base1", framing="binary4", session={"sign_on": "send"})
    line = switch.connect()
    (asked,) = line.replies
    assert (asked.mti, asked[70]) == ("0800", "071")
    assert asked.header is not None
    assert asked.header["source"] == "000000"
    with caplog.at_level(logging.WARNING, "switch.link"):
        switch.ask(line, content(asked) | {"header": REJECT})
    *_, told = caplog.records
    assert told.switch_fields["report"] == "signing on: refused with no code"
    assert not line.connection.signed_on


def test_a_reject_of_our_answer_does_not_pass_for_an_answer():
    """Whatever its trace number, and although its field 39 says 00."""
    switch = Switch("visa-base1", framing="binary4", session={"sign_on": "send"})
    line = switch.connect()
    (asked,) = line.replies
    answer = {**content(asked), "mti": "0810", 39: "00"}
    switch.ask(line, answer | {"header": REJECT})
    assert not line.connection.signed_on
    switch.ask(line, answer)
    assert line.connection.signed_on


def test_a_message_with_another_total_length_is_a_format_error(switch):
    line = switch.connect()
    body = bytearray(switch.codec.encode(fields()))
    body[4] ^= 1
    line.receive(switch.framing.encode(bytes(body)))
    switch.settle()
    (reply,) = line.replies
    assert (reply.mti, reply[39]) == ("0110", "30")
    assert switch.entries() == []


def test_sign_on_and_off_are_the_codes_of_the_scheme(switch):
    line = switch.connect()
    switch.ask(line, SIGN_ON)
    assert line.connection.signed_on
    switch.ask(line, fields("0800", 8, changes={70: "072"}))
    assert not line.connection.signed_on
    assert line.codes == ["00", "00"]
