"""Nodes that share shards and locks by an etcd that does what a seed says.

Each node is a process of its own, which hangs and dies, and lives by a simple rule:
take what is wanted here and free, give back what is wanted elsewhere, and now and
then the other way round. Its calls are
slow, lost, late, or have happened though nobody said so; etcd compacts, cuts watches
and changes its leader. Whatever a node relies on at a moment, it says to an auditor,
who knows nothing but the order in which that was said.
"""

from __future__ import annotations

import asyncio
import random

from switch.ownership.etcd.errors import EtcdError
from switch.ownership.etcd.keys import Keys
from switch.ownership.etcd.membership import EtcdOwnership
from switch.ownership.etcd.memory import Fate, MemoryEtcd, MemoryStore
from switch.ownership.port import (
    Grant,
    Member,
    OwnershipError,
    SessionEnded,
    SessionOver,
    ShardTaken,
)
from tests.simulation.scripted_loop import ScriptedLoop, ScriptedProcess

CLUSTER = "simulated"
TTL_S = 6
SHARDS = 5
LOCKS = ("end of day", "scheme")
TROUBLED_SECONDS = 25.0
# Leases run out, nodes join again, and what was given up is looked for no longer.
QUIET_SECONDS = 20.0
LOOK_SECONDS = 0.25
# Whatever else a task ends with is a fault.
EXPECTED = (OwnershipError, EtcdError, TimeoutError)
TROUBLES = ("away", "fade", "hang", "hang", "die", "leave", "elect", "compact", "cut")


class Auditor:
    """Of two that relied on a thing, the later one has the later grant."""

    def __init__(self, loop: ScriptedLoop) -> None:
        self._loop = loop
        self._latest: dict[object, tuple[Grant, float]] = {}
        self.relied = 0

    def relies(self, what: object, grant: Grant) -> None:
        self.relied += 1
        latest, at = self._latest.get(what, (grant, 0.0))
        assert grant.create_revision >= latest.create_revision, (
            f"{what}: at {self._loop.time():.3f} s {grant} is relied on, though at "
            f"{at:.3f} s {latest} was"
        )
        assert (grant.create_revision == latest.create_revision) == (grant == latest)
        self._latest[what] = (grant, self._loop.time())


