"""Dropping what nobody reads any more: whole segments, never rows.

Rule 1: what is dropped is named first. A reader that comes too late finds the floor of
        the log above it, and looks for a newer checkpoint, which is there.
Rule 2: a late write may bring a row of a dropped segment back. Nothing reads below the
        floor, so it stays unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from switch.journal.cassandra import checkpoints, log
from switch.journal.cassandra.chains import behind, chain_of
from switch.journal.cassandra.publishers import (
    in_use,
    read_published,
    write_published,
)
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import BEGINNING, LogStore, Position

_ALL = 2**63 - 1  # an end that no log reaches


async def tidy(
    store: LogStore,
    sessions: Iterable[str],
    shards: Sequence[int],
    publishers: Sequence[str],
    before: int,
    patience: Patience = PATIENCE,
) -> int:
    """Drops the segments of these logs that nobody needs and whose commits are older
    than `before`, in ms since 1970. How many there were."""
    # Before it is asked what is needed: a shard may come into a log when its own need
    # was asked for already. Its entries are behind what was released by now, then, or
    # behind the end, which is to say nowhere.
    ends = {}
    released = {}
    for session in sessions:
        ends[session] = await _ended_at(store, session, patience)
        released[session] = await _released(store, session, patience)
    positions = await needed(store, shards, publishers, ends, patience)
    dropped = 0
    for session, end in ends.items():
        position = positions.get(session)
        if end is None:
            position = min(released[session], position or released[session])
        if position is None:
            assert end is not None
            dropped += await _drop_ended(store, session, end, before, patience)
        else:
            dropped += await _drop_below(store, session, position, before, patience)
    return dropped


async def _released(store: LogStore, session: str, patience: Patience) -> Position:
    mark = await settled(lambda: store.read_mark(session, log.RELEASED), patience)
    return mark or BEGINNING


async def _ended_at(store: LogStore, session: str, patience: Patience) -> int | None:
    row = await settled(lambda: store.read_session(session), patience)
    return None if row is None else row.sealed_at


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
        at = await read_published(store, publisher, shard, patience)
        if at is not None:
            # To a quorum, as with the checkpoint: nobody may be behind it any more.
            await write_published(store, publisher, shard, at, patience)
        starts.append(None if at is None else at.start)
    found = await settled(lambda: store.read_epochs(shard), patience)
    chain = await chain_of(shard, found.epochs, found.current, end_of)
    spans = []
    for start in starts:
        spans += behind(chain, start)
    return [
        (span.session, span.start) for span in spans if span.start.number < span.end
    ]


async def _drop_below(
    store: LogStore, session: str, position: Position, before: int, patience: Patience
) -> int:
    floor = await settled(lambda: store.read_mark(session, log.FLOOR), patience)
    floor = floor or BEGINNING
    dropped = 0
    while floor.segment < position.segment:
        following = await _first_of(store, session, floor.segment + 1, patience)
        if following is None or following[1] >= before:
            break
        floor = Position(floor.segment + 1, following[0] - 1)
        await _drop(store, session, floor, patience)
        dropped += 1
    return dropped


async def _drop_ended(
    store: LogStore, session: str, end: int, before: int, patience: Patience
) -> int:
    """All of it, the last segment too."""
    everything = Position(_ALL, _ALL)
    dropped = await _drop_below(store, session, everything, before, patience)
    floor = await settled(lambda: store.read_mark(session, log.FLOOR), patience)
    floor = floor or BEGINNING
    first = await _first_of(store, session, floor.segment, patience)
    if floor.number >= end or first is None or first[1] >= before:
        return dropped
    await _drop(store, session, Position(floor.segment + 1, end), patience)
    return dropped + 1


async def _first_of(
    store: LogStore, session: str, segment: int, patience: Patience
) -> tuple[int, int] | None:
    """Number and time of the first commit of a segment."""
    parts = await settled(lambda: store.read_parts(session, segment, 0, 1), patience)
    if not parts:
        return None
    first = parts[0].number
    batch = await settled(
        lambda: log.read_batch(store, session, Position(segment, first - 1)), patience
    )
    if not batch:
        return None
    commit, _ = log.decode(session, batch[0], None)
    return first, commit.at


async def _drop(
    store: LogStore, session: str, floor: Position, patience: Patience
) -> None:
    await settled(lambda: store.write_mark(session, log.FLOOR, floor), patience)
    await settled(lambda: store.drop_segment(session, floor.segment - 1), patience)
