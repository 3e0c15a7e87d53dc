"""Rows of accounts: what was told is in them, sooner or later, and nothing else."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from switch.cluster import rows as rows_module
from switch.cluster.rows import AccountRows
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.node_session import CassandraSession
from switch.journal.cassandra.retention import tidy
from switch.journal.cassandra.retrying import Patience
from switch.journal.errors import JournalUnknown
from switch.ledger import Limits, dump
from tests.simulation.cluster.virtual import run as run_virtually
from tests.simulation.cluster.virtual import until
from tests.unit.journal.cassandra.build import NOW, PATIENCE, SHARD_COUNT, entry


class Rows:
    """What Cassandra keeps: of two rows the one with the greater sequence."""

    def __init__(self):
        self.by_name = {}
        self.fails = 0
        self.writes = 0

    async def write_accounts(self, rows):
        if self.fails:
            self.fails -= 1
            raise JournalUnknown("scripted")
        assert 0 < len(rows) <= rows_module.BATCH_ROWS_MAX
        for row in rows:
            self.writes += 1
            key = row.shard, row.account
            former = self.by_name.get(key)
            if former is None or row.sequence >= former.sequence:
                self.by_name[key] = row

    def count(self, shard):
        return sum(key[0] == shard for key in self.by_name)


class At:
    """A session, its shards, and what follows it."""

    def __init__(self, store, rows, name):
        self.store = store
        self.journal = CassandraSession(store, name, "node", SHARD_COUNT, PATIENCE)
        self.follower = AccountRows(
            rows, self.journal, self._all_told, Patience(seconds_max=0.0)
        )
        self.states = {}
        self.asked = 0

    async def _all_told(self):
        self.asked += 1

    async def take(self, *shards):
        taken = await self.journal.take(dict.fromkeys(shards, 0), Limits())
        self.states |= taken
        for state in taken.values():
            self.follower.opened(state)

    async def append(self, *shards):
        records = [entry(self.states[shard]) for shard in shards]
        await self.journal.append(NOW, records)
        self.follower.told(records)

    async def give_up(self, shard):
        self.follower.closed(shard)
        await self.journal.give_up(shard)


def run(scenario):
    async def main():
        store, rows = MemoryStore(), Rows()

        async def begun(name):
            at = At(store, rows, name)
            await at.journal.begin()
            return at

        await scenario(rows, begun)

    asyncio.run(main())


def test_what_was_told_is_written_once():
    async def scenario(rows, begun):
        at = await begun("s1")
        await at.take(0, 1)
        await at.append(0, 1)
        await at.append(0)
        await at.follower.write()
        assert (rows.count(0), rows.count(1)) == (2, 1)
        assert {row.sequence for row in rows.by_name.values()} == {1, 2}
        await at.follower.write()
        assert rows.writes == 3
        assert at.asked == 1

    run(scenario)


def test_the_next_owner_writes_what_the_former_one_did_not_and_no_more():
    async def scenario(rows, begun):
        one = await begun("s1")
        await one.take(0, 1)
        await one.append(0, 1)
        await one.follower.write()
        await one.append(0)
        await one.append(0)
        two = await begun("s2")
        await two.take(0, 1)
        assert rows.writes == 2
        await two.follower.write()
        assert (rows.count(0), rows.count(1)) == (3, 1)
        assert rows.writes == 4
        three = await begun("s3")
        await three.take(0)
        await three.follower.write()
        assert rows.writes == 4

    run(scenario)


def test_without_a_mark_all_of_a_shard_is_written():
    async def scenario(rows, begun):
        one = await begun("s1")
        await one.take(0)
        for _ in range(5):
            await one.append(0)
        two = await begun("s2")
        await two.take(0)
        await two.follower.write()
        assert rows.count(0) == 5

    run(scenario)


def test_a_part_at_a_time_and_no_mark_before_all_is_there(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(rows_module, "ROWS_AT_ONCE_MAX", 2)

    async def scenario(rows, begun):
        one = await begun("s1")
        await one.take(0)
        for _ in range(5):
            await one.append(0)
        await one.follower.write()
        assert rows.count(0) == 2
        two = await begun("s2")
        await two.take(0)
        for _ in range(3):
            await two.follower.write()
        assert rows.count(0) == 5

    run(scenario)


def test_what_could_not_be_written_is_written_later():
    async def scenario(rows, begun):
        at = await begun("s1")
        await at.take(0)
        await at.append(0)
        rows.fails = 1
        with pytest.raises(JournalUnknown):
            await at.follower.write()
        await at.follower.write()
        assert rows.count(0) == 1

    run(scenario)


def test_more_than_is_remembered_is_written_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows_module, "RECORDS_MAX", 2)

    async def scenario(rows, begun):
        at = await begun("s1")
        await at.take(0)
        await at.follower.write()
        for _ in range(5):
            await at.append(0)
        await at.follower.write()
        assert rows.count(0) == 5

    run(scenario)


def test_a_shard_that_goes_and_comes_back():
    async def scenario(rows, begun):
        one = await begun("s1")
        await one.take(0, 1)
        await one.append(0, 1)
        await one.give_up(0)
        await one.follower.write()
        assert (rows.count(0), rows.count(1)) == (0, 1)
        await one.take(0)
        await one.append(0)
        await one.follower.write()
        assert rows.count(0) == 2

    run(scenario)


def test_what_is_behind_is_told():
    async def scenario(rows, begun):
        at = await begun("s1")
        await at.take(0, 1)
        await at.append(0, 1)
        await at.append(0)

        def told():
            return {each.name: each.value for each in at.follower.samples()}

        assert told()["rows_lag_entries"] == 3
        await asyncio.sleep(0.02)
        assert told()["rows_lag_seconds"] > 0
        await at.follower.write()
        assert told() == {
            "rows_written": 3, "rows_lag_entries": 0, "rows_lag_seconds": 0,
        }  # fmt: skip

    run(scenario)


def test_rows_of_a_quiet_shard_need_nothing_that_was_dropped(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(rows_module, "MARK_S", 0.0)

    async def scenario(rows, begun):
        one = await begun("s1")
        one.journal.writer._segment_commits = 3
        await one.take(0, 1)
        await one.append(1)
        await one.follower.write()
        for _ in range(12):
            await one.append(0)
            await asyncio.sleep(0)
        await one.follower.write()
        for shard, state in one.states.items():
            at = state.sequence, one.journal.position
            await one.journal.checkpoint(shard, *at, dump(state))
        found = await tidy(
            one.store, ["s1"], [0, 1], [rows_module.NAME], 2**62, PATIENCE
        )
        assert found.dropped >= 3
        two = await begun("s2")
        await two.take(1)
        assert await two.journal.unmarked(rows_module.NAME, 1) == []

    run(scenario)


def test_many_are_written_in_pieces_and_what_failed_goes_on_where_it_was():
    async def scenario(rows, begun):
        at = await begun("s1")
        await at.take(0)
        for _ in range(25):
            await at.append(0)
        write, asked = rows.write_accounts, []

        async def fails_once(some):
            asked.append(len(some))
            rows.fails = len(asked) == 2
            await write(some)

        rows.write_accounts = fails_once
        with pytest.raises(JournalUnknown):
            await at.follower.write()
        assert rows.count(0) == 10
        await at.follower.write()
        assert (rows.count(0), rows.writes) == (25, 25)
        assert asked == [10, 10, 10, 5]

    run(scenario)


def pauses(monkeypatch: pytest.MonkeyPatch, takes_s: float) -> list[float]:
    """Between writes that take so long."""
    found: list[float] = []

    async def scenario():
        store, rows = MemoryStore(), Rows()
        at = At(store, rows, "s1")
        await at.journal.begin()
        await at.take(0)
        began: list[float] = []
        loop = asyncio.get_running_loop()

        async def slow():
            began.append(loop.time())
            await asyncio.sleep(takes_s)

        monkeypatch.setattr(at.follower, "write", slow)
        task = asyncio.create_task(at.follower.run())
        await until(lambda: len(began) == 3, 300.0)
        task.cancel()
        found.extend(b - a - takes_s for a, b in itertools.pairwise(began))

    run_virtually(scenario())
    return found


def test_it_rests_longer_than_it_writes(monkeypatch: pytest.MonkeyPatch):
    expected = pytest.approx(0.2 * rows_module.RESTS)
    assert pauses(monkeypatch, 0.2) == [expected] * 2


def test_after_waiting_for_cassandra_it_goes_on_soon(monkeypatch: pytest.MonkeyPatch):
    expected = pytest.approx(rows_module.REST_S_MAX)
    assert pauses(monkeypatch, 60.0) == [expected] * 2
