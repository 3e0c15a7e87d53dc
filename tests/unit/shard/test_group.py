"""Group commit: what gathers while a commit is in flight, and when it counts."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from switch.journal.port import JournalUnknown
from switch.ledger import Transaction, decode_entries, shard_of_account
from tests.unit.link.in_memory import Switch, fields
from tests.unit.shard.node import FINANCIAL, SHARD_COUNT, Node, new_journal


@pytest.fixture
def node():
    return Node(new_journal())


def stans(records):
    """Of the transactions in a commit, in order."""
    return [
        int(entry.stan)
        for record in records
        for entry in decode_entries(record.payload, record.first_sequence)
        if isinstance(entry, Transaction)
    ]


# --- batching


def test_what_is_decided_before_the_loop_turns_is_one_commit(node):
    for stan in range(1, 6):
        node.ask(stan=stan)
    assert node.submitted == []
    assert len(node.ready) == 1
    node.turn()
    ((_, records),) = node.submitted
    assert stans(records) == [1, 2, 3, 4, 5]


def test_what_comes_while_a_commit_is_in_flight_is_the_next_one(node):
    node.ask(stan=1)
    node.turn()
    for stan in (2, 3):
        node.ask(stan=stan)
        node.turn()
    assert len(node.submitted) == 1
    node.write()
    ((_, records),) = node.submitted
    assert stans(records) == [2, 3]
    node.write()
    assert node.submitted == []
    assert node.released == [2, 3]


def test_sealing_while_a_commit_is_in_flight_starts_no_other(node):
    waiting: Future[None] = Future()
    node.ask(stan=1)
    node.turn()
    node.ask(stan=2)
    node.group.wait(waiting)
    node.group.seal()
    assert len(node.submitted) == 1
    node.commit()
    assert waiting.done()
    assert [commit.number for commit in node.journal.read(0)] == [1, 2, 3]


def test_one_commit_carries_a_record_of_each_shard_that_changed(node):
    cards = ("active", "euro", "credit", "other")
    for stan, card in enumerate(cards * 2, 1):
        node.ask(stan=stan, card=card)
    node.turn()
    ((_, records),) = node.submitted
    shards = [record.shard for record in records]
    expected = {
        shard_of_account(account, SHARD_COUNT)
        for account in (b"main", b"euro", b"credit", b"other")
    }
    assert len(expected) > 1
    assert sorted(shards) == sorted(expected)
    assert sum(record.count for record in records) == 8


def test_entries_of_a_shard_are_numbered_without_a_gap_over_commits(node):
    next_sequence = node.shard().state.sequence + 1
    for count in (1, 3, 2):
        for stan in range(count):
            node.ask(stan=next_sequence * 10 + stan)
        node.turn()
        ((_, (record,)),) = node.submitted
        assert (record.first_sequence, record.count) == (next_sequence, count)
        next_sequence += count
        node.write()


def test_a_commit_of_many_thousand_entries_is_whole(node):
    """The buffer for it has grown many times, and is given back."""
    for _ in range(2):
        for stan in range(1, 10_001):
            node.ask(stan=stan, amount=1, rrn=str(node.journal.head))
        node.turn()
        ((_, records),) = node.submitted
        assert stans(records) == list(range(1, 10_001))
        node.write()
    restarted = node.restart()
    assert restarted.shard().state.sequence == node.shard().state.sequence


def test_nothing_pending_is_no_commit(node):
    node.ask(stan=1)
    node.commit()
    node.ask(stan=1)  # a repeat writes nothing
    node.turn()
    assert node.submitted == []
    assert node.group.commits == 1


def test_counts(node):
    group = node.group
    assert (group.pending, group.in_flight, group.entries, group.head) == (0, 0, 0, 1)
    node.ask(stan=1)
    node.ask(stan=2, card="other")
    assert (group.pending, group.in_flight) == (2, 0)
    node.turn()
    node.ask(stan=3)
    assert (group.pending, group.in_flight, group.entries) == (1, 2, 0)
    node.write()
    assert (group.pending, group.in_flight, group.entries) == (0, 1, 2)
    node.write()
    assert (group.entries, group.commits, group.head) == (3, 2, 3)


def test_a_commit_bears_the_time_of_its_start(node):
    node.ask(stan=1)
    node.now += 77
    node.turn()
    assert node.submitted[0][0] == node.now


def test_holds_that_end_are_written_too(node):
    node.ask(stan=1)
    node.commit()
    node.now += 8 * 86_400_000
    assert node.shard().end_holds(node.now) == 1
    node.group.flush()
    node.commit()
    assert node.restart().held() == 0
    assert node.shard().end_holds(node.now) == 0


# --- the order of things when a commit is durable


class Told(list[Any]):
    """What happened, as a list that others append to."""

    def __init__(self, happened, what):
        super().__init__()
        self._happened = happened
        self._what = what

    def append(self, item):
        self._happened.append(self._what)
        super().append(item)


def test_the_next_commit_starts_then_this_one_is_noted_then_replies_leave():
    """A process killed in between has noted every commit that it answered from."""
    happened: list[str] = []
    switch = Switch()
    switch.on_submit = lambda: happened.append("submitted")
    switch.released = Told(happened, "released")
    line = switch.connect()
    line.transport.writes = Told(happened, "replied")
    line.send(fields("0100", 1))
    switch.turn()
    line.send(fields("0100", 2))
    switch.make_durable()
    assert happened == ["submitted", "submitted", "released", "replied"]
    assert line.codes == ["00"]


# --- waiting


def test_a_waiter_waits_for_all_that_was_decided_before_it(node):
    node.ask(stan=1)
    node.turn()
    node.ask(stan=2)
    waiting: Future[None] = Future()
    node.group.wait(waiting)
    node.turn()
    node.write()
    assert not waiting.done(), "its entry is in the commit that only starts now"
    node.write()
    assert waiting.done()


def test_a_waiter_for_nothing_is_released_at_the_next_turn(node):
    waiting: Future[None] = Future()
    node.group.wait(waiting)
    assert not waiting.done()
    node.turn()
    assert waiting.done()
    assert node.submitted == []


def test_a_waiter_for_nothing_still_waits_for_the_commit_in_flight(node):
    node.ask(stan=1)
    node.turn()
    waiting: Future[None] = Future()
    node.group.wait(waiting)
    node.turn()
    assert not waiting.done()
    node.commit()
    assert waiting.done()


def test_a_waiter_that_gave_up_harms_nobody(node):
    waiting: list[Future[None]] = [Future(), Future()]
    node.ask(stan=1)
    for future in waiting:
        node.group.wait(future)
    waiting[0].cancel()
    node.commit()
    assert waiting[1].done()


# --- the journal has failed


def test_after_a_stop_nothing_is_written_released_or_waited_for(node):
    fault = JournalUnknown("no answer")
    waiting: list[Future[None]] = [Future() for _ in range(3)]
    node.ask(stan=1)
    node.group.wait(waiting[0])
    node.turn()
    node.ask(stan=2)
    node.group.wait(waiting[1])
    node.group.stop(fault)
    node.group.wait(waiting[2])
    node.ask(FINANCIAL, stan=3)
    node.turn()
    assert [future.exception(0) for future in waiting] == [fault] * 3
    assert len(node.submitted) == 1
    assert node.released == []
    assert node.group.stopped
