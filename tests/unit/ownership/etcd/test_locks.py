import asyncio

import pytest

from switch.ownership.etcd.keys import Keys
from switch.ownership.etcd.locks import LATE_SECONDS
from switch.ownership.etcd.memory import Fate
from switch.ownership.port import OwnershipUnavailable, SessionOver
from tests.unit.ownership.etcd.stage import CLUSTER, Stage
from tests.unit.ownership.etcd.test_membership import LOST, UNANSWERED, UNSENT, played

LINE = Keys(CLUSTER).line("end of day")


def line(stage: Stage) -> list[str]:
    return [key for key in stage.etcd.items if key.startswith(LINE)]


class Holder:
    """Takes the lock, notes it and keeps it until it is told."""

    def __init__(self, ownership, order):
        self.may_end = asyncio.Event()
        self.task = asyncio.ensure_future(self._hold(ownership, order))

    async def _hold(self, ownership, order):
        async with ownership.lock("end of day") as grant:
            order.append((ownership.member.node, grant.create_revision))
            await self.may_end.wait()


@played
async def test_a_free_lock_costs_one_round_trip(stage: Stage):
    one = await stage.joined("a")
    stage.script("a transaction", Fate(seconds=1.0))
    stage.script("a listing", UNSENT)
    began_at = stage.loop.time()
    async with one.lock("end of day") as grant:
        assert stage.loop.time() == pytest.approx(began_at + 1.0)
        assert grant.session == one.member.session
        assert len(line(stage)) == 1
    await asyncio.sleep(0.01)
    assert line(stage) == []


@played
async def test_whoever_came_first_has_it_first(stage: Stage):
    nodes = [await stage.joined(name) for name in "abc"]
    order: list[tuple[str, int]] = []
    holders = []
    for node in [*nodes, *nodes]:
        holders.append(Holder(node, order))
        await asyncio.sleep(0.1)
    for index, holder in enumerate(holders):
        assert [name for name, _ in order] == list("abcabc"[: index + 1])
        holder.may_end.set()
        await holder.task
        await asyncio.sleep(0.1)
    assert order == sorted(order, key=lambda each: each[1])
    assert line(stage) == []


@played
async def test_other_locks_are_free(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    async with one.lock("end of day"), other.lock("end of"), other.lock("a/b"):
        assert len(line(stage)) == 1


@played
async def test_who_waits_no_longer_is_not_waited_for(stage: Stage):
    one, two, three = [await stage.joined(name) for name in "abc"]
    order: list[tuple[str, int]] = []
    holders = [Holder(node, order) for node in (one, two, three)]
    await asyncio.sleep(0.1)
    holders[1].task.cancel()
    await asyncio.sleep(0.1)
    assert len(line(stage)) == 2
    holders[0].may_end.set()
    await asyncio.sleep(0.1)
    assert [name for name, _ in order] == ["a", "c"]


@played
async def test_it_ends_with_the_session_of_who_has_it(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    order: list[tuple[str, int]] = []
    Holder(one, order)
    await asyncio.sleep(0.1)
    Holder(other, order)
    await asyncio.sleep(0.1)
    stage.etcd.expire(one.lease)
    await asyncio.sleep(0.1)
    assert [name for name, _ in order] == ["a", "b"]
    assert one.is_over


@played
async def test_who_waits_when_the_session_ends_is_told(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    order: list[tuple[str, int]] = []
    Holder(one, order)
    await asyncio.sleep(0.1)
    waiting = Holder(other, order)
    await asyncio.sleep(0.1)
    await other.leave()
    with pytest.raises(SessionOver):
        await waiting.task
    assert len(line(stage)) == 1


@pytest.mark.parametrize("fate", [LOST, UNANSWERED])
def test_a_place_that_was_not_answered_is_found_out(fate):
    @played
    async def test(stage: Stage):
        one, other = await stage.joined("a"), await stage.joined("b")
        stage.script("a transaction", fate, fate)
        async with one.lock("end of day"):
            order: list[tuple[str, int]] = []
            Holder(other, order)
            await asyncio.sleep(0.1)
            assert order == []
        await asyncio.sleep(0.1)
        assert len(order) == 1

    test()


@played
async def test_a_place_that_comes_to_be_after_it_was_given_up_is_found(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    late = Fate(becomes="late", seconds=0.5, late_seconds=5.0)
    stage.script("a transaction", late)
    async with one.lock("end of day"):
        pass
    await asyncio.sleep(6.5)
    assert line(stage) == []
    stage.script("a transaction", late, late, late)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0), one.lock("end of day"):
            pass
    await stage.pass_time(LATE_SECONDS)
    async with asyncio.timeout(1.0), other.lock("end of day"):
        pass


@played
async def test_what_was_not_sent_needs_not_be_looked_for(stage: Stage):
    one = await stage.joined("a")
    stage.script("a transaction", UNSENT)
    revision = stage.etcd.revision
    with pytest.raises(OwnershipUnavailable):
        async with one.lock("end of day"):
            pass
    await asyncio.sleep(1)
    assert stage.etcd.revision == revision
