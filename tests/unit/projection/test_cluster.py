"""The read model of a cluster: the same rows, from wherever the entries come."""

from __future__ import annotations

from pathlib import Path

import pytest

from switch.journal.cassandra.all_shards import Reached
from switch.journal.cassandra.publishers import Published
from switch.journal.memory import MemoryJournal
from switch.ledger import Limits, State, apply_payload
from switch.projection.cluster import ClusterReadModel
from switch.projection.readmodel import ReadModel, ReadModelError
from tests.unit.projection.test_readmodel import Rows, projected, rows
from tests.unit.small_bank import JOINT, SHARD_COUNT, ask_everything, opened_bank

IDENTITY = bytes(16)
TABLES = ("accounts", "cards", "transactions")


@pytest.fixture
def journal() -> MemoryJournal:
    journal = MemoryJournal(SHARD_COUNT)
    bank = opened_bank()
    bank.commit(journal)
    ask_everything(bank)
    bank.commit(journal)
    bank.ask(amount=1)
    bank.block(JOINT)
    bank.commit(journal)
    return journal


def opened(directory: Path) -> ClusterReadModel:
    return ClusterReadModel(directory / "readmodel.db", identity=IDENTITY)


def positions_behind(commits):
    """As if all shards were in one log."""
    found = {}
    for commit in commits:
        for record in commit.records:
            last = record.first_sequence + record.count - 1
            found[record.shard] = Published(last, 1, "a", 0, commit.number)
    return found


def take(model, commits):
    model.take_shards(commits, positions_behind(commits))


def all_rows(directory: Path) -> dict[str, Rows]:
    return {table: rows(directory, table) for table in TABLES}


def states_behind(commits) -> dict[int, State]:
    states = {shard: State(shard, Limits()) for shard in range(SHARD_COUNT)}
    for commit in commits:
        for record in commit.records:
            apply_payload(states[record.shard], record.payload, record.first_sequence)
    return states


def test_the_rows_are_those_of_one_machine(tmp_path, journal):
    expected = projected(tmp_path / "one", journal)
    model = opened(tmp_path)
    for commit in journal.read(0):
        take(model, [commit])
    assert all_rows(tmp_path) == {name: expected[name] for name in TABLES}
    entries = sum(each.sequence for each in model.reached.values())
    assert model.position == entries
    assert rows(tmp_path, "position", "commit_number") == [(entries,)]
    reached = model.reached
    model.close()
    model = opened(tmp_path)
    assert (model.position, model.reached) == (entries, reached)
    model.close()


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_from_a_state_on_accounts_and_cards_are_what_they_are(tmp_path, journal, taken):
    """Whether it has been read before, and whether entries below the state are read."""
    expected = projected(tmp_path / "one", journal)
    commits = list(journal.read(0))
    model = opened(tmp_path)
    take(model, commits[:taken])
    states = states_behind(commits[:2])
    for state in states.values():
        model.begin_from(state)
    columns = "account, balance, held, credit_limit, status"
    sequences = {shard: state.sequence for shard, state in states.items()}
    assert {n: each.base for n, each in model.reached.items()} == sequences
    model.close()
    model = opened(tmp_path)
    take(model, commits[max(taken, 1) :])
    one = tmp_path / "one"
    assert rows(tmp_path, "accounts", columns) == rows(one, "accounts", columns)
    columns = "token, account, last_four, expiry, status"
    assert rows(tmp_path, "cards", columns) == rows(one, "cards", columns)
    # The first commit has no transaction.
    assert rows(tmp_path, "transactions") == expected["transactions"]
    model.close()


def test_nothing_of_a_batch_is_in_when_it_fails(tmp_path, journal):
    model = opened(tmp_path)
    commits = list(journal.read(0))
    with pytest.raises(ReadModelError, match="accounts that money moves on"):
        take(model, commits[1:])
    assert (model.position, model.reached) == (0, {})
    assert rows(tmp_path, "transactions") == []
    take(model, commits)
    model.close()


def test_two_do_not_write_one(tmp_path, journal):
    model, other = opened(tmp_path), opened(tmp_path)
    commits = list(journal.read(0))
    take(model, commits)
    with pytest.raises(ReadModelError, match="another process writes"):
        take(other, commits)
    with pytest.raises(ReadModelError, match="another process writes"):
        other.begin_from(states_behind(commits)[0])
    model.close()
    other.close()


def test_that_of_one_machine_is_thrown_away(tmp_path, journal, caplog):
    ReadModel(
        tmp_path / "readmodel.db", journal_identity=journal.identity, journal_head=0
    ).close()
    model = opened(tmp_path)
    assert "read model thrown away" in caplog.text
    take(model, list(journal.read(0)))
    assert Reached() not in model.reached.values()
    model.close()
