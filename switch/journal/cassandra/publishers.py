"""How far a publisher is with each shard, and what it may publish next.

What was released may be published: commits of one's own session up to `released`, and
those of ended epochs up to their end. Nothing merely read or acknowledged.
"""

from __future__ import annotations

import struct

import msgspec

from switch.journal.cassandra import log
from switch.journal.cassandra.chains import Chain, Moved, Span, behind
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import EpochId, LogStore, Position
from switch.journal.errors import JournalDamaged
from switch.journal.port import Commit, ShardRecord

_ORDER = struct.Struct(">QQ")


class Published(msgspec.Struct, frozen=True, array_like=True):
    """Entries of the shard up to `sequence` are out; the next one is behind the
    position, in the epoch or one after it."""

    sequence: int
    epoch: int
    session: str
    segment: int
    commit: int

    def encode(self) -> bytes:
        """Of two with one sequence the one that stands further is kept, as with
        checkpoints."""
        return _ORDER.pack(self.epoch, self.commit) + msgspec.msgpack.encode(self)

    @property
    def start(self) -> tuple[EpochId, Position]:
        return EpochId(self.epoch, self.session), Position(self.segment, self.commit)


async def write_published(
    store: LogStore,
    publisher: str,
    shard: int,
    published: Published,
    patience: Patience = PATIENCE,
) -> None:
    """To be called when the entries are out: what is out twice does no harm."""
    data = published.encode()
    await settled(
        lambda: store.write_published(publisher, shard, published.sequence, data),
        patience,
    )


async def read_published(
    store: LogStore, publisher: str, shard: int, patience: Patience = PATIENCE
) -> Published | None:
    data = await settled(lambda: store.read_published(publisher, shard), patience)
    if data is None:
        return None
    try:
        return msgspec.msgpack.decode(data[_ORDER.size :], type=Published)
    except msgspec.DecodeError as error:
        raise JournalDamaged(
            f"position of {publisher} in shard {shard}: {error}"
        ) from error


async def read_on(
    store: LogStore, publisher: str, chain: Chain, patience: Patience = PATIENCE
) -> tuple[list[tuple[int, ShardRecord]], Published | None]:
    """Some of the shard's records behind where the publisher is, with their times, and
    the position behind them; None: there is no more in the chain. Raises Moved when
    another one publishes the shard, too.

    A record may begin before that position, in part: the entries up to the sequence of
    `read_published` are out."""
    published = await read_published(store, publisher, chain.shard, patience)
    spans = behind(chain, None if published is None else published.start)
    spans = await log.above_floors(store, spans, patience)
    if await read_published(store, publisher, chain.shard, patience) != published:
        raise Moved
    sequence = 0 if published is None else published.sequence
    for span in spans:
        if span.start.number >= span.end:
            continue
        commits = await _commits(store, span, patience)
        records = [
            (commit.at, record)
            for _, commit in commits
            for record in commit.records
            if record.shard == chain.shard
            and record.first_sequence + record.count - 1 > sequence
        ]
        if records:
            last = records[-1][1]
            sequence = last.first_sequence + last.count - 1
        at = commits[-1][0]
        return records, Published(
            sequence, span.epoch.number, span.session, at.segment, at.number
        )
    return [], None


async def _commits(
    store: LogStore, span: Span, patience: Patience
) -> list[tuple[Position, Commit]]:
    """The next ones of a span; one at least."""
    batch = await settled(
        lambda: log.read_batch(store, span.session, span.start), patience
    )
    if not batch:
        await log.explain_gap(store, span.session, span.start, span.end, patience)
    commits = []
    previous: int | None = None
    for stored in batch:
        if stored.position.number > span.end:
            break
        commit, previous = log.decode(span.session, stored, previous)
        commits.append((stored.position, commit))
    return commits
