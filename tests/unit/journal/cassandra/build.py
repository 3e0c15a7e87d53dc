"""Sessions over a store in memory, and shards with a few entries."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.retrying import Patience
from switch.journal.cassandra.session import Session
from switch.journal.cassandra.writer import SessionWriter
from switch.journal.port import ShardRecord
from switch.ledger import Limits, State, apply, open_account
from tests.simulation.scripted_loop import ScriptedLoop

SHARD_COUNT = 4
PATIENCE = Patience(seconds_max=0.02, pause_first_s=0.001, pause_max_s=0.001)
NOW = 1_764_000_000_000
ALL = dict.fromkeys(range(SHARD_COUNT), 0)


def run_scripted(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Its result; time passes when nothing else does."""
    loop = ScriptedLoop((Exception,))  # type: ignore[abstract]
    return loop.run(coroutine)


def writer_of(
    store: MemoryStore, name: str = "s1", segment_commits: int = 3
) -> SessionWriter:
    return SessionWriter(
        store, name, SHARD_COUNT, patience=PATIENCE, segment_commits=segment_commits
    )


async def begun(store: MemoryStore, name: str = "s1") -> Session:
    session = Session(store, writer_of(store, name), f"node of {name}", PATIENCE)
    await session.begin()
    return session


def entry(state: State) -> ShardRecord:
    """One more account, applied and packed."""
    sequence = state.sequence + 1
    opened = open_account(
        state, f"account-{sequence}", 826, 100, 0, operator="", reason="", now=NOW
    )
    apply(state, opened)
    return ShardRecord(state.shard, sequence, 1, opened.encode())


async def append(session: Session, states: Sequence[State], count: int = 1) -> int:
    """Commits with an entry of each of the states; the last one's number."""
    number = 0
    for _ in range(count):
        number = await session.writer.append(NOW, [entry(state) for state in states])
        await asyncio.sleep(0)  # for the mark
    return number


async def taken(
    store: MemoryStore, name: str, shards: dict[int, int] = ALL
) -> tuple[Session, dict[int, State]]:
    session = await begun(store, name)
    return session, await session.take(shards, Limits())


def accounts(state: State) -> list[str]:
    return [view.account for view in state.accounts()]
