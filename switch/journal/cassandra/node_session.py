"""A session as a node sees it: `switch.cluster.port.JournalSession`, on Cassandra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switch.journal.cassandra.retrying import PATIENCE, Patience
from switch.journal.cassandra.session import Session
from switch.journal.cassandra.store import LogStore, Position
from switch.journal.cassandra.writer import SessionWriter
from switch.journal.errors import JournalError, JournalStopped
from switch.journal.port import ShardRecord
from switch.ledger import Limits, State


class CassandraSession:
    def __init__(
        self,
        store: LogStore,
        name: str,
        node: str,
        shard_count: int,
        patience: Patience = PATIENCE,
    ) -> None:
        self._writer = SessionWriter(store, name, shard_count, patience=patience)
        self._session = Session(store, self._writer, node, patience)

    @property
    def name(self) -> str:
        return self._session.name

    @property
    def position(self) -> Position:
        return self._writer.released

    async def begin(self) -> None:
        await self._session.begin()

    async def take(self, shards: Mapping[int, int], limits: Limits) -> dict[int, State]:
        return await self._session.take(shards, limits)

    async def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        return await self._writer.append(at, records)

    async def confirm(self) -> None:
        await self._writer.confirm()

    async def checkpoint(
        self, shard: int, sequence: int, position: object, data: bytes
    ) -> None:
        assert isinstance(position, Position)
        await self._session.write_checkpoint(shard, sequence, position, data)

    async def give_up(self, shard: int) -> None:
        await self._session.give_up(shard)

    def stop(self, error: Exception) -> None:
        if not isinstance(error, JournalError):
            error = JournalStopped(str(error))
        self._writer.stop(error)
