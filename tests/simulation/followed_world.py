"""The same life of a few nodes, and somebody who follows all shards meanwhile, for a
read model: one who hangs and dies, too, and goes on where it was.

What it has taken is compared with the replicas in the end: nothing but what counts,
each entry once, in order; and what is missing was dropped before, and is in a state.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from switch.journal.cassandra.all_shards import AllShardsReader, Reached
from switch.journal.cassandra.chains import Moved
from switch.journal.cassandra.publishers import Published
from switch.journal.port import ShardRecord
from switch.ledger import State
from tests.simulation.cassandra import Client
from tests.simulation.journal_auditor import (
    Entry,
    entries_of,
    history_of,
    log_of,
    sums,
)
from tests.simulation.journal_node import EXPECTED, PATIENCE, SHARD_COUNT
from tests.simulation.journal_world import World
from tests.simulation.scripted_loop import ScriptedProcess

ENTRIES_MAX = 3
PAUSE_S = 0.05
# How often it is to end, how often to hang.
DIES, HANGS = 0.5, 0.2
# It may be away for most of the nodes' life, and they drop what it has not read.
AWAY_S_MAX = 1.5
# By then nothing is the last commit for the first time, and all sessions are known.
SETTLED_S = 3.0
END_S = 30.0


class Kept:
    """What is not lost when a process ends: rows, and how far they are."""

    def __init__(self) -> None:
        self.reached: dict[int, Reached] = {}
        self.records: list[ShardRecord] = []
        # By shard: account's balance and held, as a state or entries say.
        self.sums: dict[int, tuple[int, int]] = {}
        self.begun = 0

    def begin_from(self, state: State) -> None:
        shard = state.shard
        before = self.reached.get(shard, Reached())
        assert state.sequence > max(before.sequence, before.base)
        self.reached[shard] = Reached(before.published, state.sequence)
        views = list(state.accounts())
        self.sums[shard] = (
            sum(view.balance for view in views),
            sum(view.held for view in views),
        )
        self.begun += 1

    def take(
        self, records: list[ShardRecord], positions: Mapping[int, Published]
    ) -> None:
        for record in records:
            self._take(record)
        for shard, position in positions.items():
            base = self.reached.get(shard, Reached()).base
            self.reached[shard] = Reached(position, base)

    def _take(self, record: ShardRecord) -> None:
        self.records.append(record)
        base = self.reached.get(record.shard, Reached()).base
        entries = entries_of(record.payload)[max(base + 1 - record.first_sequence, 0) :]
        balance, held = self.sums.get(record.shard, (0, 0))
        more_balance, more_held = moved(entries)
        self.sums[record.shard] = balance + more_balance, held + more_held


def moved(entries: list[Entry]) -> tuple[int, int]:
    balance = held = 0
    for entry in entries:
        if entry.is_transaction:
            balance += entry.number(32)
            held += entry.number(40)
        elif entry.kind == 1:
            balance += entry.number(0)
    return balance, held


class FollowedWorld(World):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        # Of its own: the others' life is what it is without it, but for the weather.
        self.fate = random.Random(seed)
        self.kept = Kept()
        self.complete_at = 0.0

    async def _live(self) -> None:
        self.loop.in_the_world(self._away(), self._follow)
        await super()._live()

    def _follow(self) -> None:
        process = ScriptedProcess(self.loop, "follower")
        process.start(self._follow_on())
        if self.is_ending:
            return
        draw, step = self.fate.random(), self.fate.randint(1, 400)

        def die() -> None:
            self.tell("the follower dies")
            process.die()
            self.loop.in_the_world(self._away(), self._follow)

        if draw < DIES:
            process.at_step[step] = die
        elif draw < DIES + HANGS:
            process.at_step[step] = lambda: process.hang(self._away())

    def _away(self) -> float:
        return self.fate.choice([0.01, self.fate.uniform(0.0, AWAY_S_MAX)])

    async def _follow_on(self) -> None:
        store = Client(self.cassandra)
        while True:
            reader = AllShardsReader(
                store,
                SHARD_COUNT,
                self.kept.reached,
                self.kept.begin_from,
                PATIENCE,
                self.loop.time,
            )
            try:
                await self._read(reader)
            except (*EXPECTED, Moved) as error:
                self.tell(f"the follower begins anew: {error!r}")
            await asyncio.sleep(PAUSE_S)

    async def _read(self, reader: AllShardsReader) -> None:
        while True:
            began_at = self.loop.time()
            reading = await reader.read(ENTRIES_MAX)
            records = [each for commit in reading.commits for each in commit.records]
            self.kept.take(records, reading.positions)
            if not reading.has_more:
                self.complete_at = began_at
                await asyncio.sleep(PAUSE_S)

    async def _end(self) -> None:
        await super()._end()
        ended_at = self.loop.time()
        while self.complete_at < ended_at + SETTLED_S:
            assert self.loop.time() < ended_at + END_S, "it does not catch up"
            await asyncio.sleep(0.1)
        self._compare()

    def _compare(self) -> None:
        logs = {
            session: log_of(self.cassandra, session, row.sealed_at)
            for session, row in self.cassandra.sessions.items()
        }
        for shard in range(SHARD_COUNT):
            history = history_of(self.cassandra, shard, logs)
            reached = self.kept.reached.get(shard, Reached())
            assert max(reached.sequence, reached.base) == len(history)
            last = 0
            for record in self.kept.records:
                if record.shard != shard:
                    continue
                first, entries = record.first_sequence, entries_of(record.payload)
                assert last < first, f"{shard}-{first} came twice, or late"
                assert first - 1 <= max(last, reached.base), f"{shard}-{first}: a gap"
                last = first + len(entries) - 1
                assert history[first - 1 : last] == entries, f"{shard}-{first}"
            _, held = sums(history)
            balance, _ = moved(history)
            assert self.kept.sums.get(shard, (0, 0)) == (balance, held)