class Troubles:
    """What becomes of the calls of a node, by chance. Until `away_until` it is not
    heard, and hears nothing; it `is_fading` when its next keep-alive is the last that
    etcd hears, and is answered late."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance
        self.away_until = 0.0
        self.is_fading = False

    def __call__(self, name: str) -> Fate:
        chance = self._chance
        if self._world.is_quiet:
            return Fate(seconds=0.002)
        if self._world.loop.time() < self.away_until:
            return Fate(becomes=chance.choice(["unsent", "lost"]), seconds=0.3)
        if self.is_fading and name == "keep_alive":
            self.is_fading = False
            self.away_until = self._world.loop.time() + 2 * TTL_S
            return Fate(seconds=TTL_S / 4, way_there=0.0)
        seconds = chance.choice([0.001, 0.001, 0.01, 0.2, 1.5])
        if chance.random() < 0.8:
            return Fate(seconds=seconds, way_there=chance.random())
        if name == "watch":
            return Fate(becomes="unsent", seconds=seconds)
        fates = [
            Fate(becomes="unsent", seconds=seconds),
            Fate(becomes="lost", seconds=seconds),
            Fate(becomes="unanswered", seconds=seconds),
            Fate(
                becomes="late",
                seconds=seconds,
                late_seconds=chance.choice([0.01, 1.0, 4.0]),
            ),
        ]
        return chance.choice(fates)


class Node:
    def __init__(self, world: World, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.number = number
        self.process = ScriptedProcess(world.loop, f"{name}/{number}")
        self.troubles = Troubles(world)
        self.store = MemoryStore(world.etcd, self.troubles)
        self.ownership: EtcdOwnership | None = None
        self.sessions = 0
        self.process.start(self._live())

    async def _live(self) -> None:
        while True:
            self.sessions += 1
            session = f"{self.process.name}/{self.sessions}"
            member = Member(self.name, session, f"{self.name}:1")
            clock = self.world.loop.time
            ownership = EtcdOwnership(
                self.store, CLUSTER, member, ttl_s=TTL_S, clock=clock
            )
            try:
                await ownership.join()
                self.ownership = ownership
                await self._work(ownership)
            except OwnershipError:
                pass
            self.ownership = None
            await ownership.leave()
            await asyncio.sleep(LOOK_SECONDS)

    async def _work(self, ownership: EtcdOwnership) -> None:
        """Until the session is over. A group of tasks is a set, whose order is another
        each time."""
        works = [self._balance(ownership), self._answer(ownership)]
        works += [self._lock(ownership, name) for name in LOCKS]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await self._listen(ownership)
        finally:
            for task in tasks:
                task.cancel()

    async def _listen(self, ownership: EtcdOwnership) -> None:
        async for event in ownership.events():
            if isinstance(event, SessionEnded):
                raise SessionOver(event.reason)

    async def _balance(self, ownership: EtcdOwnership) -> None:
        while True:
            for shard in range(SHARDS):
                is_wanted = ownership.wanted(shard) == ownership.member
                if not self.world.is_quiet and self.world.chance.random() < 0.2:
                    is_wanted = not is_wanted
                if is_wanted and ownership.held(shard) is None:
                    try:
                        await ownership.acquire(shard)
                    except ShardTaken:
                        continue
                    except OwnershipError:
                        if not ownership.is_over:
                            continue
                        raise
                elif not is_wanted and ownership.held(shard) is not None:
                    await ownership.release(shard)
            await asyncio.sleep(LOOK_SECONDS)

    async def _answer(self, ownership: EtcdOwnership) -> None:
        while True:
            for shard in range(SHARDS):
                grant = ownership.held(shard)
                if grant is not None:
                    self.world.auditor.relies(shard, grant)
            await asyncio.sleep(0.1)

    async def _lock(self, ownership: EtcdOwnership, name: str) -> None:
        chance = self.world.chance
        while not self.world.is_quiet:
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            try:
                async with asyncio.timeout(chance.choice([0.5, 60.0])):
                    async with ownership.lock(name) as grant:
                        for _ in range(chance.randint(1, 4)):
                            if ownership.now() < ownership.is_valid_until():
                                self.world.auditor.relies(name, grant)
                                self.world.locked += 1
                            await asyncio.sleep(0.1)
            except TimeoutError:
                continue
            except OwnershipError:
                if ownership.is_over:
                    raise


class World:
    def __init__(self, seed: int, names: tuple[str, ...] = ("a", "b", "c")) -> None:
        self.chance = random.Random(seed)
        # What waits between two attempts draws from the one of the module.
        random.seed(seed)
        self.loop = ScriptedLoop(EXPECTED)  # type: ignore[abstract]
        self.etcd = MemoryEtcd(self.loop.time)
        self.auditor = Auditor(self.loop)
        self.is_quiet = False
        self.names = names
        self.nodes: dict[str, Node] = {}
        self.locked = 0

    def run(self) -> None:
        self.loop.run(self._run())

    async def _run(self) -> None:
        for number, name in enumerate(self.names):
            self.nodes[name] = Node(self, name, number)
        while self.loop.time() < TROUBLED_SECONDS:
            await asyncio.sleep(self.chance.uniform(0.0, 2.5))
            self._trouble()
        self.is_quiet = True
        until = self.loop.time() + QUIET_SECONDS
        while self.loop.time() < until:
            await asyncio.sleep(0.5)
            self.etcd.tick()
        self._check_all_is_well()

    def _trouble(self) -> None:
        chance = self.chance
        node = self.nodes[chance.choice(self.names)]
        match chance.choice(TROUBLES):
            case "away":
                seconds = chance.choice([1.0, 4.0, 8.0])
                node.troubles.away_until = self.loop.time() + seconds
                node.store.cut()
            case "fade":
                node.troubles.is_fading = True
            case "hang":
                node.process.hang(chance.choice([1.0, 8.0, 12.0]))
            case "die":
                node.process.die()
                self.nodes[node.name] = Node(self, node.name, node.number + 1)
            case "leave":
                if node.ownership is not None:
                    node.process.start(node.ownership.leave())
            case "elect":
                self.etcd.elect()
            case "compact":
                self.etcd.compact()
            case "cut":
                self.etcd.cut()

    def _check_all_is_well(self) -> None:
        """Everybody sees everybody, and every shard is where it is wanted."""
        keys = Keys(CLUSTER)
        items = self.etcd.items
        owned = {key for key in items if keys.shard_of(key) is not None}
        assert owned == {keys.shard(shard) for shard in range(SHARDS)}
        for node in self.nodes.values():
            ownership = node.ownership
            assert ownership is not None, f"{node.process.name} did not join"
            assert [member.node for member in ownership.members()] == list(self.names)
            for shard in range(SHARDS):
                owner, wanted = ownership.owner(shard), ownership.wanted(shard)
                assert owner is not None
                assert owner.member == wanted
                is_mine = wanted == ownership.member
                held = ownership.held(shard)
                assert (held is not None) == is_mine
                if held is not None:
                    at = items[keys.shard(shard)].create_revision
                    assert held.create_revision == at == owner.create_revision
        assert not [key for key in items if "/locks/" in key]
        lease_keys = {item.lease for item in items.values()}
        assert lease_keys == set(self.etcd.leases)
