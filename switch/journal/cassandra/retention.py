"""Dropping what nobody reads any more: whole segments, never rows.

Rule 1: what is dropped is named first. A reader that comes too late finds the floor of
        the log above it, and looks for a newer checkpoint, which is there.
Rule 2: a late write may bring a row of a dropped segment back. Nothing reads below the
        floor, so it stays unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from switch.journal.cassandra import checkpoints, log
from switch.journal.cassandra.chains import Start, behind, chain_of
from switch.journal.cassandra.publishers import (
    in_use,
    read_published,
    write_published,
)
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import BEGINNING, LogStore, Position

# Of one pass; what is left goes with the next ones.
SEGMENTS_AT_ONCE_MAX = 1024
_ALL = 2**63 - 1  # an end that no log reaches


class Tidied(msgspec.Struct, frozen=True):
    """How many segments were dropped. `gone` are sessions that have ended and of whose
    logs nothing is left; `unsealed`, those that have not ended."""

    dropped: int
    gone: frozenset[str]
    unsealed: frozenset[str]


class _Log(msgspec.Struct):
    session: str
    end: int | None  # where it is sealed
    released: Position  # up to there it is, at least
    floor: Position

    @property
    def is_gone(self) -> bool:
        return self.end is not None and self.floor.number >= self.end


async def tidy(
    store: LogStore,
    sessions: Iterable[str],
    shards: Sequence[int],
    publishers: Sequence[str],
    before: int,
    patience: Patience = PATIENCE,
    segments_max: int = SEGMENTS_AT_ONCE_MAX,
) -> Tidied:
    """Drops the segments of these logs that nobody needs and whose commits are older
    than `before`, in ms since 1970; so many at most."""
    # Before it is asked what is needed: a shard may come into a log when its own need
    # was asked for already. Its entries are behind what was released by now, then, or
    # behind the end, which is to say nowhere.
    logs = [await _look(store, session, patience) for session in sessions]
    old = [each for each in logs if await _is_old(store, each, before, patience)]
    dropped = 0
    if old:
        ends = {each.session: each.end for each in logs}
        positions = await needed(store, shards, publishers, ends, patience)
        for each in old:
            limit = _limit(each, positions.get(each.session))
            most = segments_max - dropped
            dropped += await _drop_below(store, each, limit, before, most, patience)
    return Tidied(
        dropped,
        gone=frozenset([each.session for each in logs if each.is_gone]),
        unsealed=frozenset([each.session for each in logs if each.end is None]),
    )


async def _look(store: LogStore, session: str, patience: Patience) -> _Log:
    row = await settled(lambda: store.read_session(session), patience)
    released = await settled(lambda: store.read_mark(session, log.RELEASED), patience)
    floor = await settled(lambda: store.read_mark(session, log.FLOOR), patience)
    end = None if row is None else row.sealed_at
    return _Log(session, end, released or BEGINNING, floor or BEGINNING)


async def _is_old(store: LogStore, log_: _Log, before: int, patience: Patience) -> bool:
    """Whether something of it may go, if nobody needs it. In most passes nothing may,
    and nobody has to be asked."""
    if log_.end is None and log_.released.segment <= log_.floor.segment:
        return False
    return await _old_end(store, log_, before, patience) is not None


def _limit(log_: _Log, needed_from: Position | None) -> Position | None:
    """Up to where it may go; None: all of it."""
    if log_.end is None:
        return min(log_.released, needed_from or log_.released)
    return needed_from


async def needed(
    store: LogStore,
    shards: Iterable[int],
    publishers: Sequence[str],
    ends: Mapping[str, int | None],
    patience: Patience,
) -> dict[str, Position]:
    """From where each session's log is still read, by a takeover from the checkpoints
    or by a publisher that is behind them. Of a session that is not in it, nothing is.
    `ends` of sessions, as far as they are sealed."""
    publishers = await in_use(store, publishers, patience)
    positions: dict[str, Position] = {}
    for shard in shards:
        for session, position in await _needed_by(
            store, shard, publishers, ends, patience
        ):
            positions[session] = min(position, positions.get(session, position))
    return positions


async def _needed_by(
    store: LogStore,
    shard: int,
    publishers: Sequence[str],
    ends: Mapping[str, int | None],
    patience: Patience,
) -> list[tuple[str, Position]]:
    async def end_of(session: str) -> int:
        end = ends.get(session)
        return _ALL if end is None else end  # nobody is fenced for this

    # In this order: a checkpoint that is read first is of an epoch in the chain.
    head = await checkpoints.settled_head(store, shard, patience)
    starts = [None if head is None else head.start]
    for publisher in publishers:
        starts.append(await _start_of(store, publisher, shard, head, patience))
    found = await settled(lambda: store.read_epochs(shard), patience)
    chain = await chain_of(shard, found.epochs, found.current, end_of)
    spans = []
    for start in starts:
        spans += behind(chain, start)
    return [
        (span.session, span.start) for span in spans if span.start.number < span.end
    ]


async def _start_of(
    store: LogStore,
    publisher: str,
    shard: int,
    head: checkpoints.Checkpoint | None,
    patience: Patience,
) -> Start | None:
    at = await read_published(store, publisher, shard, patience)
    if at is not None:
        # To a quorum, as with the checkpoint: nobody may be behind it any more.
        await write_published(store, publisher, shard, at, patience)
    sequence = 0 if at is None else at.sequence
    if head is not None and sequence >= head.sequence:
        # What it has not got yet is behind the checkpoint. So one that has all of a
        # shard without entries does not keep the log in which the last of them was.
        return head.start
    return None if at is None else at.start


async def _drop_below(
    store: LogStore,
    log_: _Log,
    limit: Position | None,
    before: int,
    most: int,
    patience: Patience,
) -> int:
    dropped = 0
    while dropped < most and (limit is None or log_.floor.segment < limit.segment):
        end = await _old_end(store, log_, before, patience)
        if end is None:
            break
        log_.floor = Position(log_.floor.segment + 1, end)
        await _drop(store, log_.session, log_.floor, patience)
        dropped += 1
    return dropped


async def _old_end(
    store: LogStore, log_: _Log, before: int, patience: Patience
) -> int | None:
    """The last commit of the first segment that is there, if that is old enough."""
    if log_.is_gone:
        return None
    segment = log_.floor.segment
    following = await _first_of(store, log_.session, segment + 1, patience)
    if following is not None:
        number, at = following
        return number - 1 if at < before else None
    first = await _first_of(store, log_.session, segment, patience)
    if log_.end is None or first is None or first[1] >= before:
        return None
    return log_.end


async def _first_of(
    store: LogStore, session: str, segment: int, patience: Patience
) -> tuple[int, int] | None:
    """Number and time of the first commit of a segment."""
    parts = await settled(lambda: store.read_parts(session, segment, 0, 1), patience)
    if parts and parts[0].count > 1:
        count = parts[0].count
        parts = await settled(
            lambda: store.read_parts(session, segment, 0, count), patience
        )
    if not parts or len(parts) < parts[0].count:
        return None
    number = parts[0].number
    stored = log.Stored(Position(segment, number), tuple(parts))
    commit, _ = log.decode(session, stored, None)
    return number, commit.at


async def _drop(
    store: LogStore, session: str, floor: Position, patience: Patience
) -> None:
    await settled(lambda: store.write_mark(session, log.FLOOR, floor), patience)
    await settled(lambda: store.drop_segment(session, floor.segment - 1), patience)
