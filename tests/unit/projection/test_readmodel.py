"""The read model: rows that say what the entries say, each entry once."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from switch.journal.memory import MemoryJournal
from switch.journal.port import Commit
from switch.ledger import ACCOUNT_STATUSES, CARD_STATUSES, CardIssued, Transaction
from switch.projection import schema
from switch.projection.readmodel import ReadModel, ReadModelError
from switch.publish.events import events_of
from tests.unit.small_bank import (
    FINANCIAL,
    JOINT,
    PANS,
    SHARD_COUNT,
    SmallBank,
    ask_everything,
    opened_bank,
)

ROOT = Path(__file__).parents[3]
Rows = list[tuple[Any, ...]]


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal(SHARD_COUNT)


@pytest.fixture
def bank(journal) -> SmallBank:
    """Every kind of entry, in six commits."""
    bank = opened_bank()
    bank.commit(journal)
    for amount in (10, 20, 30):
        bank.ask(FINANCIAL, amount=amount)
        bank.ask(amount=amount, account=JOINT, pan=PANS[1])
        bank.commit(journal)
    ask_everything(bank)
    bank.commit(journal)
    bank.ask(amount=1)
    bank.block(JOINT)
    bank.commit(journal)
    return bank


def opened(directory: Path, journal: MemoryJournal) -> ReadModel:
    return ReadModel(
        directory / "readmodel.db",
        journal_identity=journal.identity,
        journal_head=journal.head,
    )


def rest(journal: MemoryJournal, model: ReadModel) -> list[Commit]:
    return list(journal.read(model.position))


def rows(directory: Path, table: str, columns: str = "*", order: str = "1") -> Rows:
    connection = apsw.Connection(
        str(directory / "readmodel.db"), flags=apsw.SQLITE_OPEN_READONLY
    )
    found = list(connection.execute(f"SELECT {columns} FROM {table} ORDER BY {order}"))
    connection.close()
    return found


def everything(directory: Path) -> dict[str, Rows]:
    tables = ("accounts", "cards", "transactions", "position")
    return {table: rows(directory, table) for table in tables}


def projected(directory: Path, journal: MemoryJournal) -> dict[str, Rows]:
    """What a model that was never disturbed holds."""
    directory.mkdir()
    model = opened(directory, journal)
    model.take(rest(journal, model))
    model.close()
    return everything(directory)


# --- what the rows say


def test_accounts_are_as_the_ledger_has_them(tmp_path, journal, bank):
    projected(tmp_path / "model", journal)
    columns = "account, shard, currency, balance, held, credit_limit, available, status"
    assert rows(tmp_path / "model", "accounts", columns) == sorted(
        (
            view.account, state.shard, "GBP", view.balance, view.held,
            view.credit_limit, view.available, ACCOUNT_STATUSES[view.status],
        )
        for state in bank.states
        for view in state.accounts()
    )  # fmt: skip


def test_cards_are_as_the_ledger_has_them(tmp_path, journal, bank):
    projected(tmp_path / "model", journal)
    columns = "token, account, last_four, expiry, status"
    views = {
        pan_hash.hex(): state.card(pan_hash)
        for state in bank.states
        for pan_hash in state.card_hashes()
    }
    assert rows(tmp_path / "model", "cards", columns) == sorted(
        (token, card.account, card.last_four, f"{card.expiry:04}",
         CARD_STATUSES[card.status])
        for token, card in views.items()
    )  # fmt: skip
    issued = {
        entry.pan_hash.hex(): entry.at
        for _, entry in bank.entries
        if isinstance(entry, CardIssued)
    }
    assert dict(rows(tmp_path / "model", "cards", "token, issued_at")) == issued


def test_adjustments_are_transactions_with_who_and_why(tmp_path, journal, bank):
    projected(tmp_path / "model", journal)
    columns = "id, kind, account, amount, currency, balance_change, held_change"
    found = rows(
        tmp_path / "model",
        "transactions WHERE operator IS NOT NULL",
        f"{columns}, operator, reason, mti, stan, token",
    )
    assert found == [
        (f"{shard}-{entry.sequence}", "adjusted", "main", 125, "GBP", -125, 0, "maria",
         "asked for", None, None, None)
        for shard, entry in bank.entries
        if entry.name == "adjusted"
    ]  # fmt: skip
    assert found


def test_transactions_are_as_they_are_published(tmp_path, journal, bank):
    """The same entry says the same in an event and in a row."""
    projected(tmp_path / "model", journal)
    names = {"mcc": "mcc", "commit": "commit_number", "card_token": "token"}
    same = (
        *("id", "kind", "account", "amount", "currency", "approved", "response_code"),
        *("stan", "rrn", "commit", "balance_change", "held_change", "card_token"),
        *("last_four", "mti", "terminal", "merchant", "merchant_name", "mcc"),
        *("transaction_amount", "transaction_currency"),
    )
    columns = ", ".join(names.get(name, name) for name in same)
    published = [event for commit in journal.read(0) for event in events_of(commit)]
    expected = [
        tuple(getattr(event, name) for name in same)
        for event in published
        if event.mti is not None
    ]
    found = rows(tmp_path / "model", "transactions WHERE mti IS NOT NULL", columns)
    assert sorted(found) == sorted(expected)


def test_transactions_know_their_place_and_their_original(tmp_path, journal, bank):
    projected(tmp_path / "model", journal)
    own = "transactions AS own LEFT JOIN transactions AS original"
    own += " ON original.place = own.original_place WHERE own.mti IS NOT NULL"
    columns = "own.shard, own.sequence, own.at, original.id"
    assert rows(tmp_path / "model", own, columns, "1, 2") == sorted(
        (
            shard,
            entry.sequence,
            entry.at,
            f"{shard}-{entry.original_sequence}" if entry.original_sequence else None,
        )
        for shard, entry in bank.entries
        if isinstance(entry, Transaction)
    )


def test_no_pan_is_in_the_file(tmp_path, journal, bank):
    projected(tmp_path / "model", journal)
    data = (tmp_path / "model" / "readmodel.db").read_bytes()
    sealed = [e.sealed_pan for _, e in bank.entries if isinstance(e, CardIssued)]
    assert sealed
    for text in (pan.encode() for pan in PANS):
        assert text not in data
    for seal in sealed:
        assert seal not in data
        assert seal.hex().encode() not in data


# --- exactly once


@pytest.mark.parametrize("size", [1, 2, 6])
def test_the_size_of_a_batch_changes_nothing(tmp_path, journal, bank, size):
    model = opened(tmp_path, journal)
    while commits := rest(journal, model)[:size]:
        model.take(commits)
        assert model.position == commits[-1].number
        assert rows(tmp_path, "position")[0][2] == commits[-1].number
    model.close()
    assert everything(tmp_path) == projected(tmp_path / "model", journal)


def test_it_is_never_ahead_of_what_it_was_given(tmp_path, journal, bank):
    """Also not by a row: who looks sees a moment between two commits."""
    model = opened(tmp_path, journal)
    assert everything(tmp_path)["accounts"] == []
    for commit in journal.read(0):
        model.take([commit])
        (newest,) = rows(tmp_path, "transactions", "max(commit_number)")[0]
        assert newest in (None, commit.number)
        assert newest or commit.number == 1
        sums = "account, sum(balance_change), sum(held_change)"
        grouped = "transactions WHERE account NOT NULL GROUP BY account"
        moved = {name: (b, h) for name, b, h in rows(tmp_path, grouped, sums)}
        for name, balance, held in rows(tmp_path, "accounts", "account, balance, held"):
            assert (balance - 10_000, held) == moved.get(name, (0, 0))
    model.take([])
    assert model.position == journal.head
    model.close()


def test_it_refuses_what_it_has(tmp_path, journal, bank):
    model = opened(tmp_path, journal)
    model.take(list(journal.read(0, 2)))
    with pytest.raises(AssertionError):
        model.take(list(journal.read(1, 2)))
    model.close()


class _Stop(BaseException):
    pass


def statements(connection: apsw.Connection, stop_at: int) -> Iterator[int]:
    """Interrupts before the n-th statement; yields how many there were."""
    count = 0

    def look(_cursor: apsw.Cursor, _statement: str, _bindings: object) -> bool:
        nonlocal count
        count += 1
        if count == stop_at:
            raise _Stop
        return True

    connection.exec_trace = look
    yield count
    connection.exec_trace = None
    yield count


def test_an_abort_before_any_statement_leaves_all_or_nothing(tmp_path, journal, bank):
    """A statement per row: begin, position, rows, moves, advance, commit."""
    expected = projected(tmp_path / "model", journal)
    aborted = 0
    for stop_at in range(1, 200):
        directory = tmp_path / str(stop_at)
        directory.mkdir()
        model = opened(directory, journal)
        model.take(list(journal.read(0, 3)))
        before = everything(directory)
        trace = statements(model._connection, stop_at)
        next(trace)
        try:
            model.take(rest(journal, model))
        except _Stop:
            next(trace)
            aborted += 1
            assert model.position == 3
            assert everything(directory) == before
            model.take(rest(journal, model))
        else:
            model.close()
            break
        model.close()
        assert everything(directory) == expected
    assert aborted > 20


_KILLED = """
import os, sys
import apsw
from tests.unit.projection.test_readmodel import ROOT, kill_journal, opened, rest
from pathlib import Path

