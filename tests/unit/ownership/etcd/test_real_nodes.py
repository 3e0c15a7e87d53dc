"""Whole nodes on real etcd servers: what befalls these, and the nodes."""

import asyncio
import functools
import signal
import subprocess
import sys
import time

import pytest

from switch.ownership.etcd import client as client_module
from switch.ownership.etcd.keys import Keys, value_of
from switch.ownership.etcd.membership import EtcdOwnership
from switch.ownership.etcd.store import Delete, IsAt, Put
from switch.ownership.port import (
    Member,
    OwnershipUnavailable,
    ShardTaken,
)
from tests.servers.etcd import Etcd
from tests.style.sources import ROOT
from tests.unit.ownership.etcd.real import (
    connected,
    joined,
    run,
    started,
    unique,
    until,
    until_done,
)

SHARDS = range(16)
# The shortest that etcd gives.
TTL_S_MIN = 2


def test_nodes_share_what_there_is(etcd):
    async def test():
        cluster = unique("shared")
        async with (
            joined(etcd.endpoints, cluster, "a") as one,
            joined(etcd.endpoints, cluster, "b") as other,
        ):
            both = (one.member, other.member)
            await until(lambda: one.members() == other.members() == both)
            for node in (one, other):
                for shard in SHARDS:
                    if node.wanted(shard) == node.member:
                        await node.acquire(shard)
                    else:
                        assert node.wanted(shard) in both
            await until(lambda: all(one.owner(shard) for shard in SHARDS))
            for shard in SHARDS:
                owner = one.owner(shard)
                assert owner is not None
                assert owner.member == one.wanted(shard) == other.wanted(shard)
                grant = one.held(shard) or other.held(shard)
                assert grant is not None
                assert grant.create_revision == owner.create_revision
            mine = next(shard for shard in SHARDS if one.held(shard))
            with pytest.raises(ShardTaken):
                await other.acquire(mine)
            await one.leave()
            assert (await other.acquire(mine)).session == other.member.session
            await until(lambda: other.members() == (other.member,))

    run(test())


def test_a_lock_goes_from_one_to_the_next(etcd):
    async def test():
        cluster = unique("locked")
        async with (
            joined(etcd.endpoints, cluster, "a") as one,
            joined(etcd.endpoints, cluster, "b") as other,
        ):
            order: list[str] = []

            async def hold(node: EtcdOwnership) -> None:
                async with node.lock("end of day"):
                    order.append(node.member.node)
                    await asyncio.sleep(0.02)
                    order.append(node.member.node)

            await asyncio.gather(*(hold(node) for node in [one, other] * 5))
            assert order[::2] == order[1::2]
            assert sorted(order) == ["a"] * 10 + ["b"] * 10

    run(test())


def test_a_holder_that_is_stopped_for_longer_than_its_lease_holds_nothing(etcd):
    async def test():
        cluster, shard = unique("stopped"), 3
        words = (etcd.endpoints[0], cluster, str(shard), str(TTL_S_MIN))
        keeper = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.unit.ownership.etcd.keeper", *words),
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert keeper.stdout is not None
        try:
            assert b"True" in await keeper.stdout.readline()
            async with joined(etcd.endpoints, cluster, "heir") as heir:
                with pytest.raises(ShardTaken):
                    await heir.acquire(shard)
                await asyncio.sleep(TTL_S_MIN)  # kept alive meanwhile
                with pytest.raises(ShardTaken):
                    await heir.acquire(shard)
                keeper.send_signal(signal.SIGSTOP)
                await until_done(lambda: heir.acquire(shard), ShardTaken)
                taken_at = time.monotonic()
                assert [member.node for member in heir.members()] == ["heir"]
                keeper.send_signal(signal.SIGCONT)
                said, _ = await keeper.communicate()
        finally:
            if keeper.returncode is None:
                keeper.kill()
                await keeper.wait()
        *before, last = (line.split() for line in said.decode().splitlines())
        assert last[1] == "False"
        assert before
        assert all(float(at) < taken_at for at, _ in before)

    run(test())


def test_a_node_that_was_killed_is_back_when_its_lease_is_over(etcd):
    async def test():
        cluster = unique("killed")
        async with connected(etcd.endpoints) as client:
            # What it leaves behind.
            killed = Member("a", unique("session"), "a:1")
            lease = await client.grant(TTL_S_MIN)
            key = Keys(cluster).node("a")
            put = Put(key, value_of(killed), lease.id)
            await client.transaction(IsAt(key, 0), (put,))
            async with joined(etcd.endpoints, cluster, "a", TTL_S_MIN) as again:
                assert again.members() == (again.member,)
                assert again.member.session != killed.session

    run(test())


