"""Invariant: whatever write a power loss cuts off, every append that returned is in
the journal afterwards, byte for byte; nothing is there in part; the chain verifies;
the journal takes the next append. With synchronous = OFF the same run must lose
something: that is the test of this test."""

import random
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec
import pytest

from switch.journal import sqlite
from switch.journal.port import Commit, JournalError, JournalUnknown, ShardRecord
from switch.journal.released import Released
from switch.journal.snapshots import SqliteSnapshots
from switch.journal.sqlite import SqliteJournal
from tests.simulation.power_loss import (
    Crash,
    Disk,
    History,
    crash_points,
    failing,
    record,
    simulated,
)

SHARD_COUNT = 4
SEED = 20_241
IMPORT_COMMITS = 3
SNAPSHOT_BYTES = 30_000


class Writer:
    """Appends random commits and tells `answered` of each that returned."""

    def __init__(
        self, journal: SqliteJournal, seed: int, answered: Callable[[Commit], None]
    ) -> None:
        self.journal = journal
        self.answered = answered
        self.chance = random.Random(seed)
        self.next_sequence = [1] * SHARD_COUNT
        for commit in journal.read(0):
            for one in commit.records:
                self.next_sequence[one.shard] = one.first_sequence + one.count

    def batch(self, payload_bytes_max: int) -> list[ShardRecord]:
        shards = self.chance.sample(range(SHARD_COUNT), self.chance.randint(1, 4))
        records = []
        for shard in shards:
            count = self.chance.randint(1, 3)
            payload = self.chance.randbytes(self.chance.randint(0, payload_bytes_max))
            records.append(
                ShardRecord(shard, self.next_sequence[shard], count, payload)
            )
            self.next_sequence[shard] += count
        return records

    def append(self, payload_bytes_max: int) -> int:
        records = self.batch(payload_bytes_max)
        number = self.journal.append(number_time(self.journal.head + 1), records)
        self.answered(Commit(number, number_time(number), tuple(records)))
        return number

    def append_many(self, count: int) -> None:
        batches = [self.batch(9_000) for _ in range(count)]
        first = self.journal.head + 1
        self.journal.append_many(1_000, batches)
        for number, records in enumerate(batches, first):
            self.answered(Commit(number, 1_000, tuple(records)))


def number_time(number: int) -> int:
    return 1_700_000_000_000 + number


def script(synchronous: str, appends: int = 24) -> Callable[[Disk], None]:
    """All there is: creation, small and large commits, an import, copying of the log,
    snapshots, an orderly end, and a second run."""

    def run(disk: Disk) -> None:
        for seed in (1, 2):
            journal = SqliteJournal.open(
                disk.directory,
                shard_count=SHARD_COUNT,
                vfs=disk.vfs,
                synchronous=synchronous,
            )
            snapshots = SqliteSnapshots.open(
                disk.directory, journal=journal, vfs=disk.vfs, synchronous=synchronous
            )
            released = Released(disk.directory / "released")
            writer = Writer(journal, seed, disk.answered)
            for index in range(appends):
                number = writer.append(20_000 if index % 6 == 5 else 300)
                released.advance(number)
                if index % 10 == 9:
                    data = writer.chance.randbytes(SNAPSHOT_BYTES)
                    sequence = writer.next_sequence[0] - 1
                    snapshots.write(0, sequence, number, data)
                if index % 12 == 11:
                    journal.tend()
            writer.append_many(IMPORT_COMMITS)
            released.close()
            snapshots.close()
            journal.close()

    return run


@pytest.fixture(autouse=True)
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a short run copies the log into the file several times.
    monkeypatch.setattr(sqlite, "LOG_PAGES_MAX", 12)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "LOG_PAGES_MAX", 12)
        directory = tmp_path_factory.mktemp("power") / "run"
        return record(script("FULL"), directory, outside=("released",))


