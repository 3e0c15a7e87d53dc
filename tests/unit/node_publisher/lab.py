"""Sessions over a store in memory, and publishers of their shards: what they have taken
is in one list, as a server would have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from switch.journal.cassandra.memory import MemoryStore
from switch.journal.cassandra.session import Session
from switch.journal.cassandra.store import Position
from switch.ledger import State
from switch.node_publisher.forwarder import ShardForwarder
from switch.node_publisher.orders import Assignment
from switch.publish.events import Event
from switch.publish.memory import MemoryEngine
from switch.publish.positions import PositionFiles
from switch.publisher.forwarder import Plan
from switch.publisher.waker import Waker
from tests.unit.follower.running import until_it_is_so
from tests.unit.journal.cassandra.build import PATIENCE, append

ENGINE = "memory"


class Lab:
    def __init__(self, folder: Path, *, entries_max: int = 50, batches_max: int = 1):
        self.folder = folder
        self.store = MemoryStore()
        self.entries_max = entries_max
        self.batches_max = batches_max
        self.taken: list[Event] = []
        self.engines: list[MemoryEngine] = []
        self.prepare: Callable[[MemoryEngine], None] = lambda engine: None

    def open(self) -> MemoryEngine:
        engine = MemoryEngine(self.taken)
        self.prepare(engine)
        self.engines.append(engine)
        return engine

    def ids(self, shard: int | None = None) -> list[str]:
        ids = [event.id for event in self.taken]
        return [each for each in ids if shard is None or each.startswith(f"{shard}-")]

    def position(self, shard: int, name: str = ENGINE) -> int:
        """The last entry that is known to be out, as Cassandra has it."""
        return self.store.published.get((name, shard), (0, b""))[0]

    @asynccontextmanager
    async def publishing(
        self, session: Session, states: dict[int, State]
    ) -> AsyncIterator[Publishing]:
        publishing = Publishing(self, session, states)
        task = asyncio.create_task(publishing.forwarder.run())
        try:
            yield publishing
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            publishing.waker.close()


class Publishing:
    """A session, and the publisher of its shards."""

    def __init__(self, lab: Lab, session: Session, states: dict[int, State]) -> None:
        self.session = session
        self.states = states
        self.waker = Waker()
        self.released = session.writer.released
        self.assignment = self.as_it_is()
        self.forwarder = ShardForwarder(
            Plan(ENGINE, lab.open, lab.entries_max, 0.0, lab.batches_max),
            lab.store,
            lambda: self.assignment,
            lambda: self.released,
            PositionFiles(lab.folder / session.name, ENGINE, b""),
            self.waker,
            PATIENCE,
        )

    def as_it_is(self) -> Assignment:
        shards = {shard: each.id.number for shard, each in self.session.epochs.items()}
        return Assignment(self.session.name, shards)

    def tell(self, released: Position | None = None) -> None:
        """What the node would."""
        self.assignment = self.as_it_is()
        self.released = released or self.session.writer.released
        self.waker.wake()

    async def append(self, *shards: int, count: int = 1) -> None:
        await append(self.session, [self.states[shard] for shard in shards], count)
        self.tell()

    async def give_up(self, shard: int) -> None:
        await self.session.give_up(shard)
        self.tell()

    async def until_done(self) -> None:
        await until_it_is_so(lambda: self.forwarder.is_done)


def numbered(shard: int, last: int, first: int = 1) -> list[str]:
    return [f"{shard}-{number}" for number in range(first, last + 1)]
