"""One run of a node in the simulation: the journal's own classes, a commit group, the
ledger; and in place of links and etcd, a world that says what to do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from switch.cluster.retention import Retention
from switch.cluster.states import StateWriter
from switch.journal.cassandra import publishers
from switch.journal.cassandra.chains import Moved
from switch.journal.cassandra.following import ShardReader
from switch.journal.cassandra.retrying import Patience
from switch.journal.cassandra.session import Session
from switch.journal.cassandra.store import Position
from switch.journal.cassandra.writer import SessionWriter
from switch.journal.errors import (
    JournalFenced,
    JournalStopped,
    JournalUnknown,
)
from switch.ledger import AccountOpened, CardIssued, Limits, Request, State
from switch.shard._group import CommitGroup
from switch.shard.session_committer import SessionCommitter
from tests.simulation.cassandra import Client
from tests.simulation.journal_auditor import Answer
from tests.simulation.scripted_loop import ScriptedProcess

if TYPE_CHECKING:
    from tests.simulation.journal_world import World

NOW = 1_764_000_000_000  # 2025-11-24T16:00:00Z
STERLING = 826
BALANCE = 3_000
SHARD_COUNT = 2
SEGMENT_COMMITS = 4
PUBLISHER = "out"
LATER = 2**62  # than all that was ever written
ENTRIES_MAX = 3  # of one reading
PATIENCE = Patience(seconds_max=0.4, pause_first_s=0.002, pause_max_s=0.02)
# What Cassandra and other sessions may do to a node; anything else is a fault.
EXPECTED = (JournalUnknown, JournalFenced, JournalStopped)


def pan_hash(shard: int) -> bytes:
    return bytes([shard]) * 16


class Node:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process = ScriptedProcess(world.loop, name)
        self.store = Client(world.cassandra)
        self.writer = SessionWriter(
            self.store,
            name,
            SHARD_COUNT,
            patience=PATIENCE,
            segment_commits=SEGMENT_COMMITS,
        )
        self.session = Session(self.store, self.writer, name, PATIENCE)
        self.committer = SessionCommitter(self.session)
        self.limits = Limits(transactions_max=1000)
        self.group = CommitGroup(
            [State(shard, self.limits) for shard in range(SHARD_COUNT)],
            submit=self.committer.submit,
            schedule=world.loop.call_soon,
            released=lambda number: None,
            clock=self.now,
            monotonic=world.loop.time,
            confirms=True,
        )
        self.retention = Retention(
            self.store,
            SHARD_COUNT,
            kept_ms=0,
            clock=lambda: LATER,
            readers=[PUBLISHER],
            patience=PATIENCE,
        )
        self.states = StateWriter(
            self.group, self.session, self._released, every_entries=1
        )
        self.owned: set[int] = set()
        self.reader = self.new_reader()
        self.published: dict[int, int] = {}  # the epochs that the reader has
        self.is_publishing = False
        self.is_busy = True  # with a change of owner
        self.is_over = False
        self.process.start(self._begin())

    def now(self) -> int:
        return NOW + int(self.world.loop.time() * 1000)

    @property
    def is_alive(self) -> bool:
        return not (self.is_over or self.process.is_dead)

    async def _begin(self) -> None:
        self.committer.start(
            lambda number, records: self.group.committed(number), self._failed
        )
        try:
            await self.session.begin()
        except JournalUnknown as error:
            self._failed(error)
        self.is_busy = False

    def _failed(self, error: Exception) -> None:
        """The session is over; its node begins another one."""
        if not isinstance(error, EXPECTED):
            raise error
        if not self.is_over:
            self.is_over = True
            self.world.tell(f"{self.name} is over: {error}")
            self.group.stop(error)
            self.world.replace(self)

    # -- requests

    async def ask(self, shard: int, number: int, amount: int) -> None:
        if shard not in self.owned or self.is_over:
            return
        rrn = f"R{number:011d}"
        request = Request(
            1,
            pan_hash=pan_hash(shard),
            mti="0100",
            stan=f"{number:06d}",
            rrn=rrn,
            amount=amount,
            currency=STERLING,
        )
        decision = self.group.shard(shard).decide(request, self.now())
        answer = Answer(shard, rrn, decision.approved, decision.sequence)
        await self._released()
        self.world.auditor.answered(answer)

    async def _released(self) -> None:
        """Raises what stopped the group."""
        released = self.world.loop.create_future()
        self.group.wait(released)
        await released

    # -- changes of owner

    async def take(self, shards: list[int]) -> None:
        left = [shard for shard in shards if shard not in self.owned]
        if self.is_busy or self.is_over or not left:
            return
        self.is_busy = True
        self.world.tell(f"{self.name} takes {left}")
        at_least = dict.fromkeys(left, self.world.next_revision())
        try:
            if self.world.reads_ahead():
                await self.session.read_ahead(left, self.limits)
                # Until their keys are held, others may have had them.
                await asyncio.sleep(self.world.wait_for_keys())
            states = await self.session.take(at_least, self.limits)
        except EXPECTED as error:
            self.world.tell(f"{self.name} did not take {left}: {error}")
            return
        finally:
            self.is_busy = False
        for shard, state in states.items():
            self._own(shard, state)

    def _own(self, shard: int, state: State) -> None:
        self.world.tell(f"{self.name} has {shard} after entry {state.sequence}")
        # In the place of the one that it was before, here or nowhere.
        self.group.close_shard(shard)
        self.group.open_shard(state)
        self.states.opened(shard)
        self.owned.add(shard)
        if self.is_over:
            return
        name = f"account-{shard}"
        if state.account_count == 0:
            account = AccountOpened(name, STERLING, BALANCE, 0, at=0)
            self.group.administer([(shard, account)], self.now())
        if state.card_count == 0:
            card = CardIssued(
                pan_hash(shard), b"s" * 39, name, 0, 3012, 0, "0001", at=0
            )
            self.group.administer([(shard, card)], self.now())

    async def give_up(self, shard: int) -> None:
        if self.is_busy or self.is_over or shard not in self.owned:
            return
        self.is_busy = True
        self.owned.discard(shard)
        self.world.tell(f"{self.name} gives {shard} up")
        try:
            # Without a checkpoint its new owner reads more, and that is all.
            with suppress(*EXPECTED):
                await self.states.write_the_rest(shard)
            await self._released()
            if self.world.before_giving(self, shard):
                await asyncio.sleep(0.0001)
            self.states.closed(shard)
            await self.session.give_up(shard)
        except EXPECTED as error:
            self.world.tell(f"{self.name} did not give {shard} up: {error}")
            return
        finally:
            self.is_busy = False
        self.world.hand_over(shard)

    # -- what is done beside

    async def checkpoint(self, shard: int) -> None:
        if shard in self.owned and not self.is_over:
            with suppress(*EXPECTED):
                await self.states.write(shard)
                self.world.tell(f"{self.name}: checkpoint of {shard}")

    async def publish(self, _shard: int) -> None:
        """Of all shards that it has or had: that others have one, it may not know."""
        if self.is_publishing or not (self.session.epochs or self.published):
            return
        self.is_publishing = True
        try:
            await self._publish()
        except (*EXPECTED, Moved) as error:
            self.world.tell(f"{self.name} does not publish: {error}")
            self.reader = self.new_reader()
            self.published.clear()
        finally:
            self.is_publishing = False

    def new_reader(self) -> ShardReader:
        return ShardReader(self.store, PUBLISHER, self.name, PATIENCE)

    def may_publish_to(self) -> Position:
        return self.writer.released

    async def _publish(self) -> None:
        has_more = True
        while has_more:
            await self._begin_with_new_epochs()
            reading = await self.reader.read(self.may_publish_to(), ENTRIES_MAX)
            has_more = reading.has_more
            for commit in reading.commits:
                for record in commit.records:
                    self.world.auditor.is_published(
                        record.shard, record.first_sequence, record.payload
                    )
            for shard, position in reading.positions.items():
                await publishers.write_published(
                    self.store, PUBLISHER, shard, position, PATIENCE
                )

    async def _begin_with_new_epochs(self) -> None:
        while True:
            epochs = {n: epoch.id.number for n, epoch in self.session.epochs.items()}
            new = epochs.items() - self.published.items()
            if not new:
                return
            for shard, number in sorted(new):
                self.reader.remove(shard)
                await self.reader.add(shard, number)
                self.published[shard] = number

    async def tidy(self) -> None:
        living = [node.name for node in self.world.nodes]
        try:
            dropped = await self.retention.once(living, self.name)
            self.world.tell(f"{self.name} dropped {dropped} segments")
        except (*EXPECTED, Moved):
            pass
