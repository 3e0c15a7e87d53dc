"""All that a cluster's journal has, from its beginning: each shard along the chain of
its epochs. Nobody is fenced for it.

Of a session that is not sealed the log is read as far as it goes. All of it was told
but perhaps the last commit, which is told or not as if it were read a moment earlier.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from switch.journal.cassandra import log, takeover
from switch.journal.cassandra.chains import Chain, Span, chain_of
from switch.journal.cassandra.retrying import PATIENCE, settled
from switch.journal.cassandra.store import LogStore
from switch.journal.errors import JournalMissing
from switch.journal.port import Commit


async def chains(store: LogStore, shard_count: int) -> list[Chain]:
    """As they are now. Raises JournalError."""
    ends: dict[str, int] = {}

    async def end_of(session: str) -> int:
        if session not in ends:
            ends[session] = await session_end(store, session)
        return ends[session]

    found = []
    for shard in range(shard_count):
        epochs = await settled(lambda: store.read_epochs(shard), PATIENCE)  # noqa: B023
        found.append(await chain_of(shard, epochs.epochs, epochs.current, end_of))
    return found


async def is_cut(store: LogStore, chain: Chain) -> bool:
    """Whether something that the chain begins with was dropped."""
    above = await log.above_floors(store, chain.spans, PATIENCE)
    return log.are_cut(chain.spans, above)


async def session_end(store: LogStore, session: str) -> int:
    """The last commit that counts, or that is there."""
    row = await settled(lambda: store.read_session(session), PATIENCE)
    if row is None:
        raise JournalMissing("no such session", path=log.place(session))
    if row.sealed_at is not None:
        return row.sealed_at
    end, _ = await takeover.read_tail(store, session, PATIENCE)
    return end


async def commits(store: LogStore, found: Sequence[Chain]) -> AsyncIterator[Commit]:
    """Each shard's records in their order, in the commits that they were in; what does
    not count is left out. Raises JournalError."""
    spans = {chain.shard: list(chain.spans) for chain in found}
    while any(spans.values()):
        round_: dict[str, dict[int, Span]] = {}
        for shard, left in spans.items():
            if left:
                span = left.pop(0)
                round_.setdefault(span.session, {})[shard] = span
        for session, of_shards in round_.items():
            async for commit in _of_session(store, session, of_shards):
                yield commit


async def _of_session(
    store: LogStore, session: str, spans: dict[int, Span]
) -> AsyncIterator[Commit]:
    spans = {n: span for n, span in spans.items() if span.start.number < span.end}
    if not spans:
        return
    start = min(span.start for span in spans.values())
    end = max(span.end for span in spans.values())
    async for _, commit in log.between(store, session, start, end, PATIENCE):
        records = tuple(
            record
            for record in commit.records
            if (span := spans.get(record.shard)) is not None
            and span.start.number < commit.number <= span.end
        )
        yield msgspec.structs.replace(commit, records=records)
