"""Up to where a session's log counts, whatever becomes of the session. Nobody is fenced
for it.

Rule 1: a commit that has another one behind it counts: that was begun when it was
        released.
Rule 2: the last one may not have been told. Brought to a quorum while no fence is
        there, it counts all the same, as docs/journal.md says of what its owner
        appends: who takes over reads behind its own fence, and finds it.
"""

from __future__ import annotations

from switch.journal.cassandra import takeover
from switch.journal.cassandra.log import Stored
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import LogStore


async def counts(
    store: LogStore, session: str, last: Stored, patience: Patience = PATIENCE
) -> bool:
    """Whether the last commit of a log does. If not, whoever has fenced the session
    decides."""
    await takeover.write_back(store, session, last, patience)
    return not await settled(lambda: store.read_fence(session), patience)


async def released_end(
    store: LogStore, session: str, patience: Patience = PATIENCE
) -> int:
    """The number of the last commit that counts for sure."""
    row = await settled(lambda: store.read_session(session), patience)
    if row is not None and row.sealed_at is not None:
        return row.sealed_at
    end, last = await takeover.read_tail(store, session, patience)
    if last is None or await counts(store, session, last, patience):
        return end
    return end - 1
