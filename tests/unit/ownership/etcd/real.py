"""The client and whole nodes against real servers: what these tests share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from switch.ownership.etcd.client import EtcdClient, Settings
from switch.ownership.etcd.membership import EtcdOwnership
from switch.ownership.port import Member
from tests.servers.common import Server

SECONDS_MAX = 60.0
_numbers = itertools.count(1)


def unique(name: str) -> str:
    """Tests share servers, and no keys."""
    return f"{name}-{next(_numbers)}"


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await test

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 -- of whatever the test looks at
        await asyncio.sleep(0.01)


async def until_done(
    attempt: Callable[[], Awaitable[object]], *errors: type[Exception]
) -> None:
    """Tries again what fails with these."""
    while True:
        try:
            await attempt()
        except errors:
            await asyncio.sleep(0.05)
        else:
            return


async def started(server: Server) -> None:
    """Begun here: it ends with the thread that began it."""
    server.spawn()
    await asyncio.to_thread(server.wait_ready)


@asynccontextmanager
async def connected(
    endpoints: Sequence[str], **settings: Any
) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(Settings(tuple(endpoints), **settings))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def joined(
    endpoints: Sequence[str], cluster: str, node: str = "a", ttl_s: int = 10
) -> AsyncIterator[EtcdOwnership]:
    async with connected(endpoints) as client:
        member = Member(node, unique("session"), f"{node}:1")
        ownership = EtcdOwnership(client, cluster, member, ttl_s=ttl_s)
        await ownership.join()
        try:
            yield ownership
        finally:
            await ownership.leave()