journal = kill_journal()
model = opened(Path(sys.argv[1]), journal)
model.take(list(journal.read(0, 3)))
count = 0
def look(cursor, statement, bindings):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os._exit(42)
    return True
model._connection.exec_trace = look
model.take(rest(journal, model))
if int(sys.argv[2]) == 0:
    os._exit(43)
"""


def kill_journal() -> MemoryJournal:
    journal = MemoryJournal(SHARD_COUNT)
    bank = opened_bank()
    bank.commit(journal)
    for amount in (10, 20, 30):
        bank.ask(FINANCIAL, amount=amount)
        bank.commit(journal)
    return journal


@pytest.mark.parametrize(
    ("statement", "position"), [(2, 3), (4, 3), (5, 3), (6, 3), (0, 4)]
)
def test_a_process_that_dies_within_a_batch(tmp_path, statement, position):
    """Before a row, before the position, before COMMIT; and right after it."""
    journal = kill_journal()
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path), str(statement)], cwd=ROOT
    )
    assert done.returncode == (43 if statement == 0 else 42)
    model = opened(tmp_path, journal)
    assert model.position == position
    model.take(rest(journal, model))
    model.close()
    assert everything(tmp_path) == projected(tmp_path / "model", journal)


def test_two_writers_do_not_count_twice(tmp_path, journal, bank):
    first, second = opened(tmp_path, journal), opened(tmp_path, journal)
    first.take(list(journal.read(0, 3)))
    with pytest.raises(ReadModelError, match="expected position 0, got 3: another"):
        second.take(list(journal.read(0, 2)))
    second.close()
    first.take(rest(journal, first))
    first.close()
    assert everything(tmp_path) == projected(tmp_path / "model", journal)


def test_money_on_an_account_that_is_not_there_is_refused(tmp_path, journal, bank):
    model = opened(tmp_path, journal)
    commits = list(journal.read(0))
    with pytest.raises(ReadModelError, match="expected 2 accounts that money moves"):
        model.take(commits[1:])
    assert model.position == 0
    assert everything(tmp_path)["transactions"] == []
    model.take(commits)
    model.close()


# --- thrown away and made again


def again(
    tmp_path: Path, journal: MemoryJournal, caplog: pytest.LogCaptureFixture
) -> str:
    """Opens and takes all; the reason that was logged for a new beginning."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "switch.projection"):
        model = opened(tmp_path, journal)
    begin = model.position
    model.take(rest(journal, model))
    model.close()
    assert everything(tmp_path) == projected(tmp_path / "model", journal)
    if not caplog.records:
        return ""
    (line,) = caplog.records
    assert line.getMessage().startswith("read model thrown away")
    assert begin == 0
    fields: dict[str, object] = line.__dict__["switch_fields"]
    assert fields["path"] == tmp_path / "readmodel.db"
    return str(fields["reason"])


