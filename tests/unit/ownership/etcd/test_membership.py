import asyncio
import functools

import pytest

from switch.ownership.etcd.keys import Keys
from switch.ownership.etcd.memory import Fate
from switch.ownership.etcd.store import Delete, IsAt, Put
from switch.ownership.port import (
    ClusterOwnership,
    Gained,
    Lost,
    MembersChanged,
    NodeNameTaken,
    OwnerChanged,
    OwnershipUnavailable,
    SessionEnded,
    SessionOver,
    ShardTaken,
)
from tests.unit.ownership.etcd.stage import CLUSTER, TTL_S, Stage, play, told

KEYS = Keys(CLUSTER)
LOST = Fate(becomes="lost", seconds=0.5)
UNANSWERED = Fate(becomes="unanswered", seconds=0.5)
UNSENT = Fate(becomes="unsent", seconds=0.5)


def played(test):
    @functools.wraps(test)
    def run():
        play(test)

    # Not what pytest looks at for fixtures.
    del run.__wrapped__
    return run


@played
async def test_a_shard_has_one_owner_and_a_later_one_a_later_grant(stage: Stage):
    one: ClusterOwnership = await stage.joined("a")
    other: ClusterOwnership = await stage.joined("b")
    first = await one.acquire(7)
    assert await one.acquire(7) == first
    with pytest.raises(ShardTaken, match="expected shard 7 to be free, got a") as error:
        await other.acquire(7)
    assert error.value.owner == one.member.session
    assert one.held(7) == first
    assert other.held(7) is None
    await one.release(7)
    assert one.held(7) is None
    second = await other.acquire(7)
    assert second.create_revision > first.create_revision
    assert other.held(7) == second


