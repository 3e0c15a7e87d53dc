"""Shards that come into a running process and leave it."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from switch.ledger import Limits, State, shard_of_account
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup
from switch.shard.errors import Elsewhere
from tests.unit.link.in_memory import KEYS, NOW, PANS, Switch, bank, fields
from tests.unit.shard.node import SHARD_COUNT, Node, new_journal

MAIN = shard_of_account(b"main", SHARD_COUNT)


@pytest.fixture
def node():
    return Node(new_journal())


def empty_group(**options):
    return CommitGroup(
        [],
        submit=lambda at, records: None,
        schedule=lambda callback: None,
        released=lambda number: None,
        clock=lambda: NOW,
        **options,
    )


# --- the group


def test_a_group_may_begin_with_none_of_its_shards():
    group = empty_group(shard_count=3)
    assert (group.shards, group.shard_count) == ([], 3)
    with pytest.raises(Elsewhere, match="got shard 1"):
        group.shard(1)
    group.open_shard(State(1, Limits()))
    assert [shard.state.shard for shard in group.shards] == [1]
    assert group.shard(1) is group.shards[0]


@pytest.mark.parametrize("number", [3, 4])
def test_a_shard_has_to_be_one_of_those_there_are(number):
    group = empty_group(shard_count=3)
    with pytest.raises(ValueError, match=f"below 3, got shard {number}"):
        group.open_shard(State(number, Limits()))
    for asked in (-1, number):
        with pytest.raises(Elsewhere):
            group.close_shard(asked)


def test_a_shard_is_here_once():
    group = empty_group(shard_count=3)
    group.open_shard(State(1, Limits()))
    with pytest.raises(ValueError, match="shard 1 is here already"):
        group.open_shard(State(1, Limits()))
    group.close_shard(1)
    with pytest.raises(Elsewhere):
        group.close_shard(1)


def test_a_shard_that_is_closed_settles_what_it_has_decided(node):
    shard = node.shard()
    node.ask(stan=1)
    node.turn()
    node.ask(stan=2)
    assert node.group.close_shard(MAIN) is shard
    assert not shard.is_settled
    node.write()
    assert not shard.is_settled  # the second one is in flight now
    node.commit()
    assert shard.is_settled
    assert node.released == [2, 3]


def test_a_shard_of_which_nothing_waits_is_settled_at_once(node):
    node.ask(stan=1, card="credit")
    assert node.group.close_shard(MAIN).is_settled


def test_what_is_late_is_withdrawn_in_a_shard_that_is_closing():
    switch = Switch(shard_count=SHARD_COUNT)
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    shard = switch.group.close_shard(MAIN)
    switch.now += switch.settings.answer_deadline_ms + 1
    switch.make_durable()
    assert not shard.is_settled
    switch.settle()
    assert shard.is_settled
    assert line.codes == ["91"]
    assert switch.account().held == 0


def test_what_operators_change_is_not_written_where_the_shard_is_not(node):
    node.group.close_shard(MAIN)
    with pytest.raises(Elsewhere):
        node.group.administer([(MAIN, None)], NOW)
    assert node.group.pending == 0


# --- the end of a session


def test_what_is_not_released_when_the_session_ends_is_never_answered():
    switch = Switch(shard_count=SHARD_COUNT)
    line, other = switch.connect(), switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    other.send(fields("0100", 2), fields("0100", 3, card="credit"))
    waiting: Future[None] = Future()
    switch.group.wait(waiting)
    switch.group.reset(RuntimeError("over"), head=7)
    switch.turn()
    assert line.transport.writes == other.transport.writes == []
    assert isinstance(waiting.exception(), RuntimeError)
    assert line.connection.outstanding == other.connection.outstanding == 0
    assert switch.counters.outstanding == 0
    assert switch.counters.replies_dropped == 3
    assert sum(switch.counters.reply_seconds_counts) == 0
    assert (switch.group.shards, switch.group.head) == ([], 7)
    assert (switch.group.pending, switch.group.in_flight) == (0, 0)
    assert not switch.group.stopped


def test_a_connection_that_waits_for_a_session_to_answer_is_closed_when_it_is_over():
    switch = Switch()
    line = switch.connect()
    line.send(fields("0100", 1))
    line.connection.finish("drain", "test")
    switch.group.reset(RuntimeError("over"))
    switch.turn()
    assert line.transport.is_closed


def test_after_a_session_the_next_one_begins_with_other_states():
    switch = Switch(shard_count=SHARD_COUNT)
    line = switch.connect()
    line.send(fields("0100", 1))
    switch.turn()
    switch.in_flight = None
    switch.group.reset(RuntimeError("over"))
    for number in range(SHARD_COUNT):
        switch.directory.close_shard(number)
    for state in bank(SHARD_COUNT, Limits()):
        switch.directory.open_shard(state)
        switch.group.open_shard(state)
    (reply,) = switch.ask(line, fields("0100", 1))
    assert reply[39] == "00"
    assert len(switch.committed) == 1


# --- what needs no commit, confirmed


def test_a_repeat_is_not_told_before_it_is_confirmed():
    switch = Switch(confirms=True)
    line = switch.connect()
    switch.ask(line, fields("0100", 1))
    line.send(fields("0101", 1))
    switch.turn()
    assert switch.in_flight == []
    assert line.codes == ["00"]
    line.send(fields("0100", 2))
    switch.turn()
    switch.make_durable()
    assert line.codes == ["00", "00"]
    switch.settle()
    assert line.codes == ["00", "00", "00"]
    assert switch.group.commits == 2


def test_nothing_is_confirmed_when_nothing_waits():
    switch = Switch(confirms=True)
    switch.group.flush()
    switch.turn()
    assert switch.in_flight is None


def test_whoever_waits_is_told_when_it_is_confirmed():
    switch = Switch(confirms=True)
    waiting: Future[None] = Future()
    switch.group.wait(waiting)
    switch.turn()
    assert not waiting.done()
    switch.make_durable()
    assert waiting.result() is None


# --- the directory


def test_cards_come_and_go_with_their_shard():
    states = bank(SHARD_COUNT, Limits())
    directory = CardDirectory([], shard_count=SHARD_COUNT)
    pan_hash = KEYS.pan_hash(PANS["active"].encode())
    with pytest.raises(Elsewhere):
        directory.shard(pan_hash)
    counts = []
    for _ in range(3):
        directory.open_shard(states[MAIN])
        assert directory.shard(pan_hash) == MAIN
        counts.append(directory.count)
        directory.close_shard(MAIN)
        with pytest.raises(Elsewhere):
            directory.shard(pan_hash)
    # what is known of a shard is kept once
    assert counts == [states[MAIN].card_count] * 3


def test_an_unknown_card_is_nobodys_while_a_shard_is_elsewhere():
    states = bank(SHARD_COUNT, Limits())
    directory = CardDirectory(states)
    unknown = KEYS.pan_hash(PANS["unknown"].encode())
    shard = directory.shard(unknown)
    directory.close_shard((shard + 1) % SHARD_COUNT)
    with pytest.raises(Elsewhere):
        directory.shard(unknown)
    directory.open_shard(states[(shard + 1) % SHARD_COUNT])
    assert directory.shard(unknown) == shard


def test_a_directory_refuses_what_is_no_shard_of_it():
    directory = CardDirectory([], shard_count=2)
    with pytest.raises(ValueError, match="below 2, got shard 2"):
        directory.open_shard(State(2, Limits()))
    directory.open_shard(State(1, Limits()))
    with pytest.raises(ValueError, match="shard 1 is here already"):
        directory.open_shard(State(1, Limits()))
    for number in (0, 2, -1):
        with pytest.raises(Elsewhere):
            directory.close_shard(number)
