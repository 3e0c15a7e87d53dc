"""A node's run: one log, and the shards that come into it and leave it.

Rule 1: a shard is taken when the epoch before it has ended, the new one names it as
        its parent, and all up to its end is read. Until then no entry is appended.
Rule 2: from the moment that a shard is given up, its epoch gets no entry any more,
        whatever becomes of the statement that says so.
Rule 3: a session that is over takes nothing and gives nothing. Its node begins again
        under a new name; a session's name is never used twice.
Rule 4: what is read before the new epoch is open counts if that opens behind the very
        epoch that is read, which had ended before. Else all of it is read again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from switch.journal.cassandra import checkpoints, recovery, takeover
from switch.journal.cassandra.chains import (
    Chain,
    EndOf,
    Moved,
    chain_of,
    current_of,
)
from switch.journal.cassandra.epochs import open_epoch, seal_epoch
from switch.journal.cassandra.retrying import (
    PATIENCE,
    Patience,
    all_of,
    settled,
    together,
)
from switch.journal.cassandra.store import Epoch, EpochId, LogStore, Position
from switch.journal.cassandra.writer import SessionWriter
from switch.journal.errors import JournalError, JournalUnknown
from switch.journal.port import ShardRecord
from switch.ledger import Limits, State

T = TypeVar("T")

# How often a shard may be taken by others while it is being taken here.
ATTEMPTS_MAX = 16


class _NotEnded(Exception):  # noqa: N818 -- what is so, not what is wrong
    """A session that a shard's history goes through may still be written."""


def _once(ask: Callable[[str], Awaitable[T]]) -> Callable[[str], Awaitable[T]]:
    """Asks once for each session, however many want to know it at once."""
    asked: dict[str, asyncio.Future[T]] = {}

    async def answer(session: str) -> T:
        if session not in asked:
            asked[session] = asyncio.ensure_future(ask(session))
        return await asked[session]

    return answer


def new_session_name() -> str:
    return uuid.uuid4().hex