def check(crash: Crash) -> None:
    """Opens what the crash left with the real code, and goes on. (No second crash
    follows here, so the real disk need not be waited for.)"""
    journal = SqliteJournal.open(
        crash.directory, shard_count=SHARD_COUNT, synchronous="OFF"
    )
    found = list(journal.read(0))
    assert found[: len(crash.answered)] == list(crash.answered), str(crash)
    # The last commit may be there although nobody was told of it, or the last import.
    assert len(found) - len(crash.answered) in (0, 1, IMPORT_COMMITS), str(crash)
    store = SqliteSnapshots.open(crash.directory, journal=journal, synchronous="OFF")
    for snapshot in store.read_all():
        assert len(snapshot.data) == SNAPSHOT_BYTES
        assert snapshot.commit <= journal.head
    assert store.problems == [], str(crash)
    store.close()
    assert Writer(journal, 9, lambda _: None).append(100) == len(found) + 1
    journal.close()


def test_nothing_answered_is_lost(history: History, tmp_path: Path):
    crashes = 0
    for crash in crash_points(history, tmp_path / "crash", seed=SEED):
        check(crash)
        crashes += 1
    assert crashes > 1_000


def test_nothing_is_lost_by_a_crash_while_recovering(history: History, tmp_path: Path):
    def recover(disk: Disk) -> None:
        journal = SqliteJournal.open(
            disk.directory, shard_count=SHARD_COUNT, vfs=disk.vfs
        )
        for token in journal.read(0):
            disk.answered(token)
        writer = Writer(journal, 3, disk.answered)
        writer.append(300)
        writer.append(300)
        journal.close()

    crashes = 0
    for first in crash_points(
        history, tmp_path / "first", seed=SEED, variants=("random",), every=17
    ):
        again = record(recover, first.directory, outside=("released",))
        for second in crash_points(
            again, tmp_path / "second", seed=SEED, variants=("synced", "random")
        ):
            # What the first crash left is owed before recovery has read it, too.
            check(
                msgspec.structs.replace(
                    second, answered=max(first.answered, second.answered, key=len)
                )
            )
            crashes += 1
    assert crashes > 200


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_without_syncs_answered_commits_are_lost(synchronous: str, tmp_path: Path):
    # `released` is left out: a power loss may take it, and it would tell.
    history = record(script(synchronous), tmp_path / "run")
    refused, silent = 0, 0
    for crash in crash_points(history, tmp_path / "crash", seed=SEED, every=2):
        try:
            check(crash)
        except JournalError:
            refused += 1
        except AssertionError:
            silent += 1
    assert silent > 0
    assert refused > 0  # by what the crash left in the log, or the snapshots


def test_a_seed_repeats_the_crashes(history: History, tmp_path: Path):
    def contents() -> list[dict[str, bytes]]:
        return [
            {path.name: path.read_bytes() for path in crash.directory.iterdir()}
            for crash in crash_points(history, tmp_path / "x", seed=7, every=60)
        ]

    assert contents() == contents()


@pytest.mark.parametrize("has_room", [True, False])
def test_what_could_not_be_synced_is_synced_by_the_next_start(
    has_room: bool, tmp_path: Path
):
    """It is seen there as if it were; without room it is answered from the log."""
    with simulated(tmp_path / "run") as disk:
        journal = SqliteJournal.open(
            disk.directory, shard_count=SHARD_COUNT, vfs=disk.vfs
        )
        writer = Writer(journal, 1, disk.answered)
        writer.append(300)
        disk.fault = failing("sync", "journal.db-wal", apsw.IOError)
        with pytest.raises(JournalUnknown):
            writer.append(300)
        journal.close()
        disk.fault = (
            None if has_room else failing("write", "journal.db", apsw.FullError)
        )
        recovering = len(disk.history.operations)
        journal = SqliteJournal.open(disk.directory, vfs=disk.vfs)
        assert journal.head == 2
        disk.answered("that it is there")
        Writer(journal, 2, lambda _: None).append(300)
        disk.fault = None
        journal.close()
    for crash in crash_points(disk.history, tmp_path / "crash", seed=SEED):
        if crash.index > recovering:
            journal = SqliteJournal.open(crash.directory, synchronous="OFF")
            assert journal.head >= len(crash.answered), str(crash)
            journal.close()