@pytest.fixture
def made(tmp_path, journal, bank) -> Path:
    """A file with all that the journal has."""
    model = opened(tmp_path, journal)
    model.take(rest(journal, model))
    model.close()
    return Path(tmp_path, "readmodel.db")


def changed(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_what_is_sound_is_gone_on_with(tmp_path, journal, made, bank, caplog):
    bank.ask(amount=3)
    bank.commit(journal)
    assert again(tmp_path, journal, caplog) == ""


def test_a_deleted_file_is_made_again(tmp_path, journal, made, caplog):
    made.unlink()
    assert again(tmp_path, journal, caplog) == ""


def test_another_journals(tmp_path, made, caplog):
    other = MemoryJournal(SHARD_COUNT, identity=b"another journal!")
    bank = opened_bank()
    for amount in range(1, 12):
        bank.ask(amount=amount)
        bank.commit(other)
    assert again(tmp_path, other, caplog) == "it is another journal's"


def test_one_that_is_ahead_of_the_journal(tmp_path, made, caplog):
    """The journal was restored from a backup, say."""
    shorter = MemoryJournal(SHARD_COUNT)
    opened_bank().commit(shorter)
    reason = again(tmp_path, shorter, caplog)
    assert reason == "it is at commit 6, the journal ends at 1"


def test_another_version(tmp_path, journal, made, caplog):
    changed(made, "PRAGMA user_version = 7")
    assert again(tmp_path, journal, caplog) == "expected version 2, got 7"


def test_one_without_a_position(tmp_path, journal, made, caplog):
    changed(made, "DELETE FROM position")
    assert again(tmp_path, journal, caplog) == "expected a position, got none"


@pytest.mark.parametrize("size", [10, 100, 5000])
def test_a_file_that_is_no_database(tmp_path, journal, made, caplog, size):
    made.write_bytes(b"\xff" * size)
    assert again(tmp_path, journal, caplog).startswith("unreadable: ")


def test_an_empty_file_is_a_new_one(tmp_path, journal, made, caplog):
    made.write_bytes(b"")
    assert again(tmp_path, journal, caplog) == ""


def test_a_page_that_is_damaged_in_the_schema(tmp_path, journal, made, caplog):
    data = bytearray(made.read_bytes())
    data[100:2000] = b"\xff" * 1900
    made.write_bytes(data)
    assert again(tmp_path, journal, caplog).startswith("unreadable: ")


def test_pages_that_are_damaged_where_rows_are(tmp_path, journal, made, bank, caplog):
    """It opens, for nobody has looked there yet: met by the next batch, and gone by
    the opening behind that."""
    for amount in range(1, 400):
        bank.ask(FINANCIAL, amount=1, account=JOINT, pan=PANS[1], stan=f"{amount:06}")
    bank.ask(FINANCIAL, amount=1)
    bank.commit(journal)
    model = opened(tmp_path, journal)
    model.take(rest(journal, model))
    model.close()
    roots: dict[str, int] = dict(rows(tmp_path, "sqlite_schema", "name, rootpage"))
    data = bytearray(made.read_bytes())
    for table in ("accounts", "transactions"):
        place = (roots[table] - 1) * 4096
        data[place : place + 4096] = b"\xff" * 4096
    made.write_bytes(data)
    bank.ask(FINANCIAL, amount=1)
    bank.commit(journal)
    model = opened(tmp_path, journal)
    with (
        caplog.at_level(logging.WARNING, "switch.projection"),
        pytest.raises(apsw.CorruptError),
    ):
        model.take(rest(journal, model))
    model.close()
    assert "read model thrown away" in caplog.text
    assert not made.exists()
    assert again(tmp_path, journal, caplog) == ""


def test_a_damaged_page_met_by_an_index(tmp_path, journal, made, caplog):
    roots: dict[str, int] = dict(rows(tmp_path, "sqlite_schema", "name, rootpage"))
    data = bytearray(made.read_bytes())
    place = (roots["transactions"] - 1) * 4096
    data[place : place + 4096] = b"\xff" * 4096
    made.write_bytes(data)
    model = opened(tmp_path, journal)
    with pytest.raises(apsw.CorruptError):
        list(iter(model.tend, False))
    model.close()
    assert not made.exists()
    assert again(tmp_path, journal, caplog) == ""


def test_a_foreign_database_is_refused_and_kept(tmp_path, journal, bank):
    changed(tmp_path / "readmodel.db", "CREATE TABLE mine (a)")
    before = (tmp_path / "readmodel.db").read_bytes()
    with pytest.raises(ReadModelError, match="expected application id 0x73775231"):
        opened(tmp_path, journal)
    assert (tmp_path / "readmodel.db").read_bytes() == before


def test_a_process_that_dies_while_it_makes_the_tables(tmp_path, journal, bank):
    """What is left is an empty file, or a ready one."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from switch.projection import schema\n"
        "from tests.unit.projection.test_readmodel import kill_journal, opened\n"
        "import switch.projection.readmodel as readmodel\n"
        "class Text(str):\n"
        "    def __format__(self, how): os._exit(42)\n"
        "schema.VERSION = Text('1')\n"
        "opened(Path(sys.argv[1]), kill_journal())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT)
    assert done.returncode == 42
    assert (tmp_path / "readmodel.db").exists()
    model = opened(tmp_path, journal)
    model.take(rest(journal, model))
    model.close()
    assert everything(tmp_path) == projected(tmp_path / "model", journal)


# --- indices


def test_indices_are_made_one_by_one_and_once(tmp_path, journal, made):
    model = opened(tmp_path, journal)
    steps = 1
    while model.tend():
        steps += 1
    assert steps == len(schema.INDICES)
    assert not model.tend()
    model.close()
    names = rows(tmp_path, "sqlite_schema WHERE type = 'index'", "name")
    assert set(schema.INDICES) <= {name for (name,) in names}
    model = opened(tmp_path, journal)
    assert model._missing_indices == []
    model.close()


def test_rows_are_the_same_with_indices(tmp_path, journal, bank):
    model = opened(tmp_path, journal)
    while model.tend():
        pass
    for commit in journal.read(0):
        model.take([commit])
    model.close()
    assert everything(tmp_path) == projected(tmp_path / "model", journal)


def test_a_person_may_look_meanwhile(tmp_path, journal, bank):
    """A reader with an open transaction holds nothing up."""
    model = opened(tmp_path, journal)
    model.take(list(journal.read(0, 1)))
    reader = apsw.Connection(str(tmp_path / "readmodel.db"))
    reader.execute("BEGIN; SELECT * FROM accounts").fetchall()
    model.take(rest(journal, model))
    count = reader.execute("SELECT count(*) FROM transactions").get
    reader.close()
    model.close()
    assert count == 0
    assert [path.name for path in tmp_path.iterdir()] == ["readmodel.db"]
