"""States that are written beside the requests: when, and of what."""

from __future__ import annotations

import asyncio
from typing import Any

from switch.cluster import states as module
from switch.cluster.states import StateWriter
from switch.journal.errors import JournalUnknown
from switch.ledger import Limits, State, restore
from switch.shard._group import CommitGroup
from tests.simulation.cluster.virtual import run
from tests.unit.shard.node import request

NOW = 1_764_000_000_000
SHARD_COUNT = 12
EVERY = 5


class Journal:
    """What it has of each shard: the sequence, and where it stands."""

    def __init__(self):
        self.position = 0
        self.has: dict[int, tuple[int, int]] = {}
        self.written: list[int] = []
        self.renewed: list[int] = []
        self.datas: dict[int, bytes] = {}
        self.fails = 0

    async def checkpoint(self, shard, sequence, position, data):
        await asyncio.sleep(0.01)
        if self.fails:
            self.fails -= 1
            raise JournalUnknown("scripted")
        self.has[shard] = sequence, position
        self.datas[shard] = data
        self.written.append(shard)

    async def renew_checkpoint(self, shard, sequence, position):
        await asyncio.sleep(0.01)
        if self.has.get(shard, (None,))[0] != sequence:
            return False
        self.has[shard] = sequence, position
        self.renewed.append(shard)
        return True


class At:
    def __init__(self):
        self.journal = Journal()
        self.untold = asyncio.Event()
        self.untold.set()
        self.group = CommitGroup(
            [State(shard, Limits()) for shard in range(SHARD_COUNT)],
            submit=lambda at, records: None,
            schedule=lambda callback: None,
            released=lambda number: None,
            clock=lambda: NOW,
        )
        journal: Any = self.journal
        self.states = StateWriter(self.group, journal, self.untold.wait, EVERY)
        self.stan = 0

    def decide(self, number, count=1):
        for _ in range(count):
            self.stan += 1
            self.group.shard(number).decide(request(stan=self.stan), NOW)
        self.journal.position += 1


def simulate(scenario):
    async def main():
        at = At()
        task = asyncio.create_task(at.states.run())
        try:
            await scenario(at)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(main())


async def all_written(at):
    for number in range(SHARD_COUNT):
        at.states.opened(number)
    await asyncio.sleep(SHARD_COUNT)
    at.journal.written.clear()
    at.journal.renewed.clear()


def test_what_came_is_written_a_few_in_a_second():
    async def scenario(at):
        for number in range(SHARD_COUNT):
            at.states.opened(number)
        await asyncio.sleep(1.5)
        assert len(at.journal.written) == module.OLD_AT_ONCE_MAX
        await asyncio.sleep(10)
        assert sorted(at.journal.written) == list(range(SHARD_COUNT))

    simulate(scenario)


def test_a_shard_that_grew_is_written_again():
    async def scenario(at):
        await all_written(at)
        at.decide(3, EVERY - 1)
        await asyncio.sleep(2)
        assert at.journal.written == []
        at.decide(3)
        await asyncio.sleep(2)
        assert at.journal.written == [3]
        assert at.journal.has[3] == (EVERY, at.journal.position)
        assert restore(at.journal.datas[3], Limits()).sequence == EVERY

    simulate(scenario)


def test_what_is_old_is_renewed_without_being_written():
    async def scenario(at):
        await all_written(at)
        at.decide(3)
        await asyncio.sleep(module.AGE_S_MAX + SHARD_COUNT)
        assert at.journal.written == [3]
        assert sorted(at.journal.renewed) == [
            number for number in range(SHARD_COUNT) if number != 3
        ]
        positions = {position for _, position in at.journal.has.values()}
        assert positions == {at.journal.position}

    simulate(scenario)


def test_a_log_that_stands_still_is_left_alone():
    async def scenario(at):
        await all_written(at)
        await asyncio.sleep(2 * module.AGE_S_MAX)
        assert at.journal.written == at.journal.renewed == []

    simulate(scenario)


def test_what_could_not_be_written_is_tried_again():
    async def scenario(at):
        at.journal.fails = 2
        at.states.opened(0)
        await asyncio.sleep(4)
        assert at.journal.written == [0]

    simulate(scenario)


def test_nothing_is_written_before_it_is_told_nor_after_the_shard_went():
    async def scenario(at):
        at.untold.clear()
        at.decide(0)
        at.states.opened(0)
        await asyncio.sleep(2)
        assert at.journal.written == []
        at.states.closed(0)
        at.states.opened(0)  # and has come back: with another epoch
        at.untold.set()
        await asyncio.sleep(0.5)
        assert at.journal.written == []
        await asyncio.sleep(2)
        assert at.journal.written == [0]

    simulate(scenario)


def test_who_gives_up_writes_what_there_is_no_checkpoint_of():
    async def scenario(at):
        at.journal.has = {0: (0, 0), 1: (0, 0)}
        for number in range(3):
            at.states.opened(number)
        at.decide(1)
        for number in range(3):
            await at.states.write_the_rest(number)
        assert (at.journal.renewed, at.journal.written) == ([0], [1, 2])
        at.journal.position += 1
        await at.states.write_the_rest(0)
        assert at.journal.renewed == [0]

    simulate(scenario)
