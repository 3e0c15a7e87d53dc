"""The journal in memory, for tests: the real record format, and faults on cue."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from switch.journal import record as codec
from switch.journal.errors import (
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalStopped,
)
from switch.journal.port import (
    SHARD_COUNT_DEFAULT,
    Commit,
    ShardRecord,
    Snapshot,
)

_PATH = "memory"


class Fault(msgspec.Struct, frozen=True):
    """What happens to one append. `stored`: it is kept although it raised, as when
    the outcome is unknown. After any error but JournalFull and JournalBusy the
    journal is stopped, as the real one is."""

    error: JournalError | None = None
    stored: bool = False
    delay_seconds: float = 0.0
    gate: threading.Event | None = None  # the append waits for it


class MemoryJournal:
    """See `switch.journal.port.Journal`. `faults` maps the n-th append of this
    object, from 1, to what befalls it."""

    def __init__(
        self,
        shard_count: int = SHARD_COUNT_DEFAULT,
        *,
        identity: bytes = b"journal in memory"[:16],
        faults: dict[int, Fault] | None = None,
    ) -> None:
        self.shard_count = shard_count
        self.identity = identity
        self.faults = dict(faults or {})
        self.append_count = 0
        self._rows: list[bytes] = []
        self._checksum = codec.genesis_checksum(identity)
        self._sequences = codec.Sequences(shard_count)
        self._stopped: JournalError | None = None
        self._lock = threading.Lock()

    @property
    def head(self) -> int:
        return len(self._rows)

    def reopen(self) -> MemoryJournal:
        """A journal with what this one stored, as after a restart."""
        other = MemoryJournal(self.shard_count, identity=self.identity)
        other._rows = list(self._rows)
        for commit in other.read(0):
            other._sequences.advance(commit.records)
        if self._rows:
            other._checksum = codec.stored_checksum(
                self._rows[-1], len(self._rows), _PATH
            )
        return other

    def damage(self, commit: int, byte: int, bit: int = 0) -> None:
        """Flips one bit of a stored record."""
        data = bytearray(self._rows[commit - 1])
        data[byte] ^= 1 << bit
        self._rows[commit - 1] = bytes(data)

    def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        return self.append_many(at, [records])

    def append_many(self, at: int, batches: Iterable[Sequence[ShardRecord]]) -> int:
        with self._lock:
            if self._stopped is not None:
                raise JournalStopped(
                    f"stopped by an earlier fault: {self._stopped}"
                ) from self._stopped
            rows: list[bytes] = []
            checksum = self._checksum
            sequences = self._sequences.copy()
            for records in batches:
                number = len(self._rows) + len(rows) + 1
                fault = sequences.fault(records)
                if fault:
                    raise JournalError(
                        fault[0], commit=number, expected=fault[1], got=fault[2]
                    )
                data, checksum = codec.encode(number, at, checksum, records)
                rows.append(data)
                sequences.advance(records)
            self._suffer(rows)
            self._rows += rows
            self._checksum, self._sequences = checksum, sequences
            return len(self._rows)

    def _suffer(self, rows: list[bytes]) -> None:
        self.append_count += 1
        fault = self.faults.pop(self.append_count, None)
        if fault is None:
            return
        if fault.delay_seconds:
            threading.Event().wait(fault.delay_seconds)
        if fault.gate is not None:
            fault.gate.wait()
        if fault.error is None:
            return
        if not isinstance(fault.error, JournalFull | JournalBusy):
            self._stopped = fault.error
        if fault.stored:
            self._rows += rows
        raise fault.error

    def tend(self) -> None:
        pass

    def read(self, after: int, limit: int | None = None) -> Iterator[Commit]:
        if after > self.head:
            raise JournalDamaged(
                "a reader is ahead of the journal",
                path=_PATH,
                expected=f"a position up to commit {self.head}",
                got=f"commit {after}",
            )
        return self._read(after, limit)

    def _read(self, after: int, limit: int | None) -> Iterator[Commit]:
        previous = codec.genesis_checksum(self.identity)
        if after:
            previous = codec.stored_checksum(self._rows[after - 1], after, _PATH)
        end = self.head if limit is None else min(self.head, after + limit)
        for number in range(after + 1, end + 1):
            data = self._rows[number - 1]
            commit, previous = codec.decode(data, number, previous, _PATH)
            yield commit

    def close(self) -> None:
        pass


class MemorySnapshots:
    """See `switch.journal.port.SnapshotStore`."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self._newest: dict[int, Snapshot] = {}
        self.complete_to = 0

    def write(self, shard: int, sequence: int, commit: int, data: bytes) -> None:
        if commit > self._journal.head:
            raise JournalError(
                f"snapshot of shard {shard} of what is not durable yet",
                expected=f"a commit up to {self._journal.head}",
                got=f"commit {commit}",
            )
        self._newest[shard] = Snapshot(shard, sequence, commit, data)

    def mark_complete(self, commit: int) -> None:
        self.complete_to = commit

    def read_all(self) -> Iterator[Snapshot]:
        for shard in sorted(self._newest):
            snapshot = self._newest[shard]
            commit = max(snapshot.commit, self.complete_to)
            yield msgspec.structs.replace(snapshot, commit=commit)

    def close(self) -> None:
        pass
