"""A session's log as it is read: commits of one part or more, over segments.

The commit behind position (segment, number) is in that segment or the first of the
next one, and a segment has one commit at least. So a log is walked without a list of
its segments, and it ends where neither has the next commit whole.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from typing import NoReturn

import msgspec

from switch.journal import record as codec
from switch.journal.cassandra.chains import Moved, Span
from switch.journal.cassandra.retrying import Patience, settled
from switch.journal.cassandra.store import (
    COMMIT_BYTES_MAX,
    PART_BYTES_MAX,
    READ_PARTS_MAX,
    LogStore,
    Part,
    Position,
)
from switch.journal.errors import JournalDamaged, JournalError
from switch.journal.port import Commit

# Marks: the log is whole up to there; nothing before it is stored any more.
RELEASED = "released"
FLOOR = "floor"


class Stored(msgspec.Struct, frozen=True):
    """A whole commit, as it lies there."""

    position: Position
    parts: tuple[Part, ...]

    @property
    def data(self) -> bytes:
        return b"".join([part.data for part in self.parts])


def split(number: int, data: bytes) -> tuple[Part, ...]:
    if len(data) > COMMIT_BYTES_MAX:
        raise JournalError(
            "commit too large",
            commit=number,
            expected=f"at most {COMMIT_BYTES_MAX} bytes",
            got=f"{len(data)} bytes",
        )
    if len(data) <= PART_BYTES_MAX:
        return (Part(number, 0, 1, data),)
    pieces = [
        data[at : at + PART_BYTES_MAX] for at in range(0, len(data), PART_BYTES_MAX)
    ]
    return tuple(
        [Part(number, index, len(pieces), piece) for index, piece in enumerate(pieces)]
    )


async def read_batch(store: LogStore, session: str, position: Position) -> list[Stored]:
    """Some commits behind `position`, in order and without a gap; none when the next
    one is not there, or not whole."""
    for segment in (position.segment, position.segment + 1):
        parts = await store.read_parts(
            session, segment, position.number, READ_PARTS_MAX
        )
        batch = _whole(segment, position.number, parts)
        if batch:
            return batch
    return []


def _whole(segment: int, number: int, parts: list[Part]) -> list[Stored]:
    batch: list[Stored] = []
    at = 0
    while at < len(parts):
        first = parts[at]
        group = tuple(parts[at : at + first.count])
        expected = [(number + 1, index) for index in range(first.count)]
        if [(part.number, part.index) for part in group] != expected:
            break
        number += 1
        batch.append(Stored(Position(segment, number), group))
        at += first.count
    return batch


def decode(session: str, stored: Stored, previous: int | None) -> tuple[Commit, int]:
    """The commit and its checksum; JournalDamaged when it is not what was written."""
    return codec.decode(stored.data, stored.position.number, previous, place(session))


def decoded(
    session: str, batch: Iterable[Stored], end: int
) -> Iterator[tuple[Position, Commit]]:
    """Of one reading: those up to commit `end`, and where each lies. Raises
    JournalDamaged."""
    previous: int | None = None
    for stored in batch:
        if stored.position.number > end:
            return
        commit, previous = decode(session, stored, previous)
        yield stored.position, commit


async def between(
    store: LogStore, session: str, start: Position, end: int, patience: Patience
) -> AsyncIterator[tuple[Position, Commit]]:
    """All behind `start` up to commit `end`, which counts. Raises as `explain_gap` does
    when one is not there."""
    at, previous = start, None
    while at.number < end:
        batch = await settled(partial(read_batch, store, session, at), patience)
        if not batch:
            await explain_gap(store, session, at, end, patience)
        for stored in batch:
            if stored.position.number > end:
                return
            commit, previous = decode(session, stored, previous)
            at = stored.position
            yield at, commit


def place(session: str) -> str:
    """Of a log, for errors."""
    return f"session {session}"


def genesis(session: str) -> int:
    """What commit 1 of a session names as its predecessor's checksum."""
    return zlib.crc32(session.encode())


async def start_of(store: LogStore, session: str, patience: Patience) -> Position:
    """From where a log can be read, all commits before it having been released."""
    floor = await _read_mark(store, session, FLOOR, patience)
    released = await _read_mark(store, session, RELEASED, patience)
    return max([Position(0, 0), *[mark for mark in (floor, released) if mark]])


async def is_dropped(
    store: LogStore, session: str, start: Position, patience: Patience
) -> bool:
    """Whether something behind `start` was dropped before now. To be asked *after* it
    was read: what is dropped is named first, so a reading that lacks it finds out."""
    floor = await _read_mark(store, session, FLOOR, patience)
    return floor is not None and floor.number > start.number


async def above_floors(
    store: LogStore, spans: Sequence[Span], patience: Patience
) -> list[Span]:
    """The spans without what was dropped of their logs.

    An epoch may say that it begins below the floor, if it was opened when that was
    raised already: nothing of its shard is there."""
    found = []
    for span in spans:
        floor = await _read_mark(store, span.session, FLOOR, patience)
        start = span.start if floor is None else max(span.start, floor)
        found.append(Span(span.epoch, start, span.end))
    return found


def are_cut(spans: Sequence[Span], above: Sequence[Span]) -> bool:
    """Whether a part of the spans was dropped, of which `above` is what is there."""
    return any(
        min(now.start.number, was.end) > was.start.number
        for was, now in zip(spans, above, strict=True)
    )


async def _read_mark(
    store: LogStore, session: str, kind: str, patience: Patience
) -> Position | None:
    return await settled(lambda: store.read_mark(session, kind), patience)


async def explain_gap(
    store: LogStore, session: str, position: Position, end: int, patience: Patience
) -> NoReturn:
    """What is not there, below an end that counts, was dropped, which is told by the
    floor: raises Moved. Or it is lost: raises JournalDamaged."""
    if await is_dropped(store, session, position, patience):
        raise Moved
    raise JournalDamaged(
        "a commit is missing below the end",
        path=place(session),
        commit=position.number + 1,
        expected=f"all commits up to {end}",
        got=f"those up to {position.number}",
    )
