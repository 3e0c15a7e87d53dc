"""Three replicas, without repair of any kind, and what lies between them and clients.

A plain write goes to all three. Each message may be late or lost, on its way there and
back, and applied long after the client gave up. Two acknowledgements are a quorum; so
are two answers to a reading, from whichever replicas come first. Cells are compared by
timestamp, then by value. Conditional writes are one atomic step somewhere between the
call and its answer, or after the client's time-out, or never.

`Client` is the port `switch.journal.cassandra.store.LogStore`, of one process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec

from switch.journal.cassandra.store import (
    Epoch,
    EpochId,
    Part,
    Position,
    SessionRow,
    ShardEpochs,
)
from switch.journal.errors import JournalUnknown
from tests.simulation.scripted_loop import ScriptedLoop

REPLICA_COUNT = 3
QUORUM = 2

Cell = tuple[int, Any]  # timestamp, value
Partition = dict[Any, Cell]
Key = tuple[Any, ...]


class Weather(msgspec.Struct):
    """How messages travel. All probabilities are of one message."""

    lost: float = 0.03
    slow: float = 0.08
    very_slow: float = 0.02
    timeout_s: float = 0.030

    def delay(self, chance: random.Random) -> float | None:
        draw = chance.random()
        if draw < self.lost:
            return None
        draw -= self.lost
        if draw < self.very_slow:
            return 0.05 + 1.5 * chance.random()
        if draw < self.very_slow + self.slow:
            return 0.005 + 0.045 * chance.random()
        return 0.0003 + 0.0027 * chance.random()


FAIR = Weather(lost=0.0, slow=0.0, very_slow=0.0)


class Replica:
    def __init__(self) -> None:
        self.partitions: dict[Key, Partition] = {}
        self.tombstones: dict[Key, int] = {}

    def write(self, key: Key, row: Any, cell: Cell) -> None:
        if cell[0] <= self.tombstones.get(key, -1):
            return
        partition = self.partitions.setdefault(key, {})
        if row not in partition or partition[row] < cell:
            partition[row] = cell

    def drop(self, key: Key, timestamp: int, is_remembered: bool) -> None:
        """The tombstone is not kept for ever: what comes later may be seen again."""
        self.partitions.pop(key, None)
        if is_remembered:
            self.tombstones[key] = timestamp


def merged(answers: list[Partition]) -> Partition:
    partition: Partition = {}
    for answer in answers:
        for row, cell in answer.items():
            if row not in partition or partition[row] < cell:
                partition[row] = cell
    return partition


class Cassandra:
    def __init__(self, loop: ScriptedLoop, seed: int, weather: Weather) -> None:
        self.loop = loop
        self.chance = random.Random(seed)
        self.weather = weather
        self.replicas = [Replica() for _ in range(REPLICA_COUNT)]
        # what conditional writes decide
        self.sessions: dict[str, SessionRow] = {}
        self.current: dict[int, EpochId] = {}
        self.epochs: dict[int, dict[EpochId, Epoch]] = {}
        self.archive: dict[Key, Partition] = {}  # what was in it when it was dropped

    # -- messages

    def _pass(self, then: Callable[[], None]) -> None:
        delay = self.weather.delay(self.chance)
        if delay is not None:
            self.loop.in_the_world(delay, then)

    def _outcome(self) -> asyncio.Future[Any]:
        future = self.loop.create_future()

        def time_out() -> None:
            if not future.done():
                future.set_exception(JournalUnknown("no answer in time"))

        self.loop.in_the_world(self.weather.timeout_s, time_out)
        return future

    async def at_quorum(
        self, handle: Callable[[Replica], Any], then: Callable[[], None] | None = None
    ) -> list[Any]:
        """The first answers of two replicas. With `then`, which happens when it was
        sent, only one of them gets to know of it."""
        future = self._outcome()
        answers: list[Any] = []

        def answered(answer: Any) -> None:
            answers.append(answer)
            if len(answers) == QUORUM and not future.done():
                future.set_result(list(answers))

        def arrived(replica: Replica) -> None:
            answer = handle(replica)
            self._pass(lambda: answered(answer))

        replicas = self.replicas
        if then is not None:
            replicas = [self.chance.choice(replicas)]
            then()
        for replica in replicas:
            self._pass(lambda replica=replica: arrived(replica))  # type: ignore[misc]
        found: list[Any] = await future
        return found

    async def serially(self, step: Callable[[], Any]) -> Any:
        future = self._outcome()

        def answered(answer: Any) -> None:
            if not future.done():
                future.set_result(answer)

        def arrived() -> None:
            answer = step()
            self._pass(lambda: answered(answer))

        self._pass(arrived)
        return await future

    # -- plain calls

    async def write(
        self, key: Key, row: Any, cell: Cell, then: Callable[[], None] | None = None
    ) -> None:
        await self.at_quorum(lambda replica: replica.write(key, row, cell), then)

    async def read(self, key: Key) -> Partition:
        return merged(
            await self.at_quorum(lambda replica: dict(replica.partitions.get(key, {})))
        )

    async def drop(self, key: Key, timestamp: int) -> None:
        self.archive[key] = merged(
            [self.archive.get(key, {})]
            + [replica.partitions.get(key, {}) for replica in self.replicas]
        )
        is_remembered = self.chance.random() < 0.5
        await self.at_quorum(
            lambda replica: replica.drop(key, timestamp, is_remembered)
        )


class Client:
    """`cut`, when set, is what happens to the process in the middle of its next
    write."""

    def __init__(self, cassandra: Cassandra) -> None:
        self.cassandra = cassandra
        self.cut: Callable[[], None] | None = None

    async def _write(self, key: Key, row: Any, cell: Cell) -> None:
        then, self.cut = self.cut, None
        await self.cassandra.write(key, row, cell, then)

    async def insert_part(self, session: str, segment: int, part: Part) -> None:
        await self._write(
            ("log", session, segment),
            (part.number, part.index),
            (1, (part.count, part.data)),
        )

    async def read_parts(
        self, session: str, segment: int, after: int, limit: int
    ) -> list[Part]:
        rows = await self.cassandra.read(("log", session, segment))
        parts = [
            Part(number, index, count, data)
            for (number, index), (_, (count, data)) in sorted(rows.items())
            if number > after
        ]
        return parts[:limit]

    async def drop_segment(self, session: str, segment: int) -> None:
        await self.cassandra.drop(("log", session, segment), 2)

    async def write_fence(self, session: str, fenced_by: str) -> None:
        await self._write(("fence", session), fenced_by, (1, True))

    async def read_fence(self, session: str) -> bool:
        return bool(await self.cassandra.read(("fence", session)))

    async def write_mark(self, session: str, kind: str, position: Position) -> None:
        value = (position.segment, position.number)
        await self._write(("mark", session), kind, (position.number, value))

    async def read_mark(self, session: str, kind: str) -> Position | None:
        rows = await self.cassandra.read(("mark", session))
        return Position(*rows[kind][1]) if kind in rows else None

    # -- conditional

    async def create_session(self, session: str, node: str) -> None:
        def step() -> None:
            row = SessionRow(session, node, None)
            self.cassandra.sessions.setdefault(session, row)

        await self.cassandra.serially(step)

    async def seal_session(self, session: str, end: int) -> bool:
        def step() -> bool:
            row = self.cassandra.sessions[session]
            if row.sealed_at is not None:
                return False
            self.write_seal(session, end)
            return True

        applied: bool = await self.cassandra.serially(step)
        return applied

    def write_seal(self, session: str, end: int) -> None:
        row = self.cassandra.sessions[session]
        sealed = SessionRow(session, row.node, end)
        self.cassandra.sessions[session] = sealed

    async def read_session(self, session: str) -> SessionRow | None:
        found: SessionRow | None = await self.cassandra.serially(
            lambda: self.cassandra.sessions.get(session)
        )
        return found

    async def list_sessions(self) -> list[str]:
        found: list[str] = await self.cassandra.serially(
            lambda: list(self.cassandra.sessions)
        )
        return found

    async def open_epoch(self, epoch: Epoch) -> bool:
        def step() -> bool:
            if not self.may_open(epoch):
                return False
            self.cassandra.current[epoch.shard] = epoch.id
            self.cassandra.epochs.setdefault(epoch.shard, {})[epoch.id] = epoch
            return True

        applied: bool = await self.cassandra.serially(step)
        return applied

    def may_open(self, epoch: Epoch) -> bool:
        return self.cassandra.current.get(epoch.shard) == epoch.parent

    async def seal_epoch(self, shard: int, epoch: EpochId, end: int) -> bool:
        def step() -> bool:
            epochs = self.cassandra.epochs[shard]
            if epochs[epoch].sealed_at is not None:
                return False
            epochs[epoch] = msgspec.structs.replace(epochs[epoch], sealed_at=end)
            return True

        applied: bool = await self.cassandra.serially(step)
        return applied

    async def read_epochs(self, shard: int) -> ShardEpochs:
        found: ShardEpochs = await self.cassandra.serially(
            lambda: ShardEpochs(
                self.cassandra.current.get(shard),
                tuple(self.cassandra.epochs.get(shard, {}).values()),
            )
        )
        return found

    # -- checkpoints and publishers

    async def write_chunk(self, shard: int, name: str, index: int, data: bytes) -> None:
        await self._write(("chunk", shard, name), index, (1, data))

    async def read_chunk(self, shard: int, name: str, index: int) -> bytes | None:
        rows = await self.cassandra.read(("chunk", shard, name))
        return rows[index][1] if index in rows else None

    async def drop_chunks(self, shard: int, name: str) -> None:
        await self.cassandra.drop(("chunk", shard, name), 2)

    async def write_checkpoint(self, shard: int, sequence: int, head: bytes) -> None:
        cell = (self.checkpoint_timestamp(sequence), head)
        await self._write(("checkpoint", shard), "", cell)

    def checkpoint_timestamp(self, sequence: int) -> int:
        return sequence

    async def read_checkpoint(self, shard: int) -> bytes | None:
        rows = await self.cassandra.read(("checkpoint", shard))
        return rows[""][1] if rows else None

    async def write_published(
        self, publisher: str, shard: int, sequence: int, position: bytes
    ) -> None:
        cell = (sequence, position)
        await self._write(("published", publisher), shard, cell)

    async def read_published(self, publisher: str, shard: int) -> bytes | None:
        rows = await self.cassandra.read(("published", publisher))
        return rows[shard][1] if shard in rows else None

    async def list_publishers(self) -> list[str]:
        answers: list[set[str]] = await self.cassandra.at_quorum(
            lambda replica: {
                str(key[1]) for key in replica.partitions if key[0] == "published"
            }
        )
        return sorted(set().union(*answers))
