"""What the nodes and the journal say of themselves, looked at again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import aiohttp
import msgspec

from switch.cluster.status import Status, status
from switch.cluster_store import Cluster
from switch.journal.errors import JournalError
from switch.ownership.port import OwnershipError
from tests.scraping import values_of
from tests.servers.local.machines import NodeServer

METRICS_SECONDS = 1.0
# Every shard is looked up in the journal.
STATUS_SECONDS = 5.0
HTTP_TIMEOUT = aiohttp.ClientTimeout(total=2)


class Figures(msgspec.Struct):
    """What a node counts; None where it does not."""

    is_up: bool = False
    shards: float | None = None
    head: float | None = None
    entries_a_second: float | None = None
    commits_a_second: float | None = None
    asked_a_second: float | None = None
    published: dict[str, float] = {}


class Watching:
    """`figures` of each node, and the newest `status` or why there is none."""

    def __init__(self, nodes: Sequence[NodeServer], cluster: Cluster) -> None:
        self.figures = [Figures() for _ in nodes]
        self.status: Status | None = None
        self.trouble = ""
        self._nodes = nodes
        self._cluster = cluster
        self._before: list[tuple[float, dict[str, float]]] = [(0.0, {}) for _ in nodes]

    async def run(self) -> None:
        async with (
            aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as session,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._follow_status())
            for index in range(len(self._nodes)):
                group.create_task(self._follow_metrics(session, index))

    async def look(self) -> None:
        cluster = self._cluster
        try:
            self.status = await status(
                cluster.store, cluster.etcd, cluster.name, cluster.shard_count
            )
            self.trouble = ""
        except (JournalError, OwnershipError) as error:
            self.trouble = str(error)

    async def _follow_status(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(STATUS_SECONDS)

    async def _follow_metrics(self, session: aiohttp.ClientSession, index: int) -> None:
        url = f"{self._nodes[index].url}/metrics"
        while True:
            values: dict[str, float] = {}
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url) as response:
                    values = values_of(await response.text())
            now = time.monotonic()
            self.figures[index] = figures(values, *self._before[index], now)
            self._before[index] = now, values
            await asyncio.sleep(METRICS_SECONDS)


def figures(
    values: dict[str, float], before_at: float, before: dict[str, float], now: float
) -> Figures:
    """Rates are of what came since the look `before`."""

    def a_second(name: str) -> float | None:
        if name not in values or name not in before or now <= before_at:
            return None
        # A node that was started again counts from 0.
        return max(0.0, values[name] - before[name]) / (now - before_at)

    return Figures(
        is_up=bool(values),
        shards=values.get("switch_cluster_shards"),
        head=values.get("switch_journal_head"),
        entries_a_second=a_second("switch_entries_total"),
        commits_a_second=a_second("switch_commits_total"),
        asked_a_second=a_second("switch_asked_by_nodes_total"),
        published={
            name.partition('engine="')[2].rstrip('"}'): value
            for name, value in values.items()
            if name.startswith("switch_publish_events_total{")
        },
    )
