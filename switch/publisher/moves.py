"""What operators ask of engines: how far they are, and to go on somewhere else.

Rule: whoever holds an engine's lock moves it. While a daemon publishes that is its
      publisher, which does so before its next batch; else it is we.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec import Struct

from switch.journal.directory import DataDirectory
from switch.journal.port import Commit
from switch.journal.released import Released
from switch.journal.sqlite import SqliteJournal
from switch.publish.port import PublishError
from switch.publish.positions import EnginePosition, PositionFiles, position_paths

# How much is done, from 0 to 1, and a few words.
Advance = Callable[[float, str], None]

OBEYED_SECONDS_MAX = 5.0
POLL_SECONDS = 0.02


class EngineReport(Struct, frozen=True):
    engine: str
    configured: bool
    # Whether a publisher is at work on it.
    running: bool
    # None: what there is cannot be read; `fault` says why.
    commit: int | None
    entries: int | None
    head: int
    refused: int
    moving_to: int | None = None
    fault: str | None = None


class Move(Struct, frozen=True):
    engine: str
    before: int | None
    commit: int
    # False: it is asked for, and comes about when the publisher gets to it.
    done: bool


class Forgotten(Struct, frozen=True):
    engine: str
    # That were out; None: what there was could not be read.
    entries: int | None


class Engines:
    """The engines of a data directory, which a daemon may be running on."""

    def __init__(self, data_directory: str, configured: Iterable[str]) -> None:
        directory = DataDirectory.open(data_directory, create=False)
        self._journal = SqliteJournal.open(directory.path, read_only=True)
        self._publish = directory.publish
        self._configured = tuple(configured)
        released = Released(directory.released, read_only=True)
        # After a power loss the file may say less than was answered.
        self.head = min(released.number, self._journal.head)
        released.close()

    def close(self) -> None:
        self._journal.close()

    @property
    def names(self) -> list[str]:
        found = {path.stem for path in position_paths(self._publish)}
        return sorted(found | set(self._configured))

    def report(self, engine: str) -> EngineReport:
        files = self._files(engine)
        commit: int | None = None
        entries: int | None = None
        fault: str | None = None
        try:
            position = files.load()
            commit, entries = position.commit, position.entries
        except PublishError as error:
            fault = str(error)
        return EngineReport(
            engine=engine,
            configured=engine in self._configured,
            running=files.is_locked(),
            commit=commit,
            entries=entries,
            head=self.head,
            refused=files.refused_count(),
            moving_to=files.asked_to_move_to(),
            fault=fault,
        )

    def commit_before(
        self, *, event_id: str | None = None, moment: datetime | None = None
    ) -> int:
        """The last commit before that entry, or before the first of that moment."""
        shard, sequence = _parse(event_id)
        at = None if moment is None else int(moment.timestamp() * 1000)
        for commit in self._journal.read(0, self.head):
            if at is not None and commit.at >= at:
                return commit.number - 1
            if event_id is not None and _has(commit, shard, sequence):
                return commit.number - 1
        if event_id is not None:
            raise PublishError(
                f"expected an entry up to commit {self.head}, got {event_id}"
            )
        return self.head

    def move(
        self, engine: str, commit: int, advance: Advance, *, forward: bool
    ) -> Move:
        """Goes on behind `commit`. Raises PublishError for one that is not there, or
        in the wrong direction."""
        if engine not in self.names:
            known = " or ".join(self.names) or "but there is none"
            raise PublishError(f"expected an engine, {known}, got {engine}")
        if not 0 <= commit <= self.head:
            raise PublishError(
                f"expected a commit up to {self.head}, the last answered, got {commit}"
            )
        files = self._files(engine)
        before = self.report(engine).commit
        if before is not None and (commit < before if forward else commit > before):
            other = "rewind" if forward else "skip"
            side = "behind" if forward else "before"
            raise PublishError(
                f"expected a commit {side} {before}, where "
                f"{engine} is, got {commit}: `switch publish {other}` is for that"
            )
        position = self._position_at(commit, advance)
        try:
            with files:
                files.ask_to_move(position)
                files.obey()
                return Move(engine, before, commit, done=True)
        except PublishError:
            files.ask_to_move(position)
        deadline = time.monotonic() + OBEYED_SECONDS_MAX
        while files.is_asked_to_move() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return Move(engine, before, commit, done=not files.is_asked_to_move())

    def forget(self, engine: str) -> Forgotten:
        """As if it had never published; what it refused stays for whoever mends it."""
        if engine in self._configured:
            raise PublishError(
                f"expected an engine that is not configured any more, got {engine}"
            )
        if engine not in self.names:
            known = " or ".join(self.names) or "but there is none"
            raise PublishError(
                f"expected an engine that has a position, {known}, got {engine}"
            )
        entries = self.report(engine).entries
        with self._files(engine) as files:
            files.forget()
        return Forgotten(engine, entries)

    def _files(self, engine: str) -> PositionFiles:
        return PositionFiles(self._publish, engine, self._journal.identity)

    def _position_at(self, commit: int, advance: Advance) -> EnginePosition:
        shards: dict[int, int] = {}
        for each in self._journal.read(0, commit) if commit else ():
            for record in each.records:
                shards[record.shard] = record.first_sequence + record.count - 1
            advance(each.number / commit, f"commit {each.number:,}")
        return EnginePosition(self._journal.identity.hex(), commit, shards)


def _parse(event_id: str | None) -> tuple[int, int]:
    if event_id is None:
        return -1, -1
    shard, separator, sequence = event_id.partition("-")
    if not (separator and shard.isdecimal() and sequence.isdecimal()):
        raise PublishError(f"expected an id, SHARD-SEQUENCE, got {event_id}")
    return int(shard), int(sequence)


def _has(commit: Commit, shard: int, sequence: int) -> bool:
    return any(
        record.shard == shard
        and record.first_sequence <= sequence < record.first_sequence + record.count
        for record in commit.records
    )
