"""The one writer of a session's log: append, then look at one's fence, then release.

Rule 1: a commit is released when it was acknowledged at a quorum, and a quorum reading
        of the session's fence, begun after that, found it empty.
Rule 2: while an append's outcome is unknown it is repeated unchanged, and nothing is
        appended behind it. Commit n + 1 is begun when n is released: whoever finds it
        knows that all before it are at a quorum.
Rule 3: after a fence, an outcome that stayed unknown or a word from outside nothing is
        appended or released any more. The log is settled by whoever takes over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from switch.journal import record as codec
from switch.journal.cassandra import log
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import (
    BEGINNING,
    SEGMENT_BYTES_MAX,
    SEGMENT_COMMITS_MAX,
    LogStore,
    Part,
    Position,
)
from switch.journal.errors import (
    JournalError,
    JournalFenced,
    JournalStopped,
)
from switch.journal.port import ShardRecord

_log = logging.getLogger("switch.journal")


class Timed(NamedTuple):
    """Who is told how many seconds it took: each append, until it was acknowledged, and
    each look at the fence."""

    append: Callable[[float], object]
    look: Callable[[float], object]


def _not_told(seconds: float) -> None:
    pass


UNTIMED = Timed(_not_told, _not_told)


class SessionWriter:
    def __init__(
        self,
        store: LogStore,
        session: str,
        shard_count: int,
        *,
        patience: Patience = PATIENCE,
        segment_commits: int = SEGMENT_COMMITS_MAX,
        segment_bytes: int = SEGMENT_BYTES_MAX,
        timed: Timed = UNTIMED,
    ) -> None:
        self.session = session
        self.issued = BEGINNING  # the last commit that was begun
        self.released = BEGINNING
        self._store = store
        self._patience = patience
        self._timed = timed
        self._segment_commits = segment_commits
        self._segment_bytes = segment_bytes
        self._commits_in_segment = 0
        self._bytes_in_segment = 0
        self._checksum = log.genesis(session)
        self._sequences = codec.Sequences(shard_count)
        self._shards: set[int] = set()
        self._stopped: Exception | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._marking: asyncio.Task[None] | None = None

    # -- which shards it has

    def admit(self, sequences: Mapping[int, int]) -> None:
        """From now on it appends these shards, behind these sequences."""
        self._sequences.expect({shard: last + 1 for shard, last in sequences.items()})
        self._shards |= set(sequences)

    def forget(self, shard: int) -> None:
        self._shards.discard(shard)

    # -- its end

    def stop(self, error: Exception) -> None:
        """Nothing is released any more, not even what is in flight."""
        if self._stopped is None:
            self._stopped = error
        if self._marking is not None:
            self._marking.cancel()

    @property
    def stopped(self) -> Exception | None:
        return self._stopped

    async def settle(self) -> None:
        """Returns when nothing is in flight. Raises what stopped it."""
        await self._idle.wait()
        self.check()

    async def confirm(self) -> None:
        """Returns if the session was not over when this was called. Raises what ended
        it, or JournalUnknown, which ends nothing."""
        self.check()
        try:
            await self._look_at_fence()
        except JournalFenced as error:
            self.stop(error)
            raise
        self.check()

    # -- a commit

    async def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        """Returns the commit's number when it is released. Whatever it raises, the
        session is over, unless it was asked for what it could not take."""
        self.check()
        if not self._idle.is_set():
            raise JournalError("an append while another one is in flight")
        number = self.issued.number + 1
        self._check_records(records, number)
        data, checksum = codec.encode(number, at, self._checksum, records)
        parts = log.split(number, data)
        self._idle.clear()
        try:
            self._advance(number, len(data))
            self._checksum = checksum
            self._sequences.advance(records)
            await self._insert(parts)
            self.check()
            await self._look_at_fence()
            self.check()
            self.released = self.issued
        except JournalError as error:
            self.stop(error)
            raise
        finally:
            if self.released != self.issued:
                # Cancelled, or failed in a way that nobody thought of.
                self.stop(JournalStopped("an append was given up", commit=number))
            self._idle.set()
        return number

    def check(self) -> None:
        """Raises what stopped it."""
        if self._stopped is not None:
            raise self._stopped

    def _check_records(self, records: Sequence[ShardRecord], number: int) -> None:
        fault = self._sequences.fault(records)
        if fault is None:
            others = {record.shard for record in records} - self._shards
            if not others:
                return
            fault = ("records of shards that this session has not", "none", str(others))
        what, expected, got = fault
        raise JournalError(
            what,
            path=log.place(self.session),
            commit=number,
            expected=expected,
            got=got,
        )

    def _advance(self, number: int, size: int) -> None:
        """The commit's place. A segment that is full is followed by the next one."""
        segment = self.issued.segment
        is_full = (
            self._commits_in_segment >= self._segment_commits
            or self._bytes_in_segment >= self._segment_bytes
        )
        if is_full:
            segment += 1
            self._commits_in_segment = self._bytes_in_segment = 0
            self._mark()
        self._commits_in_segment += 1
        self._bytes_in_segment += size
        self.issued = Position(segment, number)

    async def _insert(self, parts: Sequence[Part]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for part in parts:
            await self._acknowledged(self.issued.segment, part)
        self._timed.append(loop.time() - started)

    async def _acknowledged(self, segment: int, part: Part) -> None:
        await settled(
            lambda: self._store.insert_part(self.session, segment, part), self._patience
        )

    async def _look_at_fence(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        is_fenced = await settled(
            lambda: self._store.read_fence(self.session), self._patience
        )
        self._timed.look(loop.time() - started)
        if is_fenced:
            raise JournalFenced(
                "another session has taken over", path=log.place(self.session)
            )

    # -- where others may begin to read

    def _mark(self) -> None:
        """Never needed, and never waited for: a successor reads less with it."""
        if self._marking is None or self._marking.done():
            self._marking = asyncio.get_running_loop().create_task(
                self._write_mark(self.released)
            )

    async def _write_mark(self, position: Position) -> None:
        try:
            await self._store.write_mark(self.session, log.RELEASED, position)
        except JournalError as error:
            _log.info("a successor may have to read more: %s", error)
