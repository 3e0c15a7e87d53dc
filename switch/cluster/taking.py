"""Taking shards that nobody has: their keys, and what they are, at the same time.

      keys in etcd ───────────┐
                              ├──► an epoch of the journal for each ──► states
      epochs, checkpoint, log ┘

Rule 1: what is read beside may be older than the key. It counts if the journal's epoch
        opens behind the very one that was read; else it is read again.
Rule 2: nobody is fenced before the key is held: etcd prevents duels.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from switch.cluster.port import Grant
from switch.journal.errors import JournalError, JournalUnknown
from switch.ledger import Limits, State
from switch.observe.log import event
from switch.ownership.port import OwnershipError

_log = logging.getLogger("switch.cluster")


class Acquiring(Protocol):
    """Of `switch.cluster.port.ShardOwnership`."""

    async def acquire(self, shard: int) -> Grant: ...


class Reading(Protocol):
    """Of `switch.cluster.port.JournalSession`."""

    async def read_ahead(self, shards: Sequence[int], limits: Limits, /) -> None: ...

    async def take(
        self, shards: Mapping[int, int], limits: Limits, /
    ) -> dict[int, State]: ...

    def forget_ahead(self) -> None:
        """What was read ahead."""


async def take(
    ownership: Acquiring, journal: Reading, shards: Sequence[int], limits: Limits
) -> dict[int, State | None]:
    """Of each shard that it has now its state; None for one whose key is held and that
    the journal gave to somebody else meanwhile: it is to be released. What is missing
    may be taken later, and the log says why."""
    acquired, _ = await asyncio.gather(
        asyncio.gather(*(_acquire(ownership, shard) for shard in shards)),
        journal.read_ahead(shards, limits),
    )
    granted = {
        shard: grant.create_revision
        for shard, grant in zip(shards, acquired, strict=True)
        if grant is not None
    }
    if not granted:
        journal.forget_ahead()
        return {}
    try:
        states = await journal.take(granted, limits)
    except JournalError as error:
        _say_not_taken(granted, error)
        if isinstance(error, JournalUnknown) or len(granted) == 1:
            return {}
        return await _one_by_one(journal, granted, limits)
    return {shard: states.get(shard) for shard in granted}


async def _one_by_one(
    journal: Reading, granted: Mapping[int, int], limits: Limits
) -> dict[int, State | None]:
    """One that cannot be read does not keep the others."""
    taken: dict[int, State | None] = {}
    for shard, number in granted.items():
        try:
            states = await journal.take({shard: number}, limits)
        except JournalError as error:
            _say_not_taken([shard], error)
        else:
            taken[shard] = states.get(shard)
    return taken


def _say_not_taken(shards: Iterable[int], error: JournalError) -> None:
    event(
        _log, logging.WARNING, "shards not taken over yet",
        shards=",".join(map(str, shards)), reason=error,
    )  # fmt: skip


async def _acquire(ownership: Acquiring, shard: int) -> Grant | None:
    try:
        return await ownership.acquire(shard)
    except OwnershipError as error:
        event(_log, logging.INFO, "shard not taken", shard=shard, reason=error)
        return None
