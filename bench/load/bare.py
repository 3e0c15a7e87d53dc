"""What Cassandra can do by itself, for `scripts/bench cluster`: the same driver, and no
switch. A process of its own, whose CPU is its own.

    raw       an INSERT at a quorum for each authorisation, so many outstanding
    appends   the commits of a node's log, written again under other names: each is
              inserted, then a fence is read, then the next one
    alone     one INSERT, then one SELECT, and nothing else
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import acsylla
import uvloop

from switch.journal.cassandra import log
from switch.journal.cassandra.acsylla_store import AcsyllaStore, Settings
from switch.journal.cassandra.retrying import PATIENCE
from switch.journal.cassandra.statements import PLAIN
from switch.journal.cassandra.store import SEGMENT_COMMITS_MAX
from tests.servers.cassandra import DATACENTER

CONNECT_SECONDS_MAX = 10.0
# Far beyond any answer: one that takes so long makes the figures worthless.
REQUEST_SECONDS_MAX = 30.0
COMMITS_MAX = 2000
CREATE_RAW = "CREATE TABLE IF NOT EXISTS bench_raw (id text PRIMARY KEY, data blob)"
INSERT_RAW = "INSERT INTO bench_raw (id, data) VALUES (?, ?)"
# Of a commit: its record, and how many entries are in it.
Commits = Sequence[tuple[bytes, int]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["raw", "appends", "alone"])
    parser.add_argument("--contact-points", nargs="+", required=True)
    parser.add_argument("--keyspace", required=True)
    parser.add_argument("--copies", type=int, required=True)
    parser.add_argument("--session", required=True, help="whose log is looked at")
    parser.add_argument("--after", type=int, default=0, help="of its commits")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--outstanding", type=int, default=1)
    parser.add_argument("--loops", type=int, default=1, help="of appends, at once")
    return parser.parse_args()


async def commits_of(options: argparse.Namespace) -> Commits:
    """The newest ones of the log behind that commit, which are those of the drive that
    has just ended."""
    settings = Settings(
        options.contact_points, options.keyspace, {DATACENTER: options.copies}
    )
    store = await AcsyllaStore.connect(settings)
    await store.open()
    position = await log.start_of(store, options.session, PATIENCE)
    found: list[tuple[bytes, int]] = []
    while batch := await log.read_batch(store, options.session, position):
        position = batch[-1].position
        for stored in batch:
            if stored.position.number > options.after:
                commit, _ = log.decode(options.session, stored, None)
                count = sum(record.count for record in commit.records)
                found.append((stored.data, count))
    await store.close()
    if not found:
        raise SystemExit("expected commits of the drive in the log, found none")
    return found[-COMMITS_MAX:]


class Bare:
    def __init__(self, session: Any, commits: Commits, seconds: float) -> None:
        self._session = session
        self._commits = commits
        self._seconds = seconds
        self._entry = bytes(
            sum(len(data) for data, _ in commits) // sum(count for _, count in commits)
        )
        self._prepared: dict[str, Any] = {}
        self._run = uuid.uuid4().hex

    async def prepare(self) -> None:
        await self._session.execute(
            acsylla.create_statement(CREATE_RAW, timeout=REQUEST_SECONDS_MAX)
        )
        for name, text in (("insert_raw", INSERT_RAW), *PLAIN.items()):
            if name in ("insert_raw", "insert_part", "read_fence"):
                self._prepared[name] = await self._session.create_prepared(text)

    async def _do(self, name: str, *values: Any) -> None:
        statement = self._prepared[name].bind()
        statement.bind_list(list(values))
        statement.set_is_idempotent(True)
        await self._session.execute(statement)

    async def raw(self, outstanding: int) -> dict[str, float]:
        numbers = itertools.count()

        async def work(ends_at: float) -> int:
            done = 0
            while time.perf_counter() < ends_at:
                await self._do(
                    "insert_raw", f"{self._run}-{next(numbers)}", self._entry
                )
                done += 1
            return done

        return await self._timed([work] * outstanding)

    async def appends(self, loops: int) -> dict[str, float]:
        async def work(ends_at: float) -> int:
            session, done = uuid.uuid4().hex, 0
            for number, (data, count) in enumerate(itertools.cycle(self._commits), 1):
                segment = number // SEGMENT_COMMITS_MAX
                await self._do("insert_part", session, segment, number, 0, 1, data)
                await self._do("read_fence", session)
                done += count
                if time.perf_counter() >= ends_at:
                    break
            return done

        figures = await self._timed([work] * loops)
        figures["entries_per_commit"] = statistics.mean(n for _, n in self._commits)
        figures["bytes_per_entry"] = len(self._entry)
        return figures

    async def alone(self) -> dict[str, float]:
        inserts, selects = [], []
        ends_at = time.perf_counter() + self._seconds
        for number in itertools.count():
            began_at = time.perf_counter()
            await self._do("insert_raw", f"{self._run}-{number}", self._entry)
            between = time.perf_counter()
            await self._do("read_fence", self._run)
            ended_at = time.perf_counter()
            inserts.append((between - began_at) * 1000)
            selects.append((ended_at - between) * 1000)
            if ended_at >= ends_at:
                break
        return {
            "insert_p50_ms": statistics.median(inserts),
            "select_p50_ms": statistics.median(selects),
            "both_p50_ms": statistics.median(
                map(sum, zip(inserts, selects, strict=True))
            ),
        }

    async def _timed(
        self, works: Sequence[Callable[[float], Awaitable[int]]]
    ) -> dict[str, float]:
        began_at, cpu_before = time.perf_counter(), time.process_time()
        ends_at = began_at + self._seconds
        done = sum(await asyncio.gather(*(work(ends_at) for work in works)))
        spent = time.process_time() - cpu_before
        return {
            "done": done,
            "per_second": done / (time.perf_counter() - began_at),
            "own_cpu_us": spent / done * 1e6,
        }


async def run(options: argparse.Namespace) -> dict[str, float]:
    commits = await commits_of(options)
    cluster = acsylla.create_cluster(
        options.contact_points,
        connect_timeout=CONNECT_SECONDS_MAX,
        request_timeout=REQUEST_SECONDS_MAX,
        consistency="LOCAL_QUORUM",
        queue_size_io=65_536,
        coalesce_delay_us=50,
        log_level="disabled",
    )
    session = await cluster.create_session(keyspace=options.keyspace)
    try:
        bare = Bare(session, commits, options.seconds)
        await bare.prepare()
        if options.mode == "raw":
            return await bare.raw(options.outstanding)
        if options.mode == "appends":
            return await bare.appends(options.loops)
        return await bare.alone()
    finally:
        await session.close()


if __name__ == "__main__":
    json.dump(uvloop.run(run(arguments())), sys.stdout)
