"""From checkpoints and logs to the states of shards.

A log is read once for all shards that have a span in it, and each record goes to its
shard. Nothing is repaired: what does not fit ends it with a text that says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import msgspec

from switch.journal.cassandra import checkpoints, log
from switch.journal.cassandra.chains import Chain, Moved, Span, behind
from switch.journal.cassandra.retrying import (
    PATIENCE,
    Patience,
    all_of,
    together,
)
from switch.journal.cassandra.store import LogStore
from switch.journal.errors import JournalDamaged
from switch.journal.port import Commit, ShardRecord
from switch.ledger import EntryError, Limits, State, StateError, apply_payload, restore


class _Work(msgspec.Struct):
    """A shard on its way: its state, and what is still to be read."""

    state: State
    spans: list[Span]


async def recover(
    store: LogStore,
    chains: Sequence[Chain],
    limits: Limits,
    patience: Patience = PATIENCE,
) -> dict[int, State]:
    """The state of each shard at the end of its chain. Raises Moved when a shard, or
    the floor of a log, is not where it was when its chain was read."""
    begun = await all_of(
        [partial(_begin, store, chain, limits, patience) for chain in chains]
    )
    works = {work.state.shard: work for work in begun}
    # A shard's spans are read in order; those of different shards in the same log
    # together: nearly always there is one round.
    while any(work.spans for work in works.values()):
        round_: dict[str, dict[int, Span]] = {}
        for shard, work in works.items():
            if work.spans:
                span = work.spans.pop(0)
                round_.setdefault(span.session, {})[shard] = span
        for session, spans in round_.items():
            await _read(store, session, spans, works, patience)
    return {shard: work.state for shard, work in works.items()}


async def rest_of(
    store: LogStore, chain: Chain, limits: Limits, patience: Patience = PATIENCE
) -> tuple[Chain, State]:
    """What is behind the shard's checkpoint, and its state there. Raises Moved."""
    work = await _begin(store, chain, limits, patience)
    return Chain(chain.shard, chain.newest, tuple(work.spans)), work.state


async def _begin(
    store: LogStore, chain: Chain, limits: Limits, patience: Patience
) -> _Work:
    head = await checkpoints.read_head(store, chain.shard, patience)
    found, spans = await together(
        checkpoints.read(store, chain.shard, patience),
        _spans(store, chain, head, patience),
    )
    if (None if found is None else found[0]) != head:
        await _expect_another(store, chain.shard, patience)
    if found is None:
        return _Work(State(chain.shard, limits), spans)
    return _Work(state_of(*found, limits), spans)


async def _spans(
    store: LogStore,
    chain: Chain,
    head: checkpoints.Checkpoint | None,
    patience: Patience,
) -> list[Span]:
    """What is to be read behind that checkpoint."""
    spans = behind(chain, None if head is None else head.start)
    spans = await log.above_floors(store, spans, patience)
    # Asked again behind the floors: what is below them is in this checkpoint, then.
    if await checkpoints.read_head(store, chain.shard, patience) != head:
        await _expect_another(store, chain.shard, patience)
    return spans


async def _expect_another(store: LogStore, shard: int, patience: Patience) -> NoReturn:
    """A checkpoint that was read twice and differed may be on one replica only, and be
    read or not: now it will be read. Raises Moved."""
    await checkpoints.settled_head(store, shard, patience)
    raise Moved


def state_of(head: checkpoints.Checkpoint, data: bytes, limits: Limits) -> State:
    """What a checkpoint holds."""
    try:
        state = restore(data, limits)
    except StateError as error:
        raise JournalDamaged(f"checkpoint of shard {head.shard}: {error}") from error
    if (state.shard, state.sequence) != (head.shard, head.sequence):
        raise JournalDamaged(
            f"checkpoint of shard {head.shard} holds another state",
            expected=f"shard {head.shard} after entry {head.sequence}",
            got=f"shard {state.shard} after entry {state.sequence}",
        )
    return state


async def _read(
    store: LogStore,
    session: str,
    spans: dict[int, Span],
    works: dict[int, _Work],
    patience: Patience,
) -> None:
    """One log, from the first of the spans' positions to the last of their ends."""
    left = {
        shard: span for shard, span in spans.items() if span.start.number < span.end
    }
    if not left:
        return
    start = min(span.start for span in left.values())
    end = max(span.end for span in left.values())
    async for _, commit in log.between(store, session, start, end, patience):
        _give(session, commit, left, works)


def _give(
    session: str, commit: Commit, spans: dict[int, Span], works: dict[int, _Work]
) -> None:
    for record in commit.records:
        span = spans.get(record.shard)
        if span is not None and span.start.number < commit.number <= span.end:
            replay(works[record.shard].state, record, session, commit.number)


def replay(state: State, record: ShardRecord, session: str, commit: int) -> None:
    """What the state has already, from its checkpoint, is left out."""
    if record.first_sequence > state.sequence + 1:
        raise JournalDamaged(
            f"entries of shard {record.shard} are missing",
            path=log.place(session),
            commit=commit,
            expected=f"entry {state.sequence + 1}",
            got=f"entry {record.first_sequence}",
        )
    last = record.first_sequence + record.count - 1
    if last <= state.sequence:
        return
    try:
        apply_payload(state, record.payload, record.first_sequence)
    except (EntryError, StateError) as error:
        raise JournalDamaged(
            f"shard {record.shard}: {error}", path=log.place(session), commit=commit
        ) from error
    if state.sequence != last:
        raise JournalDamaged(
            f"record of shard {record.shard} is not as long as it says",
            path=log.place(session),
            commit=commit,
            expected=f"{record.count} entries",
            got=state.sequence - record.first_sequence + 1,
        )
