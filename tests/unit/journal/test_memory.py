"""The journal in memory behaves as the real one does, and fails on cue."""

import threading

import pytest

from switch.journal.errors import (
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalStopped,
    JournalUnknown,
)
from switch.journal.memory import Fault, MemoryJournal, MemorySnapshots
from switch.journal.port import Commit, Journal, Snapshot, SnapshotStore
from switch.journal.sqlite import SqliteJournal
from tests.unit.journal.build import SHARD_COUNT, batch


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_both_keep_what_was_appended(kind, tmp_path):
    journal: Journal
    if kind == "memory":
        journal = MemoryJournal(SHARD_COUNT)
    else:
        journal = SqliteJournal.open(tmp_path, shard_count=SHARD_COUNT)
    assert journal.head == 0
    assert journal.append(1000, batch(1)) == 1
    assert journal.append_many(7, (batch(number) for number in (2, 3))) == 3
    with pytest.raises(JournalError, match="gap in the sequence of shard 2"):
        journal.append_many(7, (batch(number) for number in (6, 5)))
    assert journal.head == 3
    commits = [
        Commit(1, 1000, tuple(batch(1))),
        Commit(2, 7, tuple(batch(2))),
        Commit(3, 7, tuple(batch(3))),
    ]
    assert list(journal.read(0)) == commits
    assert list(journal.read(1, limit=1)) == commits[1:2]
    with pytest.raises(JournalDamaged, match="reader is ahead"):
        journal.read(4)
    journal.tend()
    journal.close()


def test_a_full_disk_keeps_nothing_and_goes_on():
    journal = MemoryJournal(SHARD_COUNT, faults={2: Fault(JournalFull("disk full"))})
    journal.append(1, batch(1))
    with pytest.raises(JournalFull):
        journal.append(1, batch(2))
    assert journal.append(1, batch(2)) == 2


@pytest.mark.parametrize("stored", [True, False])
def test_an_unknown_outcome_is_settled_by_opening_again(stored):
    journal = MemoryJournal(
        SHARD_COUNT, faults={2: Fault(JournalUnknown("no answer"), stored=stored)}
    )
    journal.append(1, batch(1))
    with pytest.raises(JournalUnknown):
        journal.append(1, batch(2))
    with pytest.raises(JournalStopped, match="no answer"):
        journal.append(1, batch(2))
    journal = journal.reopen()
    assert journal.head == (2 if stored else 1)
    assert journal.append(1, batch(journal.head + 1)) == journal.head
    assert len(list(journal.read(0))) == journal.head


def test_an_append_that_waits():
    gate = threading.Event()
    journal = MemoryJournal(
        SHARD_COUNT, faults={1: Fault(gate=gate, delay_seconds=0.001)}
    )
    thread = threading.Thread(target=journal.append, args=(1, batch(1)))
    thread.start()
    assert journal.head == 0
    gate.set()
    thread.join()
    assert journal.head == 1


def test_damage_is_found():
    journal = MemoryJournal(SHARD_COUNT)
    journal.append_many(1, [batch(number) for number in (1, 2, 3)])
    journal.damage(2, byte=100)
    with pytest.raises(JournalDamaged, match="commit 2"):
        list(journal.read(0))


def test_snapshots():
    journal = MemoryJournal(SHARD_COUNT)
    journal.append(1, batch(1))
    store: SnapshotStore = MemorySnapshots(journal)
    store.write(1, 1, 1, b"a")
    store.write(0, 1, 1, b"b")
    store.write(1, 2, 1, b"c")
    with pytest.raises(JournalError, match="not durable yet"):
        store.write(0, 2, 2, b"d")
    assert list(store.read_all()) == [Snapshot(0, 1, 1, b"b"), Snapshot(1, 2, 1, b"c")]
    store.close()