# -- three members


def test_with_its_leader_killed_nothing_is_lost(etcd_cluster):
    async def test():
        cluster = unique("leaderless")
        endpoints = etcd_cluster.endpoints
        async with (
            joined(endpoints, cluster, "a") as one,
            joined(endpoints[::-1], cluster, "b") as other,
        ):
            grant = await one.acquire(0)
            leader = etcd_cluster.leader()
            leader.kill()
            try:
                for shard in range(1, 8):
                    node = one if shard % 2 else other
                    await until_done(
                        functools.partial(node.acquire, shard),
                        OwnershipUnavailable,
                    )
                await until(lambda: all(one.owner(shard) for shard in range(8)))
                await until(lambda: all(other.owner(shard) for shard in range(8)))
            finally:
                await started(leader)
            assert one.held(0) == grant
            assert not one.is_over
            assert not other.is_over
            for shard in range(8):
                mine = one if one.held(shard) else other
                assert other.owner(shard) == one.owner(shard)
                owner = one.owner(shard)
                held = mine.held(shard)
                assert owner is not None
                assert held is not None
                assert owner.create_revision == held.create_revision

    run(test())


@pytest.mark.parametrize("is_leader", [False, True])
def test_a_member_that_hangs_is_left_for_another(etcd_cluster, monkeypatch, is_leader):
    monkeypatch.setattr(client_module, "WATCH_QUIET_SECONDS", 0.3)

    async def test():
        cluster = unique("hung")
        leader = etcd_cluster.leader()
        hung, fine = (each for each in etcd_cluster.members if each is not leader)
        if is_leader:
            hung = leader
        endpoints = [hung.endpoint, fine.endpoint]
        async with (
            joined(endpoints, cluster, "a") as one,
            joined([fine.endpoint], cluster, "b") as other,
        ):
            hung.pause()
            try:
                await until_done(lambda: other.acquire(1), OwnershipUnavailable)
                await until(lambda: one.owner(1))
                await until_done(lambda: one.acquire(2), OwnershipUnavailable)
            finally:
                hung.resume()
            await until(lambda: other.owner(2))
            assert not one.is_over

    run(test())


def test_compaction_while_nobody_watches_hides_nothing(etcd_cluster):
    async def test():
        cluster = unique("compacted")
        leader = etcd_cluster.leader()
        away, fine = (each for each in etcd_cluster.members if each is not leader)
        key = Keys(cluster).shard(0)
        async with (
            joined([away.endpoint], cluster, "a") as one,
            joined([fine.endpoint], cluster, "b") as other,
        ):
            grant = await other.acquire(0)
            await other.acquire(1)
            await until(lambda: one.owner(1))
            away.kill()
            await until(lambda: not one.is_current)
            here = IsAt(key, grant.create_revision)
            async with connected([fine.endpoint]) as client:
                await client.transaction(here, (Delete(key),))
                await until(lambda: other.held(0) is None)
                again = await other.acquire(0)
                await other.release(1)
                await other.acquire(2)
                revision = (await client.listing(key)).revision
                await asyncio.to_thread(
                    fine.ask, "kv/compaction", {"revision": revision}
                )
            await started(away)
            await until(lambda: one.owner(2))
            owner = one.owner(0)
            assert owner is not None
            assert owner.create_revision == again.create_revision
            assert one.owner(1) is None
            assert not one.is_over

    run(test())


def test_a_restart_of_all_is_lived_through(tmp_path):
    async def test():
        with Etcd(tmp_path) as etcd:
            cluster = unique("restarted")
            async with (
                joined(etcd.endpoints, cluster, "a") as one,
                joined(etcd.endpoints, cluster, "b") as other,
            ):
                grant = await one.acquire(0)
                etcd.kill()
                assert one.held(0) == grant
                await started(etcd.members[0])
                await until_done(lambda: other.acquire(1), OwnershipUnavailable)
                await until(lambda: one.owner(1) and other.owner(0))
                await one.release(0)
                assert not one.is_over

    run(test())


def test_a_member_that_hangs_for_a_while_is_waited_for(tmp_path):
    """There is no other: what was asked may have happened, and had."""

    async def test():
        with Etcd(tmp_path) as etcd:
            (member,) = etcd.members
            async with joined(etcd.endpoints, unique("paused")) as one:
                member.pause()
                acquiring = asyncio.ensure_future(one.acquire(0))
                await asyncio.sleep(2.5)
                member.resume()
                grant = await acquiring
                assert one.held(0) == grant
                async with connected(etcd.endpoints) as client:
                    (item,) = (await client.listing("cardswitch/")).items[1:]
                    assert item.create_revision == grant.create_revision

    run(test())
