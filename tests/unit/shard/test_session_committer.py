"""A commit group over a session's log: answers wait for the release, and the group
goes on commit after commit as with the commit thread."""

from __future__ import annotations

import asyncio

import pytest

from switch.journal.cassandra.memory import MemoryStore
from switch.journal.errors import JournalFenced, JournalStopped
from switch.ledger import Limits
from switch.shard._group import CommitGroup
from switch.shard.session_committer import SessionCommitter
from tests.unit.journal.cassandra.build import ALL, NOW, begun
from tests.unit.shard.node import request


class Slow(MemoryStore):
    """Each call takes a turn of the loop."""

    async def insert_part(self, *arguments):
        await asyncio.sleep(0)
        await super().insert_part(*arguments)


async def group_over(store, check=lambda: None):
    session = await begun(store, "s1")
    states = await session.take(ALL, Limits())
    committer = SessionCommitter(session, check=check)
    failures = []
    group = CommitGroup(
        [states[shard] for shard in sorted(states)],
        submit=committer.submit,
        schedule=asyncio.get_running_loop().call_soon,
        released=lambda number: None,
        clock=lambda: NOW,
        confirms=True,
    )

    def failed(error):
        failures.append(error)
        group.stop(error)

    committer.start(lambda number, records: group.committed(number), failed)
    return group, committer, failures


async def answered(group, shard, stan):
    released = asyncio.get_running_loop().create_future()
    group.shards[shard].decide(request(stan=stan), NOW)
    group.wait(released)
    await released


def test_what_arrives_meanwhile_is_one_commit():
    async def go():
        store = Slow()
        group, committer, failures = await group_over(store)
        await asyncio.gather(*[answered(group, stan % 4, stan) for stan in range(40)])
        await asyncio.gather(*[answered(group, 1, stan) for stan in range(50, 60)])
        assert failures == []
        assert group.entries == 50
        assert group.commits == group.head == len(store.rows["s1", 0]) <= 4
        assert committer.times.entries.total == 50
        assert sum(committer.times.seconds.counts) == group.commits

    asyncio.run(go())


def test_a_fence_stops_the_group():
    async def go():
        store = Slow()
        group, _, failures = await group_over(store)
        await answered(group, 0, 1)
        store.fences["s1"] = "s2"
        with pytest.raises(JournalFenced):
            await answered(group, 0, 2)
        with pytest.raises(JournalFenced):
            await answered(group, 0, 3)
        assert len(failures) == 1

    asyncio.run(go())


def test_stopped_from_outside_it_tells_nothing_more():
    async def go():
        store = Slow()
        group, committer, failures = await group_over(store)
        waiting = asyncio.create_task(answered(group, 0, 1))
        await asyncio.sleep(0)
        error = JournalStopped("the lease is over")
        committer.stop(error)
        group.stop(error)
        with pytest.raises(JournalStopped):
            await waiting
        await asyncio.sleep(0.01)
        assert group.head == 0
        assert failures == []

    asyncio.run(go())


def test_what_needs_no_commit_waits_for_the_fence():
    async def go():
        store = Slow()
        group, committer, failures = await group_over(store)
        await answered(group, 0, 1)
        store.calls.clear()
        await answered(group, 0, 1)
        assert store.calls == ["read_fence"]
        assert group.head == committer.head == 1
        store.fences["s1"] = "s2"
        with pytest.raises(JournalFenced):
            await answered(group, 0, 1)
        assert len(failures) == 1

    asyncio.run(go())


def test_it_is_checked_behind_the_release_and_before_it_is_told():
    async def go():
        checked = []

        def check():
            checked.append((len(store.rows["s1", 0]), group.head))
            if len(checked) == 2:
                raise JournalStopped("the lease is over")

        store = Slow()
        group, committer, failures = await group_over(store, check)
        await answered(group, 0, 1)
        with pytest.raises(JournalStopped):
            await answered(group, 0, 2)
        await committer.close()
        assert checked == [(1, 0), (2, 1)]
        assert group.head == committer.head == 1
        assert len(failures) == 1

    asyncio.run(go())


def test_a_fault_in_what_is_told_is_a_failure():
    async def go():
        store = Slow()
        session = await begun(store, "s1")
        committer = SessionCommitter(session)
        failures: list[Exception] = []

        def breaks(number, records):
            raise ZeroDivisionError

        committer.start(breaks, failures.append)
        committer.submit(NOW, [])
        await asyncio.sleep(0.01)
        assert [type(error) for error in failures] == [ZeroDivisionError]

    asyncio.run(go())


def test_closed_it_leaves_nothing_in_flight():
    async def go():
        class Hangs(Slow):
            async def read_fence(self, session):
                await asyncio.Event().wait()

        store = Hangs()
        group, committer, failures = await group_over(store)
        waiting = asyncio.create_task(answered(group, 0, 1))
        await asyncio.sleep(0.01)
        error = JournalStopped("the lease is over")
        committer.stop(error)
        group.stop(error)
        await committer.close()
        with pytest.raises(JournalStopped):
            await waiting
        assert failures == []

    asyncio.run(go())
