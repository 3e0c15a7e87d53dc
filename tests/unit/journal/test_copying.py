"""A copy of a journal has its first commits byte for byte, or there is none."""

import sqlite3
from pathlib import Path

import pytest

from switch.journal import copying
from switch.journal.copying import copy_journal, verify_copy
from switch.journal.errors import JournalDamaged
from switch.journal.sqlite import SqliteJournal
from tests.unit.journal.build import batch, fill

COUNT = 40


@pytest.fixture
def source(tmp_path):
    (tmp_path / "bank").mkdir()
    writer = fill(tmp_path / "bank", COUNT)
    yield writer
    writer.close()


@pytest.fixture
def target(tmp_path):
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy"


def rows(directory: Path) -> list[tuple[object, ...]]:
    """Of both tables, read by another library."""
    connection = sqlite3.connect(f"file:{directory / 'journal.db'}?mode=ro", uri=True)
    try:
        meta = connection.execute("SELECT * FROM meta").fetchall()
        return meta + connection.execute("SELECT * FROM commits").fetchall()
    finally:
        connection.close()


def copy(source: SqliteJournal, target: Path, end: int) -> list[int]:
    """What it said was done."""
    reader = SqliteJournal.open(Path(source.path).parent, read_only=True)
    done: list[int] = []
    try:
        copy_journal(reader, target, end, done.append, lambda _seconds: None)
        verify_copy(target, end, done.append)
    finally:
        reader.close()
    return done


def test_it_is_the_same_beside_the_one_who_writes(source, target):
    done = copy(source, target, COUNT)
    assert done == [COUNT, *range(1, COUNT + 1)]
    assert {path.name for path in target.iterdir()} == {"journal.db", "released"}
    assert rows(target) == rows(Path(source.path).parent)
    assert (target / "journal.db").stat().st_mode & 0o777 == 0o600


def test_it_ends_where_it_was_told_to_while_more_is_written(
    source, target, monkeypatch
):
    monkeypatch.setattr(copying, "PIECE_BYTES_MAX", 2000)
    reader = SqliteJournal.open(Path(source.path).parent, read_only=True)
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        source.append(1, batch(source.head + 1))

    copy_journal(reader, target, COUNT, lambda _done: None, rest)
    reader.close()
    assert len(rests) > 5
    assert all(seconds > 0 for seconds in rests)
    verify_copy(target, COUNT, lambda _done: None)
    assert rows(target) == rows(Path(source.path).parent)[: 1 + COUNT]


def test_a_copy_is_a_journal_that_goes_on(source, target):
    copy(source, target, 25)
    journal = SqliteJournal.open(target)
    assert (journal.identity, journal.head) == (source.identity, 25)
    assert journal.append(1, batch(26)) == 26
    journal.close()


def test_an_empty_one_is_copied(tmp_path, target):
    (tmp_path / "empty").mkdir()
    empty = fill(tmp_path / "empty", 0)
    assert copy(empty, target, 0) == []
    assert rows(target) == rows(tmp_path / "empty")
    empty.close()


def test_what_is_damaged_is_not_copied(source, target):
    connection = sqlite3.connect(source.path)
    connection.execute("UPDATE commits SET record = zeroblob(700) WHERE number = 7")
    connection.commit()
    connection.close()
    with pytest.raises(JournalDamaged, match=r"not a commit record.*commit 7"):
        copy(source, target, COUNT)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM commits WHERE number = 40", "expected commit 40 at its end"),
        ("DELETE FROM commits WHERE number = 20", "commit is missing"),
        ("UPDATE commits SET record = zeroblob(700) WHERE number = 9", "not a commit"),
        ("UPDATE meta SET identity = zeroblob(16)", "broken chain"),
    ],
)
def test_a_copy_that_is_not_the_same_is_found(source, target, change, said):
    copy(source, target, COUNT)
    connection = sqlite3.connect(target / "journal.db")
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(JournalDamaged, match=said):
        verify_copy(target, COUNT, lambda _done: None)
