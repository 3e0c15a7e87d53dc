"""One engine's way through the shards that a node has, as `switch.publisher.forwarder`
through a journal on one machine.

Rule: a shard that comes or goes, a new session, or an operator who moves it: what is
      under way is finished first, or sent again by the next engine.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from switch.journal.cassandra.chains import Moved
from switch.journal.cassandra.following import ShardReader
from switch.journal.cassandra.retrying import PATIENCE, Patience, all_of
from switch.journal.cassandra.store import LogStore, Position
from switch.node_publisher.orders import Assignment
from switch.node_publisher.places import Place, ShardPlaces
from switch.observe.log import event
from switch.publish.port import PublishError, Refused
from switch.publish.positions import PositionFiles
from switch.publisher.forwarder import Batch, Feeder, Plan
from switch.publisher.waker import Waker

# Until a shard is looked at again that was not where the node said.
LOOK_AGAIN_SECONDS = 1.0

_logger = logging.getLogger("switch.publisher")


class ShardForwarder(Feeder[Place]):
    journal_ends_it = False

    def __init__(
        self,
        plan: Plan,
        store: LogStore,
        assigned: Callable[[], Assignment],
        released: Callable[[], Position],
        files: PositionFiles,
        waker: Waker,
        patience: Patience = PATIENCE,
    ) -> None:
        """`files`: for what is set aside; positions are in the store."""
        super().__init__(plan, waker)
        self._store = store
        self._assigned = assigned
        self._released = released
        self._files = files
        self._patience = patience
        self._places = ShardPlaces(store, plan.name, patience)
        self._known = Assignment()
        self._reader = self._new_reader()
        self._read_epochs: dict[int, int] = {}
        self._sequences: dict[int, int] = {}  # acknowledged, by shard
        self._look_again_at: float | None = None

    def _head(self) -> int:
        return self._released().number

    @property
    def is_done(self) -> bool:
        return super().is_done and not _differ(self._known, self._assigned())

    # -- where it is

    async def _begin(self) -> None:
        self._files.lock()
        await self._begin_anew()

    async def _begin_anew(self, *, is_new_engine: bool = True) -> None:
        await self._places.open(is_new_engine=is_new_engine)
        self._known = Assignment()
        await self._renew()

    @property
    def _wants_to_move(self) -> bool:
        if self._places.moved_to is not None:
            return True
        if _differ(self._known, self._assigned()):
            return True
        again_at = self._look_again_at
        return again_at is not None and asyncio.get_running_loop().time() >= again_at

    async def _move(self) -> None:
        if self._places.moved_to is None:
            await self._renew()
            return
        event(
            _logger, logging.WARNING, "position moved",
            engine=self.name, name=self._places.moved_to,
        )  # fmt: skip
        await self._begin_anew(is_new_engine=False)

    async def _renew(self) -> None:
        wanted = self._assigned()
        if wanted.session != self._known.session or not self._known.session:
            self._known = Assignment(wanted.session)
            self._reader = self._new_reader()
            self._read_epochs.clear()
        for shard, epoch in tuple(self._read_epochs.items()):
            if wanted.shards.get(shard) != epoch:
                self._reader.remove(shard)
                del self._read_epochs[shard]
        await self._places.leave(self._places.settled.keys() - wanted.shards.keys())
        new = [
            (shard, epoch)
            for shard, epoch in wanted.shards.items()
            if shard not in self._read_epochs
        ]
        added = await all_of([partial(self._add, *each) for each in new])
        self._look_again_at = None
        if not all(added):
            loop = asyncio.get_running_loop()
            self._look_again_at = loop.time() + LOOK_AGAIN_SECONDS
        self._known = wanted
        self._sequences = {
            shard: position.sequence
            for shard, position in self._places.settled.items()
            if shard in self._read_epochs
        }
        entries = sum(self._sequences.values())
        self._set(commit=-1, entries=entries, session=wanted.session)

    async def _add(self, shard: int, epoch: int) -> bool:
        settled = self._places.settled.get(shard)
        try:
            published = await self._reader.add(shard, epoch, settled)
        except Moved:
            return False
        self._places.begin(shard, published)
        self._read_epochs[shard] = epoch
        return True

    def _new_reader(self) -> ShardReader:
        return ShardReader(
            self._store, self._places.name, self._known.session, self._patience
        )

    # -- what there is

    async def _read(self, before: Batch[Place] | None) -> Batch[Place]:
        # Of another assignment than what is read: it is begun with before that counts.
        # In a shard that was away and is back, entries of others come in between.
        is_known = not _differ(self._known, self._assigned())
        released = self._released() if is_known else Position(0, 0)
        self.plan.saw(released.number)
        try:
            reading = await self._reader.read(released, self.plan.entries_max)
        except Moved:
            raise PublishError(
                "expected the journal from a position on, got a part of it that has "
                "been dropped since"
            ) from None
        is_whole = is_known and not reading.has_more and self._look_again_at is None
        place = Place(
            reading.positions, reading.entries, released.number if is_whole else -1
        )
        if not reading.commits and before is None:
            self._places.skip(place.positions)
            self._reach(place)
        return Batch(reading.commits, place, reading.has_more)

    def _advance(self, batch: Batch[Place]) -> None:
        place = batch.place
        self._places.advance(place.positions)
        for shard, position in place.positions.items():
            self._sequences[shard] = position.sequence
        self._reach(place)
        self._set(
            entries=sum(self._sequences.values()),
            published=self.status.published + place.entries,
        )

    def _reach(self, place: Place) -> None:
        if place.reached >= 0:
            self._set(commit=place.reached)

    def _settle(self, count: int) -> None:
        self._places.settle(count)
        self._places.store()

    def _set_aside(self, refused: Sequence[Refused]) -> object:
        self._files.set_aside([(each.event, each.reason) for each in refused])
        return self._files.refused_path

    async def _end(self) -> None:
        await self._places.close()
        self._files.unlock()


def _differ(one: Assignment, other: Assignment) -> bool:
    return one is not other and (
        one.session != other.session or one.shards != other.shards
    )
