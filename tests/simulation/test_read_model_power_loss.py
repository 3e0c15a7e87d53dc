"""Invariant: whatever write a power loss cuts off, the read model that is there
afterwards has the rows of its position, and goes on from it to the same rows as one
that was never disturbed. Without the sync of the log, or of the file, it must not."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
import pytest

from switch.journal.memory import MemoryJournal
from switch.projection import readmodel
from switch.projection.readmodel import ReadModel
from tests.simulation.power_loss import (
    Disk,
    History,
    Operation,
    crash_points,
    record,
)
from tests.unit.small_bank import FINANCIAL, JOINT, PANS, SHARD_COUNT, opened_bank

SEED = 20_261
COMMITS = 60
LOG_PAGES_MAX = 24
NAME = "readmodel.db"
TABLES = ("accounts", "cards", "transactions", "position")


@pytest.fixture(scope="module")
def journal() -> MemoryJournal:
    journal = MemoryJournal(SHARD_COUNT)
    bank = opened_bank()
    bank.commit(journal)
    for number in range(COMMITS):
        bank.ask(FINANCIAL, amount=number + 1)
        bank.ask(amount=1, account=JOINT, pan=PANS[1])
        bank.commit(journal)
    return journal


def opened(directory: Path, journal: MemoryJournal) -> ReadModel:
    return ReadModel(
        directory / NAME,
        journal_identity=journal.identity,
        journal_head=journal.head,
    )


class OnDisk(ReadModel):
    """Alone on a file: a VFS that is made of Python has no memory to share a log by."""

    disk: Disk

    def _connected(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), vfs=self.disk.vfs)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return connection


def script(journal: MemoryJournal, leave_out: str = "") -> Callable[[Disk], None]:
    """Two runs, with some copying of the log in each; what is synced past SQLite is
    told to the disk, but for the file to leave out."""

    def run(disk: Disk) -> None:
        def write_back(path: Path) -> Iterator[float]:
            yield 0.0
            if path.name != leave_out and path.name in disk.names:
                disk.log(Operation("sync", path.name))

        with (
            mock.patch.object(readmodel, "write_back", write_back),
            mock.patch.object(readmodel, "LOG_PAGES_MAX", LOG_PAGES_MAX),
            mock.patch.object(OnDisk, "disk", disk, create=True),
        ):
            for end in (COMMITS // 2, journal.head):
                model = OnDisk(
                    disk.directory / NAME,
                    journal_identity=journal.identity,
                    journal_head=journal.head,
                )
                commits = journal.read(model.position)
                for commit in itertools.islice(commits, end - model.position):
                    model.take([commit])
                    while model.wants_tending:
                        model.tend()
                while model.tend():
                    pass
                model.close()

    return run


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    connection = apsw.Connection(str(path))
    found = {
        table: sorted(connection.execute(f"SELECT * FROM {table}")) for table in TABLES
    }
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
    return found


def faults(
    history: History, journal: MemoryJournal, directory: Path, every: int
) -> tuple[int, int]:
    """How many power losses there were, and how many a read model did not survive."""
    expected = {}
    undisturbed = directory / "undisturbed"
    undisturbed.mkdir(parents=True)
    model = opened(undisturbed, journal)
    expected[0] = rows(undisturbed / NAME)
    for commit in journal.read(0):
        model.take([commit])
        expected[commit.number] = rows(undisturbed / NAME)
    model.close()
    crashes = wrong = 0
    for crash in crash_points(history, directory / "crash", seed=SEED, every=every):
        crashes += 1
        try:
            model = opened(crash.directory, journal)
            assert rows(crash.directory / NAME) == expected[model.position]
            model.take(list(journal.read(model.position)))
            model.close()
            assert rows(crash.directory / NAME) == expected[journal.head]
        except (AssertionError, apsw.Error, readmodel.ReadModelError):
            wrong += 1
    return crashes, wrong


def test_the_rows_are_those_of_the_position(journal, tmp_path):
    history = record(script(journal), tmp_path / "run")
    copies = [str(each) for each in history.operations if each.kind == "sync"]
    assert copies.count(f"sync {NAME}") > 4, copies
    crashes, wrong = faults(history, journal, tmp_path, every=3)
    assert crashes > 500
    assert wrong == 0


@pytest.mark.parametrize("left_out", [NAME, f"{NAME}-wal"])
def test_without_a_sync_they_are_not(journal, tmp_path, left_out):
    history = record(script(journal, left_out), tmp_path / "run")
    assert faults(history, journal, tmp_path, every=5)[1] > 0
