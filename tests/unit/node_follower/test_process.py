"""The process that keeps a cluster's rows: whatever becomes of it, and of Cassandra."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import apsw
import pytest

from switch.journal.cassandra import all_shards
from switch.journal.cassandra.chains import Moved
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.publishers import Published
from switch.journal.cassandra.retention import tidy
from switch.journal.cassandra.session import Session
from switch.journal.memory import MemoryJournal
from switch.ledger import Limits, dump
from switch.node_follower import process
from switch.node_follower.process import NodeFollower
from switch.projection.cluster import ClusterReadModel
from tests.unit.journal.cassandra.build import PATIENCE, begun
from tests.unit.projection.test_readmodel import Rows, projected, rows
from tests.unit.small_bank import (
    FINANCIAL,
    JOINT,
    NOW,
    PANS,
    SHARD_COUNT,
    SmallBank,
    ask_everything,
    opened_bank,
)

IDENTITY = bytes(16)
# Without the number of a commit, which is another one in each log.
COLUMNS = {
    "accounts": "*",
    "cards": "*",
    "transactions": "place, at, kind, account, token, amount, balance_change, "
    "held_change, response_code, rrn, operator, reason",
}


class KilledError(BaseException):
    pass


class Cluster:
    """A bank whose entries are in logs of a store, and, beside, in one journal."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.bank = opened_bank()
        self.journal = MemoryJournal(SHARD_COUNT)
        self.names = map("s{}".format, itertools.count(1))
        self.session: Session

    async def take_over(self) -> None:
        self.session = await begun(self.store, next(self.names))
        await self.session.take(dict.fromkeys(range(SHARD_COUNT), 0), Limits())

    async def commit(self) -> None:
        records = self.bank.records()
        self.journal.append(NOW, records)
        await self.session.writer.append(NOW, records)
        await asyncio.sleep(0)  # for the mark

    async def live(self) -> None:
        """Every kind of entry, in the logs of two sessions."""
        await self.take_over()
        await self.commit()
        for amount in (10, 20, 30):
            self.bank.ask(FINANCIAL, amount=amount)
            self.bank.ask(amount=amount, account=JOINT, pan=PANS[1])
            await self.commit()
        await self.take_over()
        ask_everything(self.bank)
        await self.commit()
        self.bank.ask(amount=1)
        await self.commit()

    async def checkpoint(self) -> None:
        for state in self.bank.states:
            at = self.session.writer.released
            await self.session.checkpoint(state.shard, state.sequence, at, dump(state))

    async def drop(self) -> int:
        sessions = await self.store.list_sessions()
        shards = range(SHARD_COUNT)
        done = await tidy(self.store, sessions, shards, [], NOW + 1, PATIENCE)
        return done.dropped


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_shards, "LOOK_SECONDS", 0.0)


def follower_of(cluster: Cluster, folder: Path) -> NodeFollower:
    ticks = itertools.count(1)
    return NodeFollower(
        cluster.store,
        folder / "readmodel.db",
        IDENTITY,
        SHARD_COUNT,
        PATIENCE,
        lambda: float(next(ticks)),
    )


async def until_complete(follower: NodeFollower, bank: SmallBank) -> None:
    wanted = sum(state.sequence for state in bank.states)
    for _ in range(50):
        await follower.step()
        assert follower.status.fault is None
        if follower.status.entries == wanted:
            return
    raise AssertionError(follower.status)


def found(folder: Path) -> dict[str, Rows]:
    return {table: rows(folder, table, each) for table, each in COLUMNS.items()}


def expected(cluster: Cluster, folder: Path) -> dict[str, Rows]:
    """What a switch alone would have of the same entries."""
    projected(folder / "alone", cluster.journal)
    return found(folder / "alone")


def test_the_rows_are_those_of_a_switch_alone(cluster, tmp_path):
    async def test():
        await cluster.live()
        follower = follower_of(cluster, tmp_path)
        await until_complete(follower, cluster.bank)
        follower.close()

    asyncio.run(test())
    assert found(tmp_path) == expected(cluster, tmp_path)


