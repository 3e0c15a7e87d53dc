"""A shard's history as spans of logs: its epochs, from one to the next by `parent`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from switch.journal.cassandra.store import Epoch, EpochId, Position, ShardEpochs
from switch.journal.errors import JournalDamaged

EndOf = Callable[[str], Awaitable[int]]


class Span(msgspec.Struct, frozen=True):
    """A shard's records in one log: behind `start`, up to commit `end`."""

    epoch: EpochId
    start: Position
    end: int

    @property
    def session(self) -> str:
        return self.epoch.session


class Chain(msgspec.Struct, frozen=True):
    """All of a shard's history up to the end of its newest sealed epoch, oldest span
    first. `newest` is what a successor names as its parent."""

    shard: int
    newest: Epoch | None
    spans: tuple[Span, ...]


def lineage(shard: int, epochs: Sequence[Epoch], newest: EpochId | None) -> list[Epoch]:
    """From the first epoch to `newest`. What is not in it never counted."""
    by_id = {epoch.id: epoch for epoch in epochs}
    found: list[Epoch] = []
    at = newest
    while at is not None:
        epoch = by_id.pop(at, None)
        if epoch is None:
            raise JournalDamaged(
                f"epochs of shard {shard}",
                expected=f"epoch {at.number} of session {at.session}",
                got="none, or twice",
            )
        found.append(epoch)
        at = epoch.parent
    return found[::-1]


def current_of(epochs: ShardEpochs) -> Epoch | None:
    if epochs.current is None:
        return None
    for epoch in epochs.epochs:
        if epoch.id == epochs.current:
            return epoch
    raise JournalDamaged("the current epoch is not there", got=epochs.current)


async def chain_of(
    shard: int, epochs: Sequence[Epoch], newest: EpochId | None, end_of: EndOf
) -> Chain:
    """`end_of` a session is asked for where no planned move ended an epoch."""
    line = lineage(shard, epochs, newest)
    spans = []
    for epoch in line:
        end = epoch.sealed_at
        if end is None:
            end = await end_of(epoch.id.session)
        spans.append(Span(epoch.id, epoch.begins_after, end))
    return Chain(shard, line[-1] if line else None, tuple(spans))


Start = tuple[EpochId, Position]


def behind(chain: Chain, start: Start | None) -> list[Span]:
    """What is left to be read of it behind a position in one of its epochs."""
    if start is None:
        return list(chain.spans)
    epoch, position = start
    ids = [span.epoch for span in chain.spans]
    if epoch not in ids:
        raise Moved
    at = ids.index(epoch)
    first = chain.spans[at]
    return [
        Span(epoch, max(first.start, position), first.end),
        *chain.spans[at + 1 :],
    ]


class Moved(Exception):  # noqa: N818 -- what happened, not what is wrong
    """The shard has moved on since it was looked at: to be read again."""
