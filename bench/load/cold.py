"""The cold path, for `scripts/bench cluster`: a message for a shard that nobody has.

Its key is created in etcd while Cassandra is read; its epoch is opened; the message's
commit is appended and the fence read. Each of these is timed by itself, and then all of
it, with the classes that a node has, in a process with nothing else to do.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable
from typing import Any, TypeVar

import uvloop

from switch.cluster import taking
from switch.journal.cassandra import recovery
from switch.journal.cassandra.acsylla_store import AcsyllaStore, Settings
from switch.journal.cassandra.chains import chain_of
from switch.journal.cassandra.node_session import CassandraSession
from switch.journal.cassandra.session import new_session_name
from switch.journal.cassandra.store import LogStore
from switch.journal.port import ShardRecord
from switch.ledger import Limits, State, apply, dump, open_account
from switch.ownership.etcd.client import EtcdClient
from switch.ownership.etcd.client import Settings as EtcdSettings
from switch.ownership.etcd.membership import EtcdOwnership
from switch.ownership.port import Member
from tests.servers.cassandra import DATACENTER

T = TypeVar("T")

# Of a shard, behind its checkpoint and before.
ENTRIES = 50
LEASE_S = 10
# Until all that is read beside is there.
READ_SECONDS_MAX = 0.3
EURO = 978


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contact-points", nargs="+", required=True)
    parser.add_argument("--endpoints", nargs="+", required=True)
    parser.add_argument("--keyspace", required=True)
    parser.add_argument("--copies", type=int, required=True)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    return parser.parse_args()


class Cold:
    """Shard 0 stays; the others come and go."""

    def __init__(
        self,
        store: LogStore,
        ownership: EtcdOwnership,
        journal: CassandraSession,
        shards: int,
    ) -> None:
        self._store = store
        self._ownership = ownership
        self._journal = journal
        self._shards = range(1, shards)
        self._limits = Limits()
        self._kept: State
        self.times: dict[str, list[float]] = {}

    async def begin(self) -> None:
        await self._journal.begin()
        await self._ownership.join()
        self._kept = await self._take(0)
        await self._append(self._kept)
        for shard in self._shards:
            state = await self._take(shard)
            for _ in range(ENTRIES):
                await self._append(state)
            await self._journal.checkpoint(
                shard, state.sequence, self._journal.position, dump(state)
            )
            for _ in range(ENTRIES):
                await self._append(state)
            await self._give_up(shard)

    async def go_through(self) -> None:
        for shard in self._shards:
            await self._timed("lock", self._ownership.acquire(shard))
            await self._ownership.release(shard)
            await self._timed("read", self._read(shard))
            await self._timed("append", self._append(self._kept))
            await self._timed("cold", self._come(shard))
            await self._give_up(shard)
            # And the epoch alone, everything else being there.
            grant = await self._ownership.acquire(shard)
            await self._journal.read_ahead([shard], self._limits)
            await asyncio.sleep(READ_SECONDS_MAX)
            at_least = {shard: grant.create_revision}
            await self._timed("epoch", self._journal.take(at_least, self._limits))
            await self._give_up(shard)

    async def _timed(self, what: str, work: Awaitable[T]) -> T:
        began_at = time.perf_counter()
        found = await work
        taken_ms = (time.perf_counter() - began_at) * 1000
        self.times.setdefault(what, []).append(taken_ms)
        return found

    async def _read(self, shard: int) -> None:
        """One thing after the other."""
        found = await self._store.read_epochs(shard)
        chain = await chain_of(shard, found.epochs, found.current, self._no_end)
        await recovery.recover(self._store, [chain], self._limits)

    @staticmethod
    async def _no_end(session: str) -> int:
        raise AssertionError(f"{session} gave nothing up")

    async def _come(self, shard: int) -> None:
        await self._append(await self._take(shard))

    async def _take(self, shard: int) -> State:
        taken = await taking.take(self._ownership, self._journal, [shard], self._limits)
        state = taken[shard]
        assert state is not None
        return state

    async def _give_up(self, shard: int) -> None:
        await self._journal.give_up(shard)
        await self._ownership.release(shard)

    async def _append(self, state: State) -> None:
        """And the fence is read."""
        now = time.time_ns() // 1_000_000
        number = state.sequence + 1
        entry = open_account(
            state, f"cold-{number}", EURO, 0, 0, operator="", reason="", now=now
        )
        apply(state, entry)
        record = ShardRecord(state.shard, number, 1, entry.encode())
        await self._journal.append(now, [record])


async def run(options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(
        options.contact_points, options.keyspace, {DATACENTER: options.copies}
    )
    store = await AcsyllaStore.connect(settings)
    await store.create()
    await store.open()
    etcd = EtcdClient(EtcdSettings(tuple(options.endpoints)))
    name = new_session_name()
    ownership = EtcdOwnership(
        etcd,
        f"cold-{uuid.uuid4().hex[:8]}",
        Member("cold", name, "127.0.0.1:1"),
        ttl_s=LEASE_S,
    )
    journal = CassandraSession(store, name, "cold", options.shards)
    try:
        cold = Cold(store, ownership, journal, options.shards)
        await cold.begin()
        for _ in range(options.rounds):
            await cold.go_through()
        await ownership.leave()
    finally:
        await etcd.close()
        await store.close()
    return {f"{what}_ms": statistics.median(ms) for what, ms in cold.times.items()}


if __name__ == "__main__":
    json.dump(uvloop.run(run(arguments())), sys.stdout)
