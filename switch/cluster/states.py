"""The states of this node's shards, written to the journal: whoever takes one reads
less, and the logs behind are not kept for it.

Rule 1: what is written was told. Nothing else may be in a checkpoint.
Rule 2: a shard without entries is written, too, when its checkpoint is old: where that
        stands in the logs, everything behind it is kept.
Rule 3: it is done beside the requests: one shard after the other, and of those that are
        merely old a few in a second.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

import msgspec

from switch.cluster.port import JournalSession
from switch.journal.errors import JournalError
from switch.ledger import dump
from switch.observe.log import event
from switch.shard._group import CommitGroup, Shard

LOOK_S = 1.0
# How old a checkpoint gets, if there are not more shards than can be written by then.
AGE_S_MAX = 600.0
OLD_AT_ONCE_MAX = 4

_log = logging.getLogger("switch.cluster")


class _Written(msgspec.Struct):
    """Of a shard that is here: what the checkpoint has that was written last. As long
    as it is not known there may be none, and `sequence` is what the shard came with."""

    shard: Shard
    sequence: int
    is_known: bool = False
    position: object = None
    at: float = -math.inf

    @property
    def is_behind(self) -> bool:
        return not self.is_known or self.sequence != self.shard.state.sequence


class StateWriter:
    def __init__(
        self,
        group: CommitGroup,
        journal: JournalSession,
        told: Callable[[], Awaitable[object]],
        every_entries: int,
    ) -> None:
        """`told()` returns when everything that has been decided is told."""
        self._group = group
        self._journal = journal
        self._told = told
        self._every_entries = every_entries
        self._written: dict[int, _Written] = {}

    def opened(self, number: int) -> None:
        shard = self._group.shard(number)
        self._written[number] = _Written(shard, shard.state.sequence)

    def closed(self, number: int) -> None:
        """Of what is under way, nothing more is begun."""
        self._written.pop(number, None)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for number in self._due():
                try:
                    await self.write(number)
                except JournalError as error:
                    event(
                        _log, logging.WARNING, "state not written",
                        shard=number, reason=error,
                    )  # fmt: skip

    async def write(self, number: int) -> None:
        """Raises JournalError, or what ended the session."""
        written = self._written.get(number)
        if written is None:
            return
        shard = written.shard
        sequence, position = shard.state.sequence, self._journal.position
        if not written.is_behind and written.position == position:
            written.at = asyncio.get_running_loop().time()
            return
        is_written = False
        if not written.is_known or written.sequence == sequence:
            is_written = await self._journal.renew_checkpoint(
                number, sequence, position
            )
        if not is_written:
            sequence, position = shard.state.sequence, self._journal.position
            data = dump(shard.state)
            await self._told()
            if self._written.get(number) is not written:
                return  # another epoch's by now, perhaps: this is not of it
            await self._journal.checkpoint(number, sequence, position, data)
        written.sequence, written.position = sequence, position
        written.is_known = True
        written.at = asyncio.get_running_loop().time()

    async def write_the_rest(self, number: int) -> None:
        """So that its next owner reads nothing, or as good as nothing."""
        written = self._written.get(number)
        if written is not None and written.is_behind:
            await self.write(number)

    def _due(self) -> list[int]:
        now = asyncio.get_running_loop().time()
        grown, old = [], []
        for number, written in self._written.items():
            if written.shard.state.sequence - written.sequence >= self._every_entries:
                grown.append(number)
            elif now - written.at >= AGE_S_MAX:
                old.append((written.at, number))
        return grown + [number for _, number in sorted(old)[:OLD_AT_ONCE_MAX]]
