"""A node that keeps the journal small: what goes by itself, and what stays."""

from __future__ import annotations

import asyncio
from typing import Any

from switch.cluster import retention as module
from switch.cluster.retention import Retention
from switch.cluster.rows import NAME as ROWS
from switch.journal.cassandra import publishers
from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.publishers import Published
from switch.journal.errors import JournalUnknown
from switch.ledger import dump
from switch.ownership.port import OwnershipUnavailable
from tests.simulation.cluster.fakes import MemoryShards, Registry
from tests.simulation.cluster.virtual import run
from tests.unit.journal.cassandra.build import (
    NOW,
    PATIENCE,
    SHARD_COUNT,
    append,
    taken,
)

KEPT_MS = 1000


def retention_of(store, readers=(ROWS,)):
    retention: Any = Retention(
        store,
        SHARD_COUNT,
        kept_ms=KEPT_MS,
        clock=lambda: retention.now,
        readers=readers,
        patience=PATIENCE,
    )
    retention.now = NOW + KEPT_MS + 1
    return retention


async def checkpoint(session, states):
    for shard, state in states.items():
        at = state.sequence, session.writer.released
        if not await session.renew_checkpoint(shard, *at):
            await session.checkpoint(shard, *at, dump(state))


async def mark(store, session, states, name=ROWS):
    """Whoever reads them has all of these shards."""
    for shard, state in states.items():
        epoch, at = session.epochs[shard].id, session.writer.released
        published = Published(
            state.sequence, epoch.number, epoch.session, at.segment, at.number
        )
        await publishers.write_published(store, name, shard, published, PATIENCE)


def segments(store, session="s1"):
    return sorted(segment for name, segment in store.rows if name == session)


def simulate(scenario):
    async def main():
        store = MemoryStore()
        session, states = await taken(store, "s1")
        await append(session, list(states.values()), 10)
        assert segments(store) == [0, 1, 2, 3]
        await scenario(store, session, states)

    run(main())


def test_a_log_shrinks_when_states_are_written_and_rows_have_them():
    async def scenario(store, session, states):
        retention = retention_of(store)
        assert await retention.once(["s1"], "s1") == 0
        await checkpoint(session, states)
        assert await retention.once(["s1"], "s1") == 0
        await mark(store, session, states)
        assert await retention.once(["s1"], "s1") == 2
        assert segments(store) == [2, 3]
        assert (retention.passes, retention.dropped) == (3, 2)

    simulate(scenario)


def test_nothing_goes_before_its_time():
    async def scenario(store, session, states):
        retention = retention_of(store)
        await checkpoint(session, states)
        await mark(store, session, states)
        retention.now = NOW + KEPT_MS
        store.calls.clear()
        assert await retention.once(["s1"], "s1") == 0
        assert "read_checkpoint" not in store.calls, "nobody needs to be asked"

    simulate(scenario)


def test_a_reader_that_nobody_here_knows_keeps_the_log():
    async def scenario(store, session, states):
        await mark(store, session, states, "elsewhere")
        await append(session, list(states.values()), 10)
        await checkpoint(session, states)
        await mark(store, session, states)
        assert await retention_of(store).once(["s1"], "s1") == 3
        await mark(store, session, states, "elsewhere")
        assert await retention_of(store).once(["s1"], "s1") == 2

    simulate(scenario)


def test_a_reader_that_is_forgotten_keeps_nothing_until_it_is_back():
    async def scenario(store, session, states):
        await mark(store, session, states, "elsewhere")
        await append(session, list(states.values()), 10)
        await checkpoint(session, states)
        await mark(store, session, states)
        await publishers.forget(store, "elsewhere", PATIENCE)
        # A node that has it in its configuration keeps the whole log for it.
        knowing = retention_of(store, (ROWS, "elsewhere"))
        assert await knowing.once(["s1"], "s1") == 0
        name = await publishers.current_name(store, "elsewhere", PATIENCE)
        await mark(store, session, {0: states[0]}, name)
        assert await retention_of(store).once(["s1"], "s1") == 0
        await publishers.forget(store, "elsewhere", PATIENCE)
        assert await retention_of(store).once(["s1"], "s1") == 5

    simulate(scenario)


