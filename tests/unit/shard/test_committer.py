"""The commit thread: what was durable is told, and after a failure nothing is."""

from __future__ import annotations

import asyncio
import queue
import threading

import pytest

from switch.journal.memory import Fault, MemoryJournal
from switch.journal.port import (
    JournalBusy,
    JournalError,
    JournalFull,
    JournalStopped,
    JournalUnknown,
)
from switch.shard.committer import Committer
from tests.unit.journal.build import SHARD_COUNT, batch
from tests.unit.shard.node import FINANCIAL, Node, new_journal

WAIT_S = 30  # for what comes at once; never reached


class Told:
    """What the loop is told by the thread."""

    def __init__(self, journal):
        self._queue: queue.Queue[tuple[str, object]] = queue.Queue()
        self.committer = Committer(journal, lambda function, value: function(value))
        self.committer.start(
            lambda number: self._queue.put(("committed", number)),
            lambda error: self._queue.put(("failed", error)),
        )

    def next(self):
        return self._queue.get(timeout=WAIT_S)

    def rest(self):
        """What was told besides, when the thread has ended."""
        self.committer.stop()
        told = []
        while not self._queue.empty():
            told.append(self._queue.get())
        return told


@pytest.fixture
def commits():
    return iter(map(batch, range(1, 100)))


def test_commits_are_told_in_order(commits):
    journal = MemoryJournal(SHARD_COUNT)
    told = Told(journal)
    for number in range(1, 6):
        told.committer.submit(number * 10, next(commits))
    assert told.rest() == [("committed", number) for number in range(1, 6)]
    assert [commit.at for commit in journal.read(0)] == [10, 20, 30, 40, 50]


def test_submitting_does_not_wait_for_the_disk(commits):
    gate = threading.Event()
    told = Told(MemoryJournal(SHARD_COUNT, faults={1: Fault(gate=gate)}))
    told.committer.submit(1, next(commits))
    told.committer.submit(2, next(commits))
    gate.set()
    assert told.rest() == [("committed", 1), ("committed", 2)]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        JournalUnknown("no answer"), JournalFull("disk full"), JournalBusy("busy"),
        JournalStopped("stopped"), JournalError("whatever"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_after_a_failure_nothing_more_is_written_or_told(commits, error, stored):
    journal = MemoryJournal(SHARD_COUNT, faults={2: Fault(error, stored=stored)})
    told = Told(journal)
    for number in range(1, 6):
        told.committer.submit(number, next(commits))
    assert told.rest() == [("committed", 1), ("failed", error)]
    assert journal.append_count == 2


def test_what_is_no_error_of_a_journal_is_told_as_well(commits):
    told = Told(MemoryJournal(SHARD_COUNT))
    told.committer.submit(1, [None])  # type: ignore[list-item]
    told.committer.submit(1, next(commits))
    ((what, error),) = told.rest()
    assert what == "failed"
    assert isinstance(error, AttributeError)


class TiredJournal(MemoryJournal):
    def tend(self):
        raise RuntimeError("no housekeeping today")


def test_housekeeping_that_fails_is_told_after_its_commit(commits):
    """Without it everybody would wait for ever for a thread that has ended."""
    journal = TiredJournal(SHARD_COUNT)
    told = Told(journal)
    told.committer.submit(1, next(commits))
    assert told.next() == ("committed", 1)
    what, error = told.next()
    assert what == "failed"
    assert str(error) == "no housekeeping today"
    told.committer.submit(2, next(commits))
    assert told.rest() == []
    assert journal.append_count == 1


def test_what_commits_cost_is_counted(commits):
    journal = MemoryJournal(SHARD_COUNT)
    told = Told(journal)
    for _ in range(3):
        told.committer.submit(1, next(commits))
    told.rest()
    times = told.committer.times
    assert sum(times.seconds.counts) == sum(times.entries.counts) == 3
    assert times.entries.total == 6
    assert times.entries.counts[:3] == [0, 3, 0]
    assert times.seconds.total > 0


def test_stopping_what_was_never_started():
    committer = Committer(MemoryJournal(SHARD_COUNT), lambda function, value: None)
    committer.stop()


# --- with the group: what invariant 6 asks


@pytest.mark.parametrize("stored", [False, True])
def test_an_unknown_outcome_stops_everything_and_opening_again_settles_it(stored):
    journal = new_journal(faults={3: Fault(JournalUnknown("no answer"), stored=stored)})
    answers: list[object] = []
    node = asyncio.run(ask_until_it_fails(journal, answers))
    assert [type(answer) for answer in answers] == [type(None)] + [JournalUnknown] * 3
    # the import, the first commit, and the one whose outcome is unknown
    assert journal.append_count == 3
    assert node.released == [2]

    again = node.restart()
    assert again.journal.head == (3 if stored else 2)
    assert again.held() == (200 if stored else 100)
    assert again.ask(stan=1).repeated
    repeat = again.ask(stan=2)
    assert repeat.repeated == stored
    assert repeat.approval_code == node.ask(stan=2).approval_code
    assert not again.ask(stan=3).repeated
    again.commit()
    assert again.restart().held() == 300


async def ask_until_it_fails(journal, answers):
    """Three requests after each other: durable, unknown, and too late; one more
    comes when the failure is known."""
    loop = asyncio.get_running_loop()
    committer = Committer(journal, loop.call_soon_threadsafe)
    node = Node(journal, submit=committer.submit)
    failed = asyncio.Event()

    def fail(error):
        node.group.stop(error)
        failed.set()

    committer.start(node.group.committed, fail)
    waiting = []
    for stan in (1, 2, 3):
        node.ask(stan=stan)
        waiting.append(loop.create_future())
        node.group.wait(waiting[-1])
        node.turn()
        if stan == 1:
            await asyncio.wait_for(waiting[0], WAIT_S)
    await asyncio.wait_for(failed.wait(), WAIT_S)
    node.ask(FINANCIAL, stan=4)
    waiting.append(loop.create_future())
    node.group.wait(waiting[-1])
    node.turn()
    committer.stop()
    answers += await asyncio.gather(*waiting, return_exceptions=True)
    return node
