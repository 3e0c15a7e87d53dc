"""Several who follow a session, as one."""

import asyncio

import pytest

from switch.cluster.followers import Followers
from switch.journal.port import ShardRecord
from switch.ledger import Limits, State


class Follower:
    """Notes what it is told; `run` raises when it is to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[object] = []
        self.was_cancelled = False
        self._error = error

    def opened(self, state):
        self.heard.append(("opened", state))

    def closed(self, shard):
        self.heard.append(("closed", shard))

    def told(self, records):
        self.heard.append(("told", records))

    async def run(self):
        if self._error is not None:
            raise self._error
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.was_cancelled = True


def test_each_is_told_everything_in_order():
    each = Follower(), Follower()
    both = Followers(*each)
    state, record = State(3, Limits()), ShardRecord(3, 1, 1, b"")
    both.opened(state)
    both.told([record])
    both.closed(3)
    for one in each:
        assert one.heard == [("opened", state), ("told", [record]), ("closed", 3)]


def test_the_first_that_fails_ends_all_and_says_why():
    async def main():
        other, failing = Follower(), Follower(ValueError("a fault"))
        with pytest.raises(ValueError, match="a fault"):
            await Followers(other, failing).run()
        assert other.was_cancelled

    asyncio.run(main())


def test_who_is_cancelled_cancels_all():
    async def main():
        each = Follower(), Follower()
        running = asyncio.create_task(Followers(*each).run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert all(one.was_cancelled for one in each)

    asyncio.run(main())
