"""What a connection does with requests whose shard is elsewhere."""

from __future__ import annotations

import pytest

from iso8583 import DecodeError
from switch.ledger import shard_of_account
from tests.unit.link.in_memory import KEYS, PANS, Switch, fields

SHARD_COUNT = 4
MAIN = shard_of_account(b"main", SHARD_COUNT)


class Taker:
    """Takes requests to other nodes, and keeps them."""

    def __init__(self, has_room=True):
        self.requests = []
        self.has_room = has_room

    def __call__(self, request):
        if self.has_room:
            self.requests.append(request)
        return self.has_room


def split_switch(taker=None, **settings):
    """One whose shard of the account `main` is elsewhere."""
    switch = Switch(shard_count=SHARD_COUNT, forward=taker or Taker(), **settings)
    switch.directory.close_shard(MAIN)
    shard = switch.group.close_shard(MAIN)
    return switch, shard.state


def reply_to(switch, request, code="00"):
    """As another node would make it."""
    message = switch.codec.decode(request.body)
    return switch.codec.encode({**message.to_dict(), "mti": "0110", 39: code})


def test_a_request_for_a_shard_elsewhere_is_handed_on_with_all_it_takes():
    taker = Taker()
    switch, _ = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.settle()
    assert line.replies == []
    assert line.connection.outstanding == switch.counters.outstanding == 1
    (request,) = taker.requests
    assert request.link == "main"
    assert switch.codec.decode(request.body)[11] == "000001"
    assert request.pan_hash == KEYS.pan_hash(PANS["active"].encode())
    assert request.due_ms == 1_000_000 + switch.settings.answer_deadline_ms
    assert (request.asks, request.is_wanted, request.is_done) == (True, True, False)
    assert switch.counters.forwarded == 1
    assert switch.counters.replies_sent == 0


def test_what_is_for_a_shard_here_goes_its_way():
    taker = Taker()
    switch, _ = split_switch(taker)
    line = switch.connect()
    # of another account than those of `main`
    (reply,) = switch.ask(line, fields("0100", 1, card="credit"))
    assert (reply[39], taker.requests) == ("00", [])


@pytest.mark.parametrize(
    ("mti", "asks"), [("0100", True), ("0200", True), ("0120", False), ("0420", False)]
)
def test_only_a_request_can_be_told_no(mti, asks):
    taker = Taker()
    switch, _ = split_switch(taker)
    changes = {39: "00"} if mti == "0120" else {}
    if mti == "0420":
        changes = {90: "0100000009112416000000000123456" + "0" * 11}
    switch.connect().send(fields(mti, 1, changes=changes))
    assert [request.asks for request in taker.requests] == [asks]


def test_the_answer_leaves_on_its_connection_and_is_counted_like_others():
    taker = Taker()
    switch, _ = split_switch(taker)
    line, other = switch.connect(), switch.connect()
    line.send(fields("0100", 1))
    other.send(fields("0100", 2))
    second, first = taker.requests[1], taker.requests[0]
    second.answer(reply_to(switch, second, "51"))
    first.answer(reply_to(switch, first))
    assert line.replies == other.replies == []
    switch.turn()
    assert (line.stans, line.codes) == (["000001"], ["00"])
    assert (other.stans, other.codes) == (["000002"], ["51"])
    assert line.connection.outstanding == switch.counters.outstanding == 0
    assert switch.counters.replies_sent == 2
    assert sum(switch.counters.reply_seconds_counts) == 2
    assert switch.dispatcher.counts() == {("0100", "00"): 1, ("0100", "51"): 1}
    assert first.is_done
    assert not first.is_wanted


def test_answers_of_one_turn_leave_in_one_write():
    taker = Taker()
    switch, _ = split_switch(taker)
    line = switch.connect()
    line.send(*(fields("0100", stan) for stan in range(1, 6)))
    for request in reversed(taker.requests):
        request.answer(reply_to(switch, request))
    switch.turn()
    assert len(line.transport.writes) == 1
    assert line.stans == [f"{stan:06d}" for stan in range(5, 0, -1)]


def test_an_answer_that_is_none_of_the_link_answers_nothing():
    taker = Taker()
    switch, _ = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1))
    (request,) = taker.requests
    with pytest.raises(DecodeError):
        request.answer(b"0110")
    with pytest.raises(ValueError, match="field 39"):
        request.answer(request.body)
    assert not request.is_done
    assert line.connection.outstanding == 1
    request.refuse("96")
    switch.turn()
    assert line.codes == ["96"]


def test_a_refusal_waits_for_no_commit():
    taker = Taker()
    switch, _ = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1), fields("0100", 2, card="credit"))
    switch.turn()
    assert switch.in_flight is not None
    taker.requests[0].refuse("91")
    switch.turn()
    assert (line.stans, line.codes) == (["000001"], ["91"])
    switch.settle()
    assert line.codes == ["91", "00"]


