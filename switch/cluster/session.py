"""One session of a node, from its beginning until it is lost or left.

    begin, join ──► reconcile ◄──► wait for news ──► leave: all is given up
                        │ take what is wanted here and nobody has
                        │ give up what is wanted elsewhere
                        ▼
                     lost: nothing that is not told yet is told any more

Rule 1: a shard is opened when its owner's key is held and its epoch in the journal is
        this session's.
Rule 2: a shard is given up in this order: nothing more is decided for it here; what was
        is told; its state is written; its epoch is sealed; its key is released.
        Messages for it wait meanwhile, for its next owner.
Rule 3: whatever says that the session is over ends it: a commit that failed, a lease
        that ran out by this machine's own clock, a key that is somebody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from switch.cluster import taking
from switch.cluster.counts import NodeCounts
from switch.cluster.errors import SessionLost
from switch.cluster.port import (
    Beside,
    Follower,
    JournalSession,
    Member,
    ShardOwnership,
)
from switch.cluster.states import StateWriter
from switch.journal.errors import JournalError
from switch.journal.port import ShardRecord
from switch.ledger import Limits
from switch.observe.log import event
from switch.ownership.port import OwnershipError
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup, Shard
from switch.shard.session_committer import SessionCommitter

# Between two looks at what should be where, if nobody tells of a change; the first one
# behind an attempt that failed, and then twice as long each time.
RECONCILE_S = 1.0
RETRY_FIRST_S = 0.05
# Between two looks at the lease.
LEASE_LOOK_S = 0.1
# Shards taken over in one go: the first ones answer before the last ones are read.
TAKEN_AT_ONCE_MAX = 16
# Planned moves at once: those that move answer nobody meanwhile.
MOVES_MAX = 4

_log = logging.getLogger("switch.cluster")


class NodeSession:
    def __init__(
        self,
        node: str,
        group: CommitGroup,
        directory: CardDirectory,
        ownership: ShardOwnership,
        journal: JournalSession,
        limits: Limits,
        *,
        changed: Callable[[], None],
        every_entries: int,
        counts: NodeCounts | None = None,
        follower: Follower | None = None,
        beside: Beside | None = None,
    ) -> None:
        """`changed()` is told when a shard has come or gone, anywhere.
        `every_entries`: so many entries of a shard, and its state is written again.
        `beside`: what else goes on in a session."""
        self.opened: set[int] = set()
        self.ownership = ownership
        self._node = node
        self._group = group
        self._directory = directory
        self._journal = journal
        self._counts = NodeCounts() if counts is None else counts
        self._committer = SessionCommitter(
            journal, times=self._counts.commits, check=self._check_lease
        )
        self._committer.start(self._committed, self.lost)
        self._limits = limits
        self._changed = changed
        self._states = StateWriter(group, journal, self._told, every_entries)
        self._follower = follower
        self._beside = beside
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()
        self._is_leaving = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- its life

    async def run(self) -> None:
        """Returns when it was left. Raises what ended it otherwise."""
        # What came since the session before was over is nobody's to tell, and would
        # wait for ever, and keep waiting what comes now.
        self._group.reset(SessionLost("another session begins"))
        try:
            # In this order: of a session that is in the journal and that no node has,
            # others think that it was lost.
            await self.ownership.join()
            await self._journal.begin()
            for work in (self._listen(), self._watch_lease(), self._states.run()):
                self._spawn(work)
            if self._follower is not None:
                self._spawn(self._follower.run())
            if self._beside is not None:
                self._spawn(self._beside(self.ownership, self._journal))
            work_ended = asyncio.create_task(self._reconcile_until_left())
            await asyncio.wait(
                (work_ended, self._over), return_when=asyncio.FIRST_COMPLETED
            )
            if self._over.done():
                work_ended.cancel()
                await asyncio.gather(work_ended, return_exceptions=True)
                self._over.result()
            work_ended.result()
            self._is_leaving = True
            await self.ownership.leave()
        finally:
            await self._end()

    def leave(self) -> None:
        """Gives up everything, and is over then."""
        self._is_leaving = True
        self._news.set()

    def lost(self, error: Exception) -> None:
        """From now on nothing is told any more."""
        if self._over.done():
            return
        self._committer.stop(error)
        for shard in tuple(self.opened):
            self._directory.close_shard(shard)
        self.opened.clear()
        self._group.reset(error)
        self._over.set_exception(error)
        self._changed()

    def submit(self, at: int, records: list[ShardRecord]) -> None:
        """See `CommitGroup`."""
        self._committer.submit(at, records)

    def owner_of(self, shard: int) -> str | None:
        if shard in self.opened:
            return self._node
        owner = self.ownership.owner(shard)
        return None if owner is None else owner.member.node

    async def _end(self) -> None:
        # Whatever raised: what has not been told is not told.
        if not self._over.done():
            self.lost(SessionLost("the session has ended"))
        self._over.exception()
        await self._committer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._is_leaving:
            try:
                await self.ownership.leave()
            except OwnershipError as error:
                event(_log, logging.INFO, "lease left to run out", reason=error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._work_ended)

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, Exception)
            self.lost(error)

    def _committed(self, number: int, records: Sequence[ShardRecord]) -> None:
        self._group.committed(number)
        if self._follower is not None:
            self._follower.told(records)

    # -- what may end it

    async def _listen(self) -> None:
        async for _ in self.ownership.events():
            self._news.set()
            self._changed()
        if not self._is_leaving:
            raise SessionLost("the owners' session has ended")

    async def _watch_lease(self) -> None:
        while True:
            self._check_lease()
            await asyncio.sleep(LEASE_LOOK_S)

    def _check_lease(self) -> None:
        if self.ownership.now() >= self.ownership.is_valid_until():
            raise SessionLost("the lease has run out")
        for shard in self.opened:
            if self.ownership.held(shard) is None:
                raise SessionLost(f"shard {shard} is held no more")

    # -- what should be where

    async def _reconcile_until_left(self) -> None:
        pause_s = RETRY_FIRST_S
        while not self._is_leaving:
            self._news.clear()
            await self._give_up(self._unwanted())
            await self._take(self._missing())
            # Somebody may be waiting for what could not be taken, and nobody has.
            is_whole = not self._missing()
            try:
                async with asyncio.timeout(RECONCILE_S if is_whole else pause_s):
                    await self._news.wait()
            except TimeoutError:
                pass
            pause_s = RETRY_FIRST_S if is_whole else min(2 * pause_s, RECONCILE_S)
        await self._give_up(sorted(self.opened))

    def _unwanted(self) -> list[int]:
        return [shard for shard in sorted(self.opened) if not self._is_wanted(shard)]

    def _missing(self) -> list[int]:
        """Wanted here, and nobody else's."""
        return [
            shard
            for shard in range(self._group.shard_count)
            if shard not in self.opened
            and self._is_wanted(shard)
            and self.owner_of(shard) in (None, self._node)
        ]

    def _is_wanted(self, shard: int) -> bool:
        wanted = self.ownership.wanted(shard)
        return wanted is None or wanted.node == self._node

    async def _take(self, shards: Sequence[int]) -> None:
        for at in range(0, len(shards), TAKEN_AT_ONCE_MAX):
            if self._is_leaving:
                return
            await self._take_some(shards[at : at + TAKEN_AT_ONCE_MAX])

    async def _take_some(self, shards: Sequence[int]) -> None:
        started = asyncio.get_running_loop().time()
        taken = await taking.take(self.ownership, self._journal, shards, self._limits)
        if self._over.done():
            return  # lost in this very turn: nothing may be opened any more
        for shard, state in taken.items():
            if state is None:
                continue
            self._group.open_shard(state)
            self._directory.open_shard(state)
            self.opened.add(shard)
            if self._follower is not None:
                self._follower.opened(state)
            self._states.opened(shard)
            sequence = state.sequence
            event(_log, logging.INFO, "shard taken", shard=shard, sequence=sequence)
            self._counts.shards_taken += 1
        for shard, state in taken.items():
            if state is None:
                await self._release(shard)
        if taken:
            self._counts.takeovers.add(asyncio.get_running_loop().time() - started)
            self._changed()

    async def _give_up(self, shards: Sequence[int]) -> None:
        for at in range(0, len(shards), MOVES_MAX):
            some = shards[at : at + MOVES_MAX]
            await asyncio.gather(*(self._give_up_one(shard) for shard in some))

    async def _give_up_one(self, number: int) -> None:
        started = asyncio.get_running_loop().time()
        self._directory.close_shard(number)
        shard = self._group.close_shard(number)
        self.opened.discard(number)
        if self._follower is not None:
            self._follower.closed(number)
        self._changed()
        await self._settle(shard)
        try:
            await self._states.write_the_rest(number)
        except JournalError as error:
            event(
                _log, logging.WARNING, "state not written: its next owner reads more",
                shard=number, reason=error,
            )  # fmt: skip
        self._states.closed(number)
        try:
            await self._journal.give_up(number)
        except JournalError as error:
            event(
                _log, logging.WARNING, "shard given up, its next owner has to find out",
                shard=number, reason=error,
            )  # fmt: skip
        await self._release(number)
        self._counts.shards_given_up += 1
        self._counts.moves.add(asyncio.get_running_loop().time() - started)
        sequence = shard.state.sequence
        event(_log, logging.INFO, "shard given up", shard=number, sequence=sequence)

    async def _settle(self, shard: Shard) -> None:
        while not shard.is_settled:
            await self._told()

    async def _release(self, shard: int) -> None:
        try:
            await self.ownership.release(shard)
        except OwnershipError as error:
            event(
                _log, logging.WARNING, "shard not released", shard=shard, reason=error
            )

    async def _told(self) -> None:
        """Until everything that has been decided is told."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.wait(told)
        await told


def others(members: Iterable[Member], node: str) -> dict[str, str]:
    """The addresses of all but this one, by name."""
    return {each.node: each.address for each in members if each.node != node}