class Session:
    def __init__(
        self,
        store: LogStore,
        writer: SessionWriter,
        node: str,
        patience: Patience = PATIENCE,
    ) -> None:
        self.writer = writer
        self.node = node
        self.epochs: dict[int, Epoch] = {}  # of the shards that it has
        self._store = store
        self._patience = patience
        # given up, and not yet known to be sealed: their epochs, and where they end
        self._leaving: dict[int, tuple[EpochId, int]] = {}
        self._opening: dict[int, Epoch] = {}  # tried, with an outcome that is unknown
        # what is read before it may be taken: histories that have ended, and then the
        # states that they lead to
        self._ahead: dict[int, Chain] = {}
        self._reading: asyncio.Task[dict[int, State]] | None = None

    @property
    def name(self) -> str:
        return self.writer.session

    async def begin(self) -> None:
        """To be called once, before anything else."""
        await settled(
            lambda: self._store.create_session(self.name, self.node), self._patience
        )

    # -- its log

    async def append(self, at: int, records: Sequence[ShardRecord]) -> int:
        """See `SessionWriter`."""
        return await self.writer.append(at, records)

    async def confirm(self) -> None:
        await self.writer.confirm()

    def stop(self, error: Exception) -> None:
        self.writer.stop(error)
        self.forget_ahead()

    @property
    def position(self) -> Position:
        """Up to where the log is released."""
        return self.writer.released

    # -- taking

    async def take(self, shards: Mapping[int, int], limits: Limits) -> dict[int, State]:
        """Takes them from whoever has them: `shards` maps each to the least number of
        its epoch. Who has one of them is fenced, unless it gave it up. Shards that
        others took meanwhile, again and again, are not in the result.

        Raises JournalError; none of them is taken then, as far as anybody here knows,
        and they may be taken again.
        """
        states: dict[int, State] = {}
        try:
            for _ in range(ATTEMPTS_MAX):
                left = [shard for shard in shards if shard not in states]
                if not left:
                    break
                states |= await self._try(left, shards, limits)
        except BaseException:
            for shard in states:
                self.epochs.pop(shard)
                self.writer.forget(shard)
            raise
        finally:
            self.forget_ahead()
        return states

    async def read_ahead(self, shards: Sequence[int], limits: Limits) -> None:
        """Begins to read what `take` of these will need, as far as that may be done
        before they are held: of those whose history has ended. Nobody is fenced, and
        nothing is raised: what fails here is tried again by `take`. The next call, and
        `take`, forget what was read and not taken."""
        self.forget_ahead()
        end_of = _once(self._sealed_end)
        try:
            found = await all_of(
                [partial(self._ended, shard, end_of) for shard in shards]
            )
        except JournalError:
            return
        chains = [chain for chain in found if chain is not None]
        if chains and self.writer.stopped is None:
            self._ahead = {chain.shard: chain for chain in chains}
            self._reading = asyncio.create_task(self._read(chains, limits))

    def forget_ahead(self) -> None:
        """What was read ahead and not taken."""
        self._ahead = {}
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _read(self, chains: Sequence[Chain], limits: Limits) -> dict[int, State]:
        """Nothing when it failed, or something has moved: it is read again."""
        try:
            return await recovery.recover(self._store, chains, limits, self._patience)
        except (Moved, JournalUnknown):
            return {}

    async def _ended(
        self, shard: int, end_of: Callable[[str], Awaitable[int | None]]
    ) -> Chain | None:
        """None if somebody may still write it, be it this session."""
        if shard in self.epochs or shard in self._leaving:
            return None

        async def known_end(session: str) -> int:
            end = await end_of(session)
            if end is None:
                raise _NotEnded
            return end

        found = await settled(lambda: self._store.read_epochs(shard), self._patience)
        try:
            return await chain_of(shard, found.epochs, found.current, known_end)
        except _NotEnded:
            return None

    async def _sealed_end(self, session: str) -> int | None:
        row = await settled(lambda: self._store.read_session(session), self._patience)
        return None if row is None else row.sealed_at

    async def _try(
        self, shards: Sequence[int], at_least: Mapping[int, int], limits: Limits
    ) -> dict[int, State]:
        self.writer.check()
        ahead, reading = self._ahead, self._reading
        self._ahead, self._reading = {}, None
        try:
            chains = await self._chains([s for s in shards if s not in ahead])
        except BaseException:
            if reading is not None:
                reading.cancel()
            raise
        known = [ahead[shard] for shard in shards if shard in ahead]
        # What has ended stays as it is: it may be read while its successor is opened.
        opened, states = await together(
            self._open([*known, *chains], at_least),
            self._states(chains, limits, reading),
        )
        taken: dict[int, State] = {}
        for epoch in opened:
            state = states.get(epoch.shard)
            if state is None:
                continue  # it is this session's, and is read again
            self.epochs[epoch.shard] = epoch
            self.writer.admit({epoch.shard: state.sequence})
            taken[epoch.shard] = state
        return taken

    async def _states(
        self,
        chains: Sequence[Chain],
        limits: Limits,
        reading: asyncio.Task[dict[int, State]] | None,
    ) -> dict[int, State]:
        """Of those, and of what is being read already."""
        try:
            states = await recovery.recover(self._store, chains, limits, self._patience)
        except Moved:
            states = {}
        return states if reading is None else states | await reading

    async def _chains(self, shards: Sequence[int]) -> list[Chain]:
        async def ended(session: str) -> int:
            return await takeover.end_session(
                self._store, session, self.name, self._patience
            )

        # Nearly always one session has to be ended for all.
        end_of = _once(ended)
        return await all_of([partial(self._chain, shard, end_of) for shard in shards])

    async def _chain(self, shard: int, end_of: EndOf) -> Chain:
        self.writer.check()
        if shard in self.epochs:
            raise JournalError(f"shard {shard} is this session's already")
        if shard in self._leaving:
            await self._seal(shard)
        found = await settled(lambda: self._store.read_epochs(shard), self._patience)
        newest = current_of(found)
        if newest is not None and self._is_mine(newest):
            chain = await chain_of(shard, found.epochs, newest.parent, end_of)
            return Chain(shard, newest, chain.spans)
        return await chain_of(shard, found.epochs, found.current, end_of)

    def _is_mine(self, newest: Epoch) -> bool:
        """Opened by an earlier call that did not get to know it: it is empty."""
        return newest.id.session == self.name and newest.sealed_at is None

    async def _open(
        self, chains: Sequence[Chain], at_least: Mapping[int, int]
    ) -> list[Epoch]:
        """Those that are this session's now."""
        epochs = [self._next_epoch(chain, at_least[chain.shard]) for chain in chains]
        opened = await all_of([partial(self._open_one, epoch) for epoch in epochs])
        return [epoch for epoch, is_open in zip(epochs, opened, strict=True) if is_open]

    async def _open_one(self, epoch: Epoch) -> bool:
        self._opening[epoch.shard] = epoch
        is_open = await open_epoch(self._store, epoch, self._patience)
        del self._opening[epoch.shard]
        return is_open

    def _next_epoch(self, chain: Chain, at_least: int) -> Epoch:
        newest = chain.newest
        if newest is not None and self._is_mine(newest):
            return newest
        parent = None if newest is None else newest.id
        tried = self._opening.get(chain.shard)
        if tried is not None and tried.parent == parent:
            return tried  # it may still be applied: the same again, or nothing
        number = max(1 if parent is None else parent.number + 1, at_least)
        return Epoch(
            chain.shard, EpochId(number, self.name), parent, self.writer.issued
        )

    # -- giving up

    async def give_up(self, shard: int) -> None:
        """A planned move: the shard's owner-to-be finds its epoch sealed, and fences
        nobody. To be called when nothing is admitted to the shard any more and nothing
        of it waits for a commit. Raises JournalError; it is given up all the same."""
        epoch = self.epochs.pop(shard)
        self.writer.forget(shard)
        await self.writer.settle()
        # Released, not merely acknowledged: it must be below any end that others seal.
        self._leaving[shard] = epoch.id, self.writer.released.number
        await self._seal(shard)

    async def _seal(self, shard: int) -> None:
        epoch, end = self._leaving[shard]
        await seal_epoch(self._store, shard, epoch, end, self._patience)
        del self._leaving[shard]

    # -- checkpoints

    async def checkpoint(
        self, shard: int, sequence: int, position: object, data: bytes
    ) -> None:
        """`data` is a dump after entry `sequence`, and `position` what `position` was
        before it was taken; all of it has been released since."""
        self.writer.check()
        assert isinstance(position, Position)
        epoch = self.epochs[shard].id
        await checkpoints.write(
            self._store, shard, sequence, epoch, position, data, self._patience
        )

    async def renew_checkpoint(
        self, shard: int, sequence: int, position: object
    ) -> bool:
        """For a shard that has had no entry since its checkpoint; else False."""
        self.writer.check()
        assert isinstance(position, Position)
        epoch = self.epochs[shard]
        return await checkpoints.renew(
            self._store, shard, sequence, epoch.id, position, self._patience
        )
