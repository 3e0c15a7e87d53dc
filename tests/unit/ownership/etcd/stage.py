"""Nodes on an etcd in memory and on a clock that is a number: a test is a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from switch.ownership.etcd.errors import EtcdError
from switch.ownership.etcd.membership import EtcdOwnership
from switch.ownership.etcd.memory import GOOD, Fate, MemoryEtcd, MemoryStore
from switch.ownership.port import (
    Member,
    OwnershipError,
    OwnershipEvent,
    SessionEnded,
)
from tests.simulation.scripted_loop import ScriptedLoop

CLUSTER = "stage"
TTL_S = 6
# Of tasks; the test itself looks at what it is raised.
EXPECTED = (OwnershipError, EtcdError, TimeoutError)


class Stage:
    def __init__(self) -> None:
        self.loop = ScriptedLoop(EXPECTED)  # type: ignore[abstract]
        self.etcd = MemoryEtcd(self.loop.time)
        self.fates: dict[str, list[Fate]] = {}
        self.sessions = 0

    def store(self, node: str) -> MemoryStore:
        return MemoryStore(self.etcd, lambda name: self._fate(f"{node} {name}"))

    def _fate(self, call: str) -> Fate:
        coming = self.fates.get(call)
        return coming.pop(0) if coming else GOOD

    def script(self, call: str, *fates: Fate) -> None:
        """What becomes of the next calls, by node and method: "a transaction"."""
        self.fates[call] = list(fates)

    def node(self, name: str) -> EtcdOwnership:
        self.sessions += 1
        member = Member(name, f"s{self.sessions}", f"{name}:1")
        return EtcdOwnership(
            self.store(name), CLUSTER, member, ttl_s=TTL_S, clock=self.loop.time
        )

    async def joined(self, name: str) -> EtcdOwnership:
        ownership = self.node(name)
        await ownership.join()
        return ownership

    async def pass_time(self, seconds: float) -> None:
        """And leases that are over run out."""
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(min(0.1, until - self.loop.time()))
            self.etcd.tick()


def play(test: Callable[[Stage], Awaitable[None]]) -> None:
    stage = Stage()

    async def bounded() -> None:
        await test(stage)

    stage.loop.run(bounded())


async def told(ownership: EtcdOwnership) -> list[OwnershipEvent]:
    """What there is to be told now."""
    found: list[OwnershipEvent] = []
    events = ownership.events()
    try:
        async with asyncio.timeout(0.001):
            async for event in events:
                found.append(event)
                if isinstance(event, SessionEnded):
                    break
    except TimeoutError:
        pass
    return found
