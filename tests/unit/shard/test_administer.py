"""What operators change goes through the same commits, all of a change or nothing."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from switch.journal.errors import JournalError
from switch.ledger import ChangeRefused, adjust, open_account, shard_of_account
from switch.shard._group import OverCapacity
from tests.unit.shard.node import SHARD_COUNT, Node, new_journal, view

WHY = ("maria", "because")


@pytest.fixture
def node():
    return Node(new_journal())


def opened(node, name, now=None):
    """An entry for a new account, and its shard, not written yet."""
    shard = shard_of_account(name.encode(), SHARD_COUNT)
    operator, reason = WHY
    entry = open_account(
        node.states[shard], name, 978, 1, 0,
        operator=operator, reason=reason, now=node.now if now is None else now,
    )  # fmt: skip
    return shard, entry


def adjustment(node, amount):
    shard = node.shard()
    operator, reason = WHY
    entry = adjust(
        shard.state, "main", amount, operator=operator, reason=reason, now=node.now
    )
    return shard.state.shard, entry


def test_a_change_is_in_the_commit_of_the_messages_around_it(node):
    assert node.ask(stan=1).approved
    node.group.administer([adjustment(node, 5)], node.now)
    assert node.ask(stan=2).approved
    waiting: Future[None] = Future()
    node.group.wait(waiting)
    node.turn()
    ((_, records),) = node.submitted
    assert sum(record.count for record in records) == 3
    assert not waiting.done()
    node.commit()
    assert waiting.done()
    assert node.restart().states[node.shard().state.shard].account("main") == (
        node.shard().state.account("main")
    )


def test_many_changes_of_several_shards_are_one_commit(node):
    changes = [opened(node, f"new-{number}") for number in range(50)]
    node.group.administer(changes, node.now)
    node.turn()
    ((_, records),) = node.submitted
    assert len(records) == SHARD_COUNT
    assert sum(record.count for record in records) == 50
    node.commit()
    again = node.restart()
    assert list(map(view, again.states)) == list(map(view, node.states))


def test_entries_made_before_others_get_their_place_when_they_are_written(node):
    prepared = [opened(node, f"new-{number}") for number in range(20)]
    for stan in range(1, 9):
        node.ask(stan=stan)
    node.now += 1_000
    node.group.administer(prepared, node.now)
    node.commit()
    assert {entry.at for _, entry in prepared} == {node.now}
    again = node.restart()
    assert list(map(view, again.states)) == list(map(view, node.states))


def test_one_that_does_not_fit_keeps_all_of_them_out(node):
    first, second = opened(node, "new-1"), opened(node, "new-2")
    node.group.administer([second], node.now)
    node.commit()
    before = list(map(view, node.states))
    with pytest.raises(ChangeRefused, match="expected a new one"):
        node.group.administer([first, second], node.now)
    node.turn()
    assert list(map(view, node.states)) == before
    assert node.submitted == []


def test_over_capacity_nothing_is_written(node):
    changes = [opened(node, "new")] * (node.group.pending_max + 1)
    with pytest.raises(OverCapacity, match="at most 65536 entries"):
        node.group.administer(changes, node.now)
    assert node.group.pending == 0


def test_after_the_journal_failed_nothing_is_taken(node):
    node.group.stop(JournalError("disk full"))
    before = view(node.shard().state)
    with pytest.raises(JournalError, match="disk full"):
        node.group.administer([adjustment(node, 5)], node.now)
    assert view(node.shard().state) == before