@played
async def test_all_see_who_is_there_and_who_owns_what(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    await stage.pass_time(0.1)
    for each in (one, other):
        assert each.members() == (one.member, other.member)
        assert each.owner(7) is None
        places = {each.wanted(shard) for shard in range(32)}
        assert places == {one.member, other.member}
    grant = await one.acquire(7)
    await stage.pass_time(0.1)
    owner = other.owner(7)
    assert owner is not None
    assert (owner.member, owner.create_revision) == (one.member, grant.create_revision)
    assert MembersChanged((one.member, other.member)) in await told(other)


@played
async def test_what_happens_is_told_in_order_and_the_latest_of_each_kind(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    await stage.pass_time(0.1)
    await told(one)
    for _ in range(3):
        grant = await one.acquire(7)
        await stage.pass_time(0.1)
        await one.release(7)
        await stage.pass_time(0.1)
    taken = await other.acquire(3)
    await stage.pass_time(0.1)
    assert await told(one) == [
        Gained(7, grant),
        OwnerChanged(7, None),
        OwnerChanged(3, other.owner(3)),
    ]
    assert await told(other)
    await other.leave()
    await stage.pass_time(0.1)
    # All at one revision.
    assert await told(one) == [MembersChanged((one.member,)), OwnerChanged(3, None)]
    assert [type(event) for event in await told(other)] == [SessionEnded]
    assert taken.session == other.member.session


@played
async def test_who_leaves_gives_everything_back_at_once(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    for shard in range(4):
        await one.acquire(shard)
    await one.leave()
    assert one.is_valid_until() < one.now()
    assert one.held(0) is None
    for shard in range(4):
        await other.acquire(shard)
    with pytest.raises(SessionOver, match="the node left"):
        await one.acquire(5)


# -- the end of a lease


@played
async def test_who_is_not_heard_holds_nothing_when_its_time_is_over(stage: Stage):
    one = await stage.joined("a")
    grant = await one.acquire(7)
    until = one.is_valid_until()
    stage.script("a keep_alive", *[Fate(becomes="unsent")] * 1000)
    await stage.pass_time(until - one.now() - 0.01)
    assert one.held(7) == grant
    await asyncio.sleep(0.01)
    assert one.held(7) is None
    await stage.pass_time(0.2)
    (event,) = await told(one)
    assert isinstance(event, SessionEnded)
    assert "unsent, as scripted" in event.reason
    with pytest.raises(SessionOver):
        await one.acquire(7)


@played
async def test_a_keep_alive_counts_from_before_it_was_sent(stage: Stage):
    one = await stage.joined("a")
    stage.script("a keep_alive", Fate(seconds=1.5), UNSENT)
    await asyncio.sleep(TTL_S / 3 + 1.51)
    assert one.is_valid_until() == pytest.approx(TTL_S / 3 + TTL_S)


@played
async def test_an_answer_that_comes_too_late_brings_nothing_back(stage: Stage):
    """etcd may have kept the lease: it says so when its time is over here."""
    one = await stage.joined("a")
    await one.acquire(7)
    hung = Fate(seconds=TTL_S)
    stage.script("a keep_alive", hung, hung, hung, hung, hung)
    for _ in range(TTL_S):
        await asyncio.sleep(1.0)
        stage.etcd.elect()
    await asyncio.sleep(1.0)
    assert KEYS.shard(7) in stage.etcd.items
    assert one.held(7) is None
    assert one.is_over


@played
async def test_two_lost_keep_alives_do_no_harm(stage: Stage):
    one = await stage.joined("a")
    grant = await one.acquire(7)
    stage.script("a keep_alive", LOST, LOST)
    await stage.pass_time(3 * TTL_S)
    assert one.held(7) == grant


@played
async def test_a_lease_that_etcd_ended_is_over_at_once(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    await one.acquire(7)
    stage.etcd.expire(one.lease)
    await asyncio.sleep(0.01)
    assert one.held(7) is None
    assert one.is_over
    await other.acquire(7)
    assert other.members() == (other.member,)


@played
async def test_without_a_watch_the_next_keep_alive_tells(stage: Stage):
    one = await stage.joined("a")
    await one.acquire(7)
    stage.script("a watch", *[Fate(becomes="unsent")] * 1000)
    stage.etcd.cut()
    await asyncio.sleep(0.1)
    stage.etcd.expire(one.lease)
    await asyncio.sleep(TTL_S / 3)
    assert one.is_over


@played
async def test_and_so_does_whatever_is_asked(stage: Stage):
    one = await stage.joined("a")
    stage.script("a watch", *[Fate(becomes="unsent")] * 1000)
    stage.etcd.cut()
    await asyncio.sleep(0.1)
    stage.etcd.expire(one.lease)
    with pytest.raises(SessionOver, match="no lease"):
        await one.acquire(7)


# -- what is not known


@pytest.mark.parametrize("fate", [LOST, UNANSWERED])
def test_an_acquisition_that_was_not_answered_is_found_out(fate):
    async def test(stage: Stage):
        one, other = await stage.joined("a"), await stage.joined("b")
        stage.script("a transaction", fate, fate, fate)
        grant = await one.acquire(7)
        item = stage.etcd.items[KEYS.shard(7)]
        assert grant.create_revision == item.create_revision
        with pytest.raises(ShardTaken):
            await other.acquire(7)

    play(test)


@pytest.mark.parametrize("fate", [LOST, UNANSWERED, UNSENT])
def test_a_release_that_was_not_answered_is_done(fate):
    async def test(stage: Stage):
        one, other = await stage.joined("a"), await stage.joined("b")
        await one.acquire(7)
        stage.script("a transaction", fate, fate)
        await one.release(7)
        await other.acquire(7)

    play(test)


@played
async def test_a_release_that_nobody_waits_for_is_done_all_the_same(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    await one.acquire(7)
    stage.script("a transaction", LOST)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await one.release(7)
    assert one.held(7) is None
    await asyncio.sleep(1.0)
    await other.acquire(7)


@played
async def test_what_was_not_sent_is_not_taken(stage: Stage):
    one = await stage.joined("a")
    stage.script("a transaction", UNSENT)
    with pytest.raises(OwnershipUnavailable, match="unsent, as scripted"):
        await one.acquire(7)
    assert KEYS.shard(7) not in stage.etcd.items
    await one.acquire(7)


@played
async def test_an_acquisition_that_happens_after_the_release_is_taken_back(
    stage: Stage,
):
    one, other = await stage.joined("a"), await stage.joined("b")
    stage.script("a transaction", Fate(becomes="late", seconds=0.5, late_seconds=2.0))
    grant = await one.acquire(7)
    await one.release(7)
    await stage.pass_time(2.5)
    assert one.held(7) is None
    assert KEYS.shard(7) not in stage.etcd.items
    assert (await other.acquire(7)).create_revision > grant.create_revision + 1


@played
async def test_but_not_from_one_who_has_asked_again(stage: Stage):
    one = await stage.joined("a")
    stage.script("a transaction", Fate(becomes="late", seconds=0.5, late_seconds=2.0))
    first = await one.acquire(7)
    await one.release(7)
    until = stage.loop.time() + 3
    grants = set()
    while stage.loop.time() < until:
        grant = await one.acquire(7)
        grants.add(grant)
        assert one.held(7) == grant
        await asyncio.sleep(0.01)
        assert stage.etcd.items[KEYS.shard(7)].create_revision == grant.create_revision
    assert len(grants) == 1
    assert first not in grants


@played
async def test_one_that_was_given_up_is_taken_back(stage: Stage):
    one = await stage.joined("a")
    stage.script("a transaction", Fate(seconds=1.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await one.acquire(7)
    before = stage.etcd.revision
    await asyncio.sleep(0.4)
    assert KEYS.shard(7) not in stage.etcd.items
    assert stage.etcd.revision == before + 2


@played
async def test_a_grant_that_is_gone_before_it_was_heard_of_is_none(stage: Stage):
    one = await stage.joined("a")
    stage.script("a transaction", Fate(seconds=2.0))
    acquiring = asyncio.ensure_future(one.acquire(7))
    await asyncio.sleep(1.5)
    item = stage.etcd.items[KEYS.shard(7)]
    here = IsAt(item.key, item.create_revision)
    stage.etcd.transaction(here, (Delete(item.key),), ())
    with pytest.raises(OwnershipUnavailable, match="another or none"):
        await acquiring
    assert one.held(7) is None


@played
async def test_a_watch_that_is_behind_tells_nothing_about_the_grant(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    await other.acquire(7)
    await asyncio.sleep(0.1)
    stage.script("a watch", Fate(seconds=1.0))
    await other.release(7)
    grant = await one.acquire(7)
    await asyncio.sleep(0.5)
    owner = one.owner(7)
    assert owner is not None
    assert owner.member == other.member
    await asyncio.sleep(1.0)
    assert one.held(7) == grant
    assert not [event for event in await told(one) if isinstance(event, Lost)]


@played
async def test_one_that_is_asked_for_while_it_is_released_is_another(stage: Stage):
    one = await stage.joined("a")
    first = await one.acquire(7)
    stage.script("a transaction", Fate(seconds=1.0, way_there=0.5))
    releasing = asyncio.ensure_future(one.release(7))
    await asyncio.sleep(0.1)
    second = await one.acquire(7)
    assert second.create_revision > first.create_revision
    await releasing
    await asyncio.sleep(1.0)
    assert one.held(7) == second


@played
async def test_what_was_before_a_list_is_not_told_behind_it(stage: Stage):
    one, other = await stage.joined("a"), await stage.joined("b")
    await asyncio.sleep(0.1)
    await told(one)
    stage.script("a listing", Fate(seconds=1.0, way_there=1.0))
    stage.etcd.cut()
    await asyncio.sleep(0.2)
    await other.acquire(7)
    await other.release(7)
    grant = await other.acquire(8)
    await asyncio.sleep(1.0)
    (event,) = await told(one)
    assert isinstance(event, OwnerChanged)
    assert event.shard == 8
    assert event.owner is not None
    assert event.owner.create_revision == grant.create_revision


# -- what others do to it


@played
async def test_a_shard_whose_key_is_deleted_is_lost_and_no_other(stage: Stage):
    one = await stage.joined("a")
    grant = await one.acquire(7)
    kept = await one.acquire(8)
    key = KEYS.shard(7)
    await stage.pass_time(0.1)
    await told(one)
    stage.etcd.transaction(IsAt(key, grant.create_revision), (Delete(key),), ())
    await stage.pass_time(0.1)
    assert one.held(7) is None
    assert one.held(8) == kept
    assert Lost(7, grant, f"expected {key} to be kept, got another or none") in (
        await told(one)
    )


@played
async def test_one_that_changes_hands_while_nobody_watches_is_lost(stage: Stage):
    one = await stage.joined("a")
    grant = await one.acquire(7)
    key = KEYS.shard(7)
    stage.script("a watch", *[Fate(becomes="unsent")] * 3)
    stage.etcd.cut()
    await asyncio.sleep(0.01)
    stage.etcd.transaction(IsAt(key, grant.create_revision), (Delete(key),), ())
    stage.etcd.transaction(IsAt(key, 0), (Put(key, b"not JSON"),), ())
    stage.etcd.compact()
    await asyncio.sleep(5)
    assert one.held(7) is None
    owner = one.owner(7)
    assert owner is not None
    assert owner.member.node == ""
    assert {type(event) for event in await told(one)} >= {Lost, OwnerChanged}


@played
async def test_who_is_not_seen_by_others_is_over(stage: Stage):
    one = await stage.joined("a")
    await one.acquire(7)
    key = KEYS.node("a")
    item = stage.etcd.items[key]
    stage.etcd.transaction(IsAt(key, item.create_revision), (Delete(key),), ())
    await asyncio.sleep(0.01)
    assert one.is_over
    assert one.held(7) is None


@played
async def test_an_etcd_that_was_restored_ends_the_session(stage: Stage):
    one = await stage.joined("a")
    copy, revision = dict(stage.etcd.items), stage.etcd.revision
    await one.acquire(7)
    await stage.pass_time(0.1)
    stage.etcd.restore(copy, revision)
    await stage.pass_time(0.2)
    assert one.is_over
    assert one.held(7) is None


@played
async def test_without_space_nothing_is_taken_and_nothing_lost(stage: Stage):
    one = await stage.joined("a")
    await one.acquire(7)
    grant = await one.acquire(8)
    stage.etcd.has_space = False
    with pytest.raises(OwnershipUnavailable, match="no space"):
        await one.acquire(9)
    with pytest.raises(OwnershipUnavailable, match="no space"):
        await stage.node("b").join()
    await one.release(7)
    await stage.pass_time(3 * TTL_S)
    assert one.held(8) == grant


# -- names


@played
async def test_a_run_that_was_killed_is_waited_out(stage: Stage):
    killed = await stage.joined("a")
    await killed.acquire(7)
    stage.script("a keep_alive", *[Fate(becomes="unsent")] * 1000)
    asyncio.get_running_loop().call_later(TTL_S + 0.5, stage.etcd.tick)
    again = stage.node("a")
    began_at = stage.loop.time()
    joining = asyncio.ensure_future(again.join())
    await asyncio.sleep(1)
    stage.script("a keep_alive")
    stage.etcd.expire(killed.lease)
    await joining
    assert stage.loop.time() < began_at + TTL_S
    assert again.members() == (again.member,)
    await again.acquire(7)


@played
async def test_two_of_one_name_are_one_too_many(stage: Stage):
    one = await stage.joined("a")
    await one.acquire(7)
    with pytest.raises(
        NodeNameTaken, match=r"nobody else to be node a, got session s1 at a:1"
    ):
        await stage.joined("a")
    assert one.held(7) is not None
    assert len(stage.etcd.leases) == 1


@pytest.mark.parametrize("name", ["", "n" * 129])
def test_a_name_that_is_none(name):
    with pytest.raises(ValueError, match="expected a name of a node"):
        KEYS.node(name)


def test_any_other_name_is_part_of_a_key():
    for name in ("a/b", "ä", "a b", "%41", "n" * 128):
        key = KEYS.node(name)
        assert key.count("/") == 4
        assert KEYS.node_of(key) == name
        assert KEYS.node_of(KEYS.shard(1)) is None
    assert KEYS.shard_of(KEYS.node("1")) is None
    assert KEYS.shard_of(KEYS.shard(12)) == 12
    assert KEYS.shard_of(KEYS.shard(12) + "x") is None
