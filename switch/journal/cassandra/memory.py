"""Cassandra's part in memory, for tests: one copy of everything, and faults on cue."""

from __future__ import annotations

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

Cell = tuple[int, bytes]  # what it is ordered by; then its bytes


class MemoryStore:
    """See `switch.journal.cassandra.store.LogStore`. `faults` maps the name of a call
    to what befalls the next ones of that name: False, it is not done and its outcome is
    unknown; True, it is done, and unknown."""

    def __init__(self) -> None:
        self.faults: dict[str, list[bool]] = {}
        self.calls: list[str] = []
        self.rows: dict[tuple[str, int], dict[tuple[int, int], Part]] = {}
        self.fences: dict[str, str] = {}
        self.marks: dict[tuple[str, str], Position] = {}
        self.sessions: dict[str, SessionRow] = {}
        self.current: dict[int, EpochId] = {}
        self.epochs: dict[int, dict[EpochId, Epoch]] = {}
        self.chunks: dict[tuple[int, str], dict[int, bytes]] = {}
        self.checkpoints: dict[int, Cell] = {}
        self.published: dict[tuple[str, int], Cell] = {}

    def _call(self, name: str) -> bool:
        """Whether its outcome is unknown although it is done."""
        self.calls.append(name)
        faults = self.faults.get(name)
        if not faults:
            return False
        is_done = faults.pop(0)
        if not is_done:
            raise JournalUnknown(f"{name}: scripted")
        return True

    @staticmethod
    def _tell(is_unknown: bool) -> None:
        if is_unknown:
            raise JournalUnknown("done, and scripted")

    async def insert_part(self, session: str, segment: int, part: Part) -> None:
        is_unknown = self._call("insert_part")
        rows = self.rows.setdefault((session, segment), {})
        stored = rows.setdefault((part.number, part.index), part)
        assert stored == part, "a commit is written again as another one"
        self._tell(is_unknown)

    async def read_parts(
        self, session: str, segment: int, after: int, limit: int
    ) -> list[Part]:
        self._tell(self._call("read_parts"))
        rows = self.rows.get((session, segment), {})
        return [rows[key] for key in sorted(rows) if key[0] > after][:limit]

    async def drop_segment(self, session: str, segment: int) -> None:
        is_unknown = self._call("drop_segment")
        self.rows.pop((session, segment), None)
        self._tell(is_unknown)

    async def write_fence(self, session: str, fenced_by: str) -> None:
        is_unknown = self._call("write_fence")
        self.fences[session] = fenced_by
        self._tell(is_unknown)

    async def read_fence(self, session: str) -> bool:
        self._tell(self._call("read_fence"))
        return session in self.fences

    async def write_mark(self, session: str, kind: str, position: Position) -> None:
        is_unknown = self._call("write_mark")
        key = (session, kind)
        self.marks[key] = max(position, self.marks.get(key, position))
        self._tell(is_unknown)

    async def read_mark(self, session: str, kind: str) -> Position | None:
        self._tell(self._call("read_mark"))
        return self.marks.get((session, kind))

    async def create_session(self, session: str, node: str) -> None:
        is_unknown = self._call("create_session")
        self.sessions.setdefault(session, SessionRow(session, node, None))
        self._tell(is_unknown)

    async def seal_session(self, session: str, end: int) -> bool:
        is_unknown = self._call("seal_session")
        row = self.sessions[session]
        applied = row.sealed_at is None
        if applied:
            self.sessions[session] = msgspec.structs.replace(row, sealed_at=end)
        self._tell(is_unknown)
        return applied

    async def read_session(self, session: str) -> SessionRow | None:
        self._tell(self._call("read_session"))
        return self.sessions.get(session)

    async def list_sessions(self) -> list[str]:
        self._tell(self._call("list_sessions"))
        return list(self.sessions)

    async def open_epoch(self, epoch: Epoch) -> bool:
        is_unknown = self._call("open_epoch")
        applied = self.current.get(epoch.shard) == epoch.parent
        if applied:
            self.current[epoch.shard] = epoch.id
            self.epochs.setdefault(epoch.shard, {})[epoch.id] = epoch
        self._tell(is_unknown)
        return applied

    async def seal_epoch(self, shard: int, epoch: EpochId, end: int) -> bool:
        is_unknown = self._call("seal_epoch")
        epochs = self.epochs[shard]
        applied = epochs[epoch].sealed_at is None
        if applied:
            epochs[epoch] = msgspec.structs.replace(epochs[epoch], sealed_at=end)
        self._tell(is_unknown)
        return applied

    async def read_epochs(self, shard: int) -> ShardEpochs:
        self._tell(self._call("read_epochs"))
        epochs = self.epochs.get(shard, {})
        return ShardEpochs(self.current.get(shard), tuple(epochs.values()))

    async def write_chunk(self, shard: int, name: str, index: int, data: bytes) -> None:
        is_unknown = self._call("write_chunk")
        self.chunks.setdefault((shard, name), {})[index] = data
        self._tell(is_unknown)

    async def read_chunk(self, shard: int, name: str, index: int) -> bytes | None:
        self._tell(self._call("read_chunk"))
        return self.chunks.get((shard, name), {}).get(index)

    async def drop_chunks(self, shard: int, name: str) -> None:
        is_unknown = self._call("drop_chunks")
        self.chunks.pop((shard, name), None)
        self._tell(is_unknown)

    async def write_checkpoint(self, shard: int, sequence: int, head: bytes) -> None:
        is_unknown = self._call("write_checkpoint")
        cell = (sequence, head)
        self.checkpoints[shard] = max(cell, self.checkpoints.get(shard, cell))
        self._tell(is_unknown)

    async def read_checkpoint(self, shard: int) -> bytes | None:
        self._tell(self._call("read_checkpoint"))
        return self.checkpoints[shard][1] if shard in self.checkpoints else None

    async def write_published(
        self, publisher: str, shard: int, sequence: int, position: bytes
    ) -> None:
        is_unknown = self._call("write_published")
        key, cell = (publisher, shard), (sequence, position)
        self.published[key] = max(cell, self.published.get(key, cell))
        self._tell(is_unknown)

    async def read_published(self, publisher: str, shard: int) -> bytes | None:
        self._tell(self._call("read_published"))
        key = (publisher, shard)
        return self.published[key][1] if key in self.published else None

    async def list_publishers(self) -> list[str]:
        self._tell(self._call("list_publishers"))
        return sorted({publisher for publisher, _ in self.published})