def test_it_is_answered_once():
    taker = Taker()
    switch, _ = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1))
    (request,) = taker.requests
    for _ in range(2):
        request.answer(reply_to(switch, request))
        request.refuse("91")
        request.abandon()
    switch.turn()
    assert line.codes == ["00"]
    assert line.connection.outstanding == switch.counters.outstanding == 0


def test_without_room_it_is_answered_91_at_once():
    switch, _ = split_switch(Taker(has_room=False))
    line = switch.connect()
    (reply,) = switch.ask(line, fields("0100", 1))
    assert reply[39] == "91"
    assert switch.counters.forwarded == 0
    assert line.connection.outstanding == 0


def test_without_other_nodes_it_is_answered_91():
    switch, _ = split_switch()
    switch = Switch(shard_count=SHARD_COUNT)
    switch.directory.close_shard(MAIN)
    switch.group.close_shard(MAIN)
    (reply,) = switch.ask(switch.connect(), fields("0100", 1))
    assert reply[39] == "91"


def test_a_shard_that_has_come_back_decides_it_as_of_when_it_was_read():
    taker = Taker()
    switch, state = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1))
    (request,) = taker.requests
    assert not request.decide(MAIN)
    assert not request.decide(SHARD_COUNT)
    assert not request.is_done
    switch.now += 3_000
    switch.directory.open_shard(state)
    switch.group.open_shard(state)
    assert request.decide(MAIN)
    switch.turn()
    assert line.replies == []
    assert line.connection.outstanding == 1
    switch.settle()
    assert line.codes == ["00"]
    assert line.connection.outstanding == switch.counters.outstanding == 0
    assert switch.account().held == 1_000


def test_decided_late_it_has_only_the_time_that_is_left():
    taker = Taker()
    switch, state = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.directory.open_shard(state)
    switch.group.open_shard(state)
    switch.now += 4_000
    (request,) = taker.requests
    assert request.decide(MAIN)
    switch.turn()
    switch.now += 1_001  # far less than a commit may take otherwise
    switch.settle()
    assert line.codes == ["91"]
    assert switch.account().held == 0


def test_each_answer_has_the_addresses_of_its_own_request():
    taker = Taker()
    switch, state = split_switch(taker, tpdu=True)
    line = switch.connect()
    for number in (1, 2, 3):
        tpdu = bytes((0x60, 0, number, 0, 9))
        message = switch.codec.encode(fields("0100", number))
        line.receive(switch.framing.encode(tpdu + message))
    first, second, third = taker.requests
    second.answer(reply_to(switch, second))
    switch.directory.open_shard(state)
    switch.group.open_shard(state)
    first.decide(MAIN)
    third.refuse("91")
    switch.settle()
    frames = b"".join(line.transport.writes)
    assert [frames.count(bytes((0x60, 0, 9, 0, n))) for n in (1, 2, 3)] == [1, 1, 1]


def test_requests_elsewhere_hold_up_reading_like_others():
    taker = Taker()
    switch, _ = split_switch(taker, outstanding_max=4)
    line = switch.connect()
    line.send(*(fields("0100", stan) for stan in range(1, 5)))
    assert not line.transport.is_reading
    for request in taker.requests[:2]:
        request.answer(reply_to(switch, request))
    assert not line.transport.is_reading
    switch.turn()
    assert line.transport.is_reading


def test_a_connection_that_ends_waits_for_them():
    taker = Taker()
    switch, _ = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1), fields("0100", 2))
    line.connection.finish("drain", "test")
    switch.turn()
    assert not line.transport.is_closed
    for request in taker.requests:
        request.answer(reply_to(switch, request))
    switch.turn()
    assert line.transport.is_closed
    assert len(line.replies) >= 2
    assert not line.transport.is_aborted


@pytest.mark.parametrize("what", ["answer", "refuse", "decide", "abandon"])
def test_a_peer_that_is_gone_gets_nothing_and_is_counted(what):
    taker = Taker()
    switch, state = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1))
    line.transport.lose(None)
    switch.turn()
    (request,) = taker.requests
    assert not request.is_wanted
    if what == "answer":
        request.answer(reply_to(switch, request))
    elif what == "refuse":
        request.refuse("91")
    elif what == "decide":
        switch.group.open_shard(state)
        assert request.decide(MAIN)
    else:
        request.abandon()
    switch.settle()
    assert request.is_done
    assert switch.counters.outstanding == 0
    assert switch.counters.replies_dropped >= 1
    assert switch.counters.replies_sent == 0
    assert switch.committed == []


def test_an_error_while_it_is_decided_is_answered_96():
    taker = Taker()
    switch, state = split_switch(taker)
    line = switch.connect()
    line.send(fields("0100", 1))
    (request,) = taker.requests
    switch.group.open_shard(state)
    switch.clock_fault = RuntimeError("no time")
    with pytest.raises(RuntimeError, match="no time"):
        request.decide(MAIN)
    switch.clock_fault = None
    switch.settle()
    assert line.codes == ["96"]
    assert switch.counters.faults == 1
    assert line.connection.outstanding == 0