def test_a_quiet_shard_whose_mark_is_old_keeps_nothing():
    async def scenario(store, session, states):
        await mark(store, session, states)
        busy = {0: states[0]}
        await append(session, list(busy.values()), 20)
        await checkpoint(session, states)
        await mark(store, session, busy)
        await retention_of(store).once(["s1"], "s1")
        assert segments(store)[0] == 8
        # The next owner of the others finds that nothing is missing.
        second, _ = await taken(store, "s2")
        rows = await publishers.read_published(store, ROWS, 1, PATIENCE)
        assert rows is not None
        assert rows.sequence == states[1].sequence
        await checkpoint(second, states)
        assert await retention_of(store).once(["s2"], "s2") > 0
        assert segments(store) == []

    simulate(scenario)


def test_a_session_that_nobody_has_is_ended_at_the_second_look():
    async def scenario(store, session, states):
        for shard in states:
            await session.give_up(shard)
        second, found = await taken(store, "s2")
        await checkpoint(second, found)
        await mark(store, second, found)
        retention = retention_of(store)
        await retention.once(["s1", "s2"], "s2")
        await retention.once(["s2"], "s2")
        assert store.fences == {}
        await retention.once(["s2"], "s2")
        assert set(store.fences) == {"s1"}
        await retention.once(["s2"], "s2")
        assert segments(store) == []
        assert "s2" not in store.fences
        store.calls.clear()
        await retention.once(["s2"], "s2")
        assert store.calls.count("read_session") == 1, "s1 is looked at no more"

    simulate(scenario)


def test_many_sessions_are_looked_at_in_turn(monkeypatch):
    monkeypatch.setattr(module, "SESSIONS_AT_ONCE_MAX", 3)
    retention = retention_of(None)
    names = ["a", "b", "c", "d", "e", "f", "g"]
    assert [retention._some(names) for _ in range(3)] == [
        ["a", "b", "c"], ["d", "e", "f"], ["g", "a", "b"],
    ]  # fmt: skip
    retention._gone |= {"c", "d", "e", "f"}
    assert retention._some(names) == ["g", "a", "b"]


def test_of_many_sessions_those_that_nobody_has_are_ended_all_the_same(monkeypatch):
    monkeypatch.setattr(module, "SESSIONS_AT_ONCE_MAX", 2)

    async def scenario(store, session, states):
        dead = [f"d{number}" for number in range(5)]
        for name in dead:
            await store.create_session(name, "node")
        retention = retention_of(store)
        for _ in range(9):
            await retention.once(["s1"], "s1")
        assert sorted(store.fences) == dead
        assert retention._gone == set(dead)

    simulate(scenario)


def test_one_node_does_it_until_its_session_is_over():
    async def scenario(store, session, states):
        registry = Registry()
        both = []
        for name in ("a", "b"):
            retention = retention_of(store)
            ownership = MemoryShards(registry, name, f"{name}1")
            task = asyncio.create_task(retention.run(ownership, f"{name}1"))
            both.append((retention, task))
        (first, task), (second, other) = both
        await asyncio.sleep(3 * module.PASS_S)
        assert first.passes > 1
        assert second.passes == 0
        task.cancel()
        await asyncio.sleep(2 * module.PASS_S)
        assert second.passes > 0
        other.cancel()

    simulate(scenario)


def test_what_fails_is_tried_again():
    async def scenario(store, session, states):
        ownership: Any = MemoryShards(Registry(), "a", "s1")
        lock, fails = ownership.lock, ["lock", "list"]

        def fails_once(name):
            if fails.pop(0) == "lock":
                ownership.lock = lock
                raise OwnershipUnavailable("scripted")
            raise AssertionError

        listed = store.list_sessions

        async def lists():
            if fails:
                store.list_sessions = listed
                raise JournalUnknown("scripted")
            return await listed()

        ownership.lock, store.list_sessions = fails_once, lists
        retention = retention_of(store)
        task = asyncio.create_task(retention.run(ownership, "s1"))
        await asyncio.sleep(4 * module.PASS_S)
        assert retention.passes >= 2
        task.cancel()

    simulate(scenario)