class DyingStore:
    """A call of it is the last that the process makes."""

    def __init__(self, store: MemoryStore, calls: int) -> None:
        self._store = store
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        async def die_or_do(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                raise KilledError
            return await call(*arguments)

        return die_or_do


@pytest.mark.parametrize("what", ["calls", "statements"])
@pytest.mark.parametrize("dropped", [False, True])
def test_killed_anywhere_it_counts_each_entry_once(cluster, tmp_path, dropped, what):
    """At each call of Cassandra, or in each statement of SQLite; it is the next process
    that goes on."""
    killed = []

    async def test():
        await cluster.live()
        if dropped:
            await cluster.checkpoint()
            assert await cluster.drop()
            cluster.bank.ask(amount=2)
            await cluster.commit()
        for number in itertools.count(1):
            folder = tmp_path / str(number)
            folder.mkdir()
            if not await is_killed(folder, number):
                break
            follower = follower_of(cluster, folder)
            for _ in range(6):
                await follower.step()
            assert follower.status.fault is None
            follower.close()
            killed.append(found(folder))

    async def is_killed(folder, number):
        store = cluster.store
        if what == "calls":
            cluster.store = DyingStore(store, number)
        follower = follower_of(cluster, folder)
        cluster.store = store
        model = ClusterReadModel(folder / "readmodel.db", identity=IDENTITY)
        follower._model = model
        statements = iter(range(number - 1 if what == "statements" else 1 << 30))
        model._connection.exec_trace = lambda *_: goes_on(next(statements, None))
        try:
            for _ in range(6):
                await follower.step()
        except KilledError:
            return True
        finally:
            # As the system does when a process ends.
            model._connection.exec_trace = None
            model._connection.close()
        return False

    def goes_on(left: int | None) -> bool:
        if left is None:
            raise KilledError
        return True

    asyncio.run(test())
    assert len(killed) > 20
    alone = expected(cluster, tmp_path)
    for now in killed:
        assert now == killed[0]
    if not dropped:
        assert killed[0] == alone
        return
    # What was dropped is not there; what it did is.
    there = killed[0]["transactions"]
    assert there == [row for row in alone["transactions"] if row in there]
    assert 0 < len(there) < len(alone["transactions"])
    assert without_times(killed[0]) == without_times(alone)


def without_times(tables: dict[str, Rows]) -> dict[str, Rows]:
    """When an account was opened, a state does not say; it is the last column."""
    return {name: [row[:-1] for row in tables[name]] for name in ("accounts", "cards")}


def test_what_is_dropped_meanwhile_is_said_once(cluster, tmp_path, caplog):
    async def test():
        await cluster.live()
        follower = follower_of(cluster, tmp_path)
        await until_complete(follower, cluster.bank)
        for _ in range(12):
            cluster.bank.ask(amount=1)
            await cluster.commit()
        await cluster.checkpoint()
        assert await cluster.drop()
        for _ in range(6):
            await follower.step()
        assert follower.status.fault is None
        follower.close()

    asyncio.run(test())
    said = "goes on from checkpoints"
    (line,) = [each for each in caplog.records if said in each.getMessage()]
    assert vars(line)["switch_fields"]["shards"] == 1
    alone = without_times(expected(cluster, tmp_path))
    assert without_times(found(tmp_path)) == alone


def test_while_cassandra_is_away_it_waits_longer_each_time(cluster, tmp_path):
    async def test():
        await cluster.live()
        follower = follower_of(cluster, tmp_path)
        cluster.store.faults["list_sessions"] = [False] * 1000
        waits = [await follower.step() for _ in range(3)]
        assert waits == [0.5, 1.0, 2.0]
        assert "JournalUnknown" in (follower.status.fault or "")
        cluster.store.faults.clear()
        await until_complete(follower, cluster.bank)
        follower.close()

    asyncio.run(test())
    assert found(tmp_path) == expected(cluster, tmp_path)


def test_rows_of_another_log_are_made_again(cluster, tmp_path, caplog):
    async def test():
        await cluster.live()
        follower = follower_of(cluster, tmp_path)
        await until_complete(follower, cluster.bank)
        assert follower._model is not None
        elsewhere = {0: Published(3, 9, "elsewhere", 0, 1)}
        follower._model.take_shards([], elsewhere)
        follower.close()
        await follower.step()
        assert "thrown away" in caplog.text
        await until_complete(follower, cluster.bank)
        follower.close()

    asyncio.run(test())
    assert found(tmp_path) == expected(cluster, tmp_path)


def test_it_says_since_when_it_has_all(cluster, tmp_path):
    async def test():
        await cluster.live()
        follower = follower_of(cluster, tmp_path)
        assert follower.status.complete_at == 0
        await until_complete(follower, cluster.bank)
        await follower.step()
        before = follower.status.complete_at
        assert before > 0
        await follower.step()
        assert follower.status.complete_at > before
        cluster.bank.ask(amount=1)
        await cluster.commit()
        # It is the last one, of a session that was fenced: not known to count.
        await cluster.store.write_fence(cluster.session.name, "another")
        await follower.step()
        await follower.step()
        seen_at = follower.status.complete_at
        await follower.step()
        assert follower.status.complete_at == seen_at
        follower.close()

    asyncio.run(test())


def test_indices_are_made_when_it_has_all(cluster, tmp_path):
    async def test():
        await cluster.live()
        follower = follower_of(cluster, tmp_path)
        for _ in range(20):
            await follower.step()
        follower.close()

    asyncio.run(test())
    connection = apsw.Connection(str(tmp_path / "readmodel.db"))
    names = {
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        )
    }
    connection.close()
    assert "transactions_rrn" in names


def test_shards_that_never_stay_are_a_fault(cluster, tmp_path, monkeypatch):
    async def moves(*_):
        raise Moved

    monkeypatch.setattr(all_shards.AllShardsReader, "read", moves)

    async def test():
        follower = follower_of(cluster, tmp_path)
        faults = []
        for _ in range(process.MOVES_MAX):
            await follower.step()
            faults.append(follower.status.fault)
        assert faults[:-1] == [None] * (process.MOVES_MAX - 1)
        assert faults[-1] == "expected shards that stay, got ones that move"

    asyncio.run(test())
