"""The journal on a real Cassandra: one node, and three of which one is killed."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from switch.journal.cassandra import log, retention, schema
from switch.journal.cassandra.acsylla_store import AcsyllaStore, Settings
from switch.journal.cassandra.session import Session, new_session_name
from switch.journal.cassandra.store import PART_BYTES_MAX, Part, Position
from switch.journal.cassandra.writer import SessionWriter
from switch.journal.errors import (
    JournalFenced,
    JournalUnknown,
    JournalVersion,
)
from switch.journal.port import ShardRecord
from switch.ledger import Limits, State, dump
from tests.end_to_end.clustered import run_alone
from tests.servers.cassandra import DATACENTER, Cassandra
from tests.unit.journal.cassandra.build import NOW, SHARD_COUNT, accounts, entry

SHARDS_IN_ALL = 64
_first_shards = itertools.count(0, SHARD_COUNT)


@pytest.fixture
def shards() -> dict[int, int]:
    """Four of them, of each test its own: tables take seconds to be made."""
    first = next(_first_shards)
    return dict.fromkeys(range(first, first + SHARD_COUNT), 0)


@pytest.fixture(scope="module")
def settings(cassandra: Cassandra) -> Settings:
    found = settings_of(cassandra, "journal")

    async def make():
        store = await AcsyllaStore.connect(found)
        try:
            await store.create()
        finally:
            await store.close()

    run_alone(make())
    return found


def settings_of(cassandra: Cassandra, keyspace: str) -> Settings:
    return Settings(cassandra.addresses, keyspace, {DATACENTER: cassandra.replication})


def run(settings: Settings, test) -> None:
    async def go():
        store = await AcsyllaStore.connect(settings)
        try:
            await store.open()
            await test(store)
        finally:
            await store.close()

    run_alone(go())


async def begun(store: AcsyllaStore) -> Session:
    name = new_session_name()
    writer = SessionWriter(store, name, SHARDS_IN_ALL, segment_commits=4)
    session = Session(store, writer, "a node")
    await session.begin()
    return session


async def append(session: Session, *states: State) -> None:
    await session.writer.append(NOW, [entry(state) for state in states])


def test_shards_go_from_session_to_session(settings: Settings, shards: dict[int, int]):
    one, another, *_ = shards

    async def test(store: AcsyllaStore):
        first = await begun(store)
        states = await first.take(shards, Limits())
        for _ in range(6):
            await append(first, *states.values())
        await first.give_up(another)
        await append(first, states[one])
        second = await begun(store)
        moved = await second.take({another: 900}, Limits())
        assert second.epochs[another].id.number == 900
        await append(second, moved[another])
        assert not await store.read_fence(first.name)
        third = await begun(store)
        found = await third.take(shards, Limits())
        lengths = [len(accounts(found[shard])) for shard in shards]
        assert lengths == [7, 7, 6, 6]
        with pytest.raises(JournalFenced):
            await append(first, states[one])
        with pytest.raises(JournalFenced):
            await append(second, moved[another])
        row = await store.read_session(first.name)
        assert row is not None
        assert (row.node, row.sealed_at) == ("a node", 7)

    run(settings, test)


def test_checkpoints_and_dropped_segments(settings: Settings, shards: dict[int, int]):
    one, *_ = shards

    async def test(store: AcsyllaStore):
        first = await begun(store)
        states = await first.take(shards, Limits())
        for _ in range(10):
            await append(first, states[one])
        for shard, state in states.items():
            position = first.writer.released
            await first.checkpoint(shard, state.sequence, position, dump(state))
        await append(first, states[one])
        dropped = await retention.tidy(store, [first.name], list(shards), [], NOW + 1)
        assert dropped == 1
        assert await store.read_parts(first.name, 0, 0, 10) == []
        assert await store.read_mark(first.name, log.FLOOR) == Position(1, 4)
        # A late write of what was dropped, and an older checkpoint, change nothing.
        await store.insert_part(first.name, 0, Part(1, 0, 1, b"late"))
        await store.write_checkpoint(one, 3, b"older")
        second = await begun(store)
        found = await second.take(shards, Limits())
        assert len(accounts(found[one])) == 11

    run(settings, test)


def test_a_large_commit_is_whole_or_not_there(settings: Settings):
    async def test(store: AcsyllaStore):
        name = new_session_name()
        writer = SessionWriter(store, name, SHARDS_IN_ALL)
        writer.admit({0: 0})
        payload = bytes(2 * PART_BYTES_MAX)
        await writer.append(NOW, [ShardRecord(0, 1, 1, payload)])
        (stored,) = await log.read_batch(store, name, Position(0, 0))
        assert len(stored.parts) == 3
        commit, _ = log.decode(name, stored, None)
        assert commit.records[0].payload == payload

    run(settings, test)


def test_what_is_conditional_happens_once(settings: Settings):
    async def test(store: AcsyllaStore):
        await store.create_session("s", "one")
        await store.create_session("s", "another")
        results = await asyncio.gather(
            *[store.seal_session("s", end) for end in range(1, 5)]
        )
        row = await store.read_session("s")
        assert row is not None
        assert row.node == "one"
        assert [end for end in range(1, 5) if results[end - 1]] == [row.sealed_at]
        assert await store.read_session("t") is None
        assert await store.agree("shards", "64") == "64"
        assert await store.agree("shards", "32") == "64"

    run(settings, test)


def test_tables_are_made_once_and_those_of_a_newer_version_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    async def test(store: AcsyllaStore):
        await store.create()
        monkeypatch.setattr(schema, "SCHEMA_VERSION", 0)
        with pytest.raises(JournalVersion, match="expected at most 0, got 1"):
            await store.open()

    run(settings, test)


def test_nobody_there():
    async def go():
        with pytest.raises(JournalUnknown, match="cannot be reached"):
            await AcsyllaStore.connect(
                Settings(["127.0.0.1"], "nowhere", {DATACENTER: 1}, port=1)
            )

    run_alone(go())


def test_with_one_of_three_nodes_killed_nothing_is_lost(
    cassandra_cluster: Cassandra, shards: dict[int, int]
):
    node = cassandra_cluster.nodes[0]

    async def test(store: AcsyllaStore):
        await store.create()
        await store.open()
        first = await begun(store)
        states = await first.take(shards, Limits())
        for number in range(60):
            if number == 20:
                node.kill()
            await append(first, *states.values())
        second = await begun(store)
        found = await second.take(shards, Limits())
        assert all(len(accounts(state)) == 60 for state in found.values())
        with pytest.raises(JournalFenced):
            await append(first, *states.values())

    async def go():
        store = await AcsyllaStore.connect(settings_of(cassandra_cluster, "killed"))
        try:
            await test(store)
        finally:
            await store.close()

    try:
        run_alone(go())
    finally:
        cassandra_cluster.start()
