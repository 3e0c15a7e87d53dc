"""Snapshots while the switch runs: never ahead of what is released."""

from __future__ import annotations

import asyncio
import logging

import pytest

from switch.journal.errors import JournalError, JournalUnknown
from switch.journal.memory import MemorySnapshots
from switch.shard.snapshotter import Snapshotter
from tests.unit.shard.node import SHARD_COUNT, Node, new_journal, view

WAIT_S = 30  # for what comes at once; never reached
CARDS = ("active", "other", "euro", "credit")


def opened(snapshots=MemorySnapshots, **settings):
    """A node and its snapshotter."""
    journal = new_journal()
    node = Node(journal, snapshots(journal))
    snapshotter = Snapshotter(
        node.group,
        node.snapshots,
        every_entries=settings.get("every_entries", 1),
        sequences=node.recovered.snapshot_sequences,
    )
    return node, snapshotter


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 -- nothing signals it
            await asyncio.sleep(0.001)


async def beside(node, work):
    """`work` while commits are written as they come."""
    task = asyncio.ensure_future(work)
    async with asyncio.timeout(WAIT_S):
        while not task.done():
            node.commit()
            await asyncio.sleep(0)
    return task.result()


def stored(node):
    return {snapshot.shard: snapshot for snapshot in node.snapshots.read_all()}


def test_a_snapshot_waits_until_all_in_it_is_released():
    async def scenario():
        node, snapshotter = opened()
        await beside(node, snapshotter.take_all())
        before = stored(node)
        node.ask(stan=1)
        node.turn()
        node.ask(stan=2)  # with the next commit
        shard = node.shard().state.shard
        taking = asyncio.ensure_future(snapshotter.take_all())
        for _ in range(3):
            await asyncio.sleep(0)
            node.turn()
        assert stored(node) == before
        node.write()
        for _ in range(3):
            await asyncio.sleep(0)
            node.turn()
        assert stored(node) == before, "its last entry is still being written"
        node.write()
        node.turn()
        await asyncio.wait_for(taking, WAIT_S)
        assert stored(node)[shard].sequence == node.states[shard].sequence
        # it lacks what the commits behind this one bring, which is replayed
        assert stored(node)[shard].commit == 1

    asyncio.run(scenario())


def test_what_comes_during_a_snapshot_is_replayed():
    async def scenario():
        node, snapshotter = opened()
        node.ask(stan=1)
        node.turn()
        node.ask(stan=2)
        taking = asyncio.ensure_future(snapshotter.take_all())
        await asyncio.sleep(0)
        # decided after the dump, in the same commit as what the dump has
        for stan, card in enumerate(CARDS, 3):
            node.ask(stan=stan, card=card)
        await beside(node, taking)
        assert len(stored(node)) == SHARD_COUNT
        restarted = node.restart()
        assert [view(state) for state in restarted.states] == [
            view(state) for state in node.states
        ]
        assert restarted.recovered.entries_replayed > 0

    asyncio.run(scenario())


def test_only_what_has_changed_is_taken_again():
    async def scenario():
        node, snapshotter = opened()
        await beside(node, snapshotter.take_all())
        first = stored(node)
        assert sorted(first) == list(range(SHARD_COUNT))
        node.ask(stan=1)
        await beside(node, snapshotter.take_all())
        shard = node.shard().state.shard
        second = stored(node)
        taken = [n for n in second if second[n].sequence != first[n].sequence]
        assert taken == [shard]
        assert second[shard].sequence == first[shard].sequence + 1
        assert snapshotter.rounds == 2

    asyncio.run(scenario())


def test_a_quiet_shard_does_not_make_a_restart_read_from_far_back():
    async def scenario():
        node, snapshotter = opened()
        for stan in range(5):
            node.ask(stan=stan)
            node.commit()
        await beside(node, snapshotter.take_all())
        for stan in range(5, 10):
            node.ask(stan=stan)
            node.commit()
        await beside(node, snapshotter.take_all())
        restarted = node.restart()
        assert restarted.recovered.from_commit == node.group.head
        assert restarted.recovered.entries_replayed == 0
        assert list(map(view, restarted.states)) == list(map(view, node.states))

    asyncio.run(scenario())


def test_after_a_restart_what_has_a_snapshot_is_not_taken_again():
    async def scenario():
        node, snapshotter = opened()
        await beside(node, snapshotter.take_all())
        restarted = node.restart()
        written: list[int] = []

        class Store(MemorySnapshots):
            def write(self, shard, sequence, commit, data):
                written.append(shard)

        again = Snapshotter(
            restarted.group,
            Store(restarted.journal),
            every_entries=1,
            sequences=restarted.recovered.snapshot_sequences,
        )
        await beside(restarted, again.take_all())
        assert written == []

    asyncio.run(scenario())


def test_snapshots_are_taken_whenever_so_many_entries_have_come():
    async def scenario():
        node, snapshotter = opened(every_entries=10)
        running = asyncio.ensure_future(snapshotter.run(interval_s=0.001))
        for stan in range(1, 10):
            node.ask(stan=stan)
        node.commit()
        await asyncio.sleep(0.01)
        assert snapshotter.rounds == 0
        for rounds in (1, 2):
            for stan in range(10):
                node.ask(stan=100 * rounds + stan)
            await beside(node, until(lambda n=rounds: snapshotter.rounds >= n))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(stored(node)) == SHARD_COUNT

    asyncio.run(scenario())


class FailingOnce(MemorySnapshots):
    failures = 1

    def write(self, shard, sequence, commit, data):
        if self.failures:
            self.failures -= 1
            raise JournalError("disk full")
        super().write(shard, sequence, commit, data)


def test_a_store_that_cannot_be_written_is_said_and_tried_again(caplog):
    async def scenario():
        node, snapshotter = opened(FailingOnce, every_entries=1)
        running = asyncio.ensure_future(snapshotter.run(interval_s=0.001))
        node.ask(stan=1)
        await beside(node, until(lambda: caplog.records))
        assert stored(node) == {}
        node.ask(stan=2)
        await beside(node, until(lambda: snapshotter.rounds))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(stored(node)) == SHARD_COUNT

    caplog.set_level(logging.ERROR)
    asyncio.run(scenario())
    (record,) = caplog.records
    assert "snapshot failed, a restart will replay more: disk full" in record.message


def test_when_the_journal_fails_no_snapshot_is_written():
    async def scenario():
        node, snapshotter = opened()
        node.ask(stan=1)
        node.turn()
        taking = asyncio.ensure_future(snapshotter.take_all())
        await asyncio.sleep(0)
        node.group.stop(JournalUnknown("no answer"))
        with pytest.raises(JournalUnknown):
            await asyncio.wait_for(taking, WAIT_S)
        with pytest.raises(JournalUnknown):
            await asyncio.wait_for(snapshotter.take_all(), WAIT_S)
        assert stored(node) == {}

    asyncio.run(scenario())
