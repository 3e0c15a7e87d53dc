"""Opening an epoch of a shard, and ending one's own: each one conditional write.

A conditional write whose outcome is unknown may still be applied at any later time. So
it is repeated unchanged and looked after, and never replaced by another one.
"""

from __future__ import annotations

from switch.journal.cassandra.retrying import Patience, settled
from switch.journal.cassandra.store import Epoch, EpochId, LogStore
from switch.journal.errors import JournalDamaged


async def open_epoch(store: LogStore, epoch: Epoch, patience: Patience) -> bool:
    """Whether it is the shard's current one, its parent having been until then."""

    async def attempt() -> bool:
        if await store.open_epoch(epoch):
            return True
        # Refused: by somebody else's, or by an earlier attempt of this very call.
        return (await store.read_epochs(epoch.shard)).current == epoch.id

    return await settled(attempt, patience)


async def seal_epoch(
    store: LogStore, shard: int, epoch: EpochId, end: int, patience: Patience
) -> None:
    """A planned end. Its owner alone does this, once, so there is nothing to agree on:
    refused means that an earlier attempt was applied."""

    async def attempt() -> int | None:
        if await store.seal_epoch(shard, epoch, end):
            return end
        for other in (await store.read_epochs(shard)).epochs:
            if other.id == epoch:
                return other.sealed_at
        return None

    stored = await settled(attempt, patience)
    if stored != end:
        raise JournalDamaged(
            f"epoch {epoch.number} of shard {shard} was sealed by somebody else",
            expected=end,
            got=stored,
        )
