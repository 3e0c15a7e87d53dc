"""The end of another session's log, agreed upon by all who ask.

In this order, and no other: write the fence; read the tail; write back; seal.

- Behind the fence the session releases nothing that was not acknowledged before the
  fence was there, and what was acknowledged by then, the tail read afterwards has.
- A commit that only one replica has may be read by one successor and not by the next:
  so what counts is brought to a quorum before the seal says that it counts.
- The seal is conditional: whoever comes second takes the end that is there.
"""

from __future__ import annotations

from functools import partial

from switch.journal.cassandra import log
from switch.journal.cassandra.log import Stored
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import LogStore, Position
from switch.journal.errors import JournalError, JournalMissing

# Segments are dropped days after they were read by everybody: a tail that they are
# dropped from while it is read is a wonder already.
TAIL_READS_MAX = 16


async def end_session(
    store: LogStore, session: str, fenced_by: str, patience: Patience = PATIENCE
) -> int:
    """The number of the last commit that counts, for ever. Nothing that the session
    does from now on changes it, and it answers nothing more. Raises JournalUnknown when
    Cassandra does not answer; then it may be tried again."""
    row = await settled(lambda: store.read_session(session), patience)
    if row is None:
        raise JournalMissing("no such session", path=log.place(session))
    if row.sealed_at is not None:
        return row.sealed_at
    # Also when somebody else has: theirs may be on one replica only.
    await settled(lambda: store.write_fence(session, fenced_by), patience)
    end, last = await read_tail(store, session, patience)
    if last is not None:
        await write_back(store, session, last, patience)
    return await seal(store, session, end, patience)


async def read_tail(
    store: LogStore, session: str, patience: Patience
) -> tuple[int, Stored | None]:
    """The last commit of the longest prefix without a gap: its number, and what lies
    there unless it was released for sure."""
    for _ in range(TAIL_READS_MAX):
        start = await log.start_of(store, session, patience)
        position, last = await _read_on(store, session, start, patience)
        if not await log.is_dropped(store, session, start, patience):
            return position.number, last
    raise JournalError(
        "the log is dropped faster than it can be read", path=log.place(session)
    )


async def _read_on(
    store: LogStore, session: str, position: Position, patience: Patience
) -> tuple[Position, Stored | None]:
    last: Stored | None = None
    while batch := await settled(
        partial(log.read_batch, store, session, position), patience
    ):
        last = batch[-1]
        position = last.position
    return position, last


async def write_back(
    store: LogStore, session: str, last: Stored, patience: Patience
) -> None:
    """The last commit alone: it was begun when all before it had been released."""
    segment = last.position.segment
    for part in last.parts:
        await settled(partial(store.insert_part, session, segment, part), patience)


async def seal(store: LogStore, session: str, end: int, patience: Patience) -> int:
    async def attempt() -> int | None:
        if await store.seal_session(session, end):
            return end
        row = await store.read_session(session)
        return None if row is None else row.sealed_at

    agreed = await settled(attempt, patience)
    if agreed is None:
        raise JournalError(
            "a session that is neither sealed nor can be", path=log.place(session)
        )
    return agreed
