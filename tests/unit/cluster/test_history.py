"""The whole journal along chains of epochs: each entry once, nothing beyond ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from switch import cluster_audit
from switch.audit import Audit
from switch.cluster import history
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.retention import tidy
from switch.ledger import Limits, dump
from tests.unit.journal.cassandra.build import (
    SHARD_COUNT,
    append,
    entry,
    taken,
    writer_of,
)


async def sequences(store):
    found: dict[int, list[int]] = {shard: [] for shard in range(SHARD_COUNT)}
    chains = await history.chains(store, SHARD_COUNT)
    async for commit in history.commits(store, chains):
        for record in commit.records:
            first = record.first_sequence
            found[record.shard] += range(first, first + record.count)
    return found


def test_shards_are_followed_from_log_to_log():
    async def scenario():
        store = MemoryStore()
        one, states = await taken(store, "s1")
        await append(one, list(states.values()), 5)
        await one.give_up(1)
        two, moved = await taken(store, "s2", {1: 0})
        await append(two, [moved[1]], 4)
        await two.give_up(1)
        # Back again: two spans in one log.
        back = await one.take({1: 0}, Limits())
        await append(one, [back[1], states[2]], 2)
        three, rest = await taken(store, "s3", {0: 0})
        await append(three, [rest[0]])
        assert await sequences(store) == {
            0: list(range(1, 7)),
            1: list(range(1, 12)),
            2: list(range(1, 8)),
            3: list(range(1, 6)),
        }

    asyncio.run(scenario())


def test_what_a_session_wrote_beyond_its_end_is_not_there():
    async def scenario():
        store = MemoryStore()
        one, states = await taken(store, "s1")
        await append(one, list(states.values()))
        late = entry(states[0])
        await taken(store, "s2")
        # It was fenced meanwhile, and does not know it yet.
        writer = writer_of(store, "s1")
        writer.issued = writer.released = one.writer.released
        writer.admit({0: 1})
        store.fences.clear()
        await writer.append(0, [late])
        assert (await sequences(store))[0] == [1]

    asyncio.run(scenario())


def test_nobody_is_fenced_for_it():
    async def scenario():
        store = MemoryStore()
        one, states = await taken(store, "s1")
        await append(one, list(states.values()), 2)
        assert await history.session_end(store, "s1") == 2
        await sequences(store)
        assert store.fences == {}
        await append(one, list(states.values()))

    asyncio.run(scenario())


def test_it_adds_up():
    async def scenario():
        store = MemoryStore()
        one, states = await taken(store, "s1")
        await append(one, list(states.values()), 3)
        two, states = await taken(store, "s2")
        await append(two, list(states.values()), 3)
        audit = Audit()
        audit.begin(SHARD_COUNT)
        chains = await history.chains(store, SHARD_COUNT)
        async for commit in history.commits(store, chains):
            audit.take(commit)
        assert audit.entries == 6 * SHARD_COUNT

    asyncio.run(scenario())


def test_what_was_dropped_is_taken_from_checkpoints():
    async def scenario():
        store = MemoryStore()
        one, states = await taken(store, "s1")
        await append(one, [states[0]], 10)
        for shard, state in states.items():
            data = dump(state)
            await one.checkpoint(shard, state.sequence, one.writer.released, data)
        await append(one, [states[0]], 4)
        assert (await tidy(store, ["s1"], range(SHARD_COUNT), [], 2**62)).dropped
        cluster: Any = SimpleNamespace(store=store, shard_count=SHARD_COUNT)
        audit = Audit()
        chains = await history.chains(store, SHARD_COUNT)
        await cluster_audit._read(cluster, audit, chains, lambda done, words: None)
        verdict = audit.verdict()
        assert [p for p in verdict.problems if "expected in shard" not in p] == []
        assert (verdict.entries, verdict.taken_over) == (4, 10)
        assert verdict.accounts == 14

    asyncio.run(scenario())
