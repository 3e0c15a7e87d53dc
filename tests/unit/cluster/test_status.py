"""What is told of a cluster: members, shards, and whether those are open."""

from __future__ import annotations

import asyncio
import time

from switch.cluster.status import status
from switch.journal.cassandra.memory import MemoryStore
from switch.ownership.etcd.keys import Keys, value_of
from switch.ownership.etcd.memory import GOOD, MemoryEtcd
from switch.ownership.etcd.memory import MemoryStore as MemoryEtcdStore
from switch.ownership.etcd.store import IsAt, Put
from switch.ownership.port import Member
from tests.unit.journal.cassandra.build import ALL, SHARD_COUNT, append, taken

KEYS = Keys("bank")
ONE = Member("a", "s1", "127.0.0.1:1")


async def put(etcd, key, member):
    lease = await etcd.grant(5)
    put_it = (Put(key, value_of(member), lease.id),)
    await etcd.transaction(IsAt(key, 0), put_it)


def look(scenario):
    async def main():
        store = MemoryStore()
        etcd = MemoryEtcdStore(MemoryEtcd(time.monotonic), lambda name: GOOD)
        await scenario(store, etcd)
        return await status(store, etcd, "bank", SHARD_COUNT)

    return asyncio.run(main())


def test_of_none_nothing_is_there():
    async def scenario(store, etcd):
        pass

    found = look(scenario)
    assert found.members == []
    assert [shard.owner for shard in found.shards] == [None] * SHARD_COUNT
    assert not found.is_whole


def test_a_shard_is_open_when_its_owner_has_its_epoch():
    async def scenario(store, etcd):
        await put(etcd, KEYS.node("a"), ONE)
        one, states = await taken(store, "s1")
        await append(one, list(states.values()), 2)
        await one.give_up(3)
        for shard in ALL:
            if shard != 2:
                await put(etcd, KEYS.shard(shard), ONE)

    found = look(scenario)
    (member,) = found.members
    assert (member.node, member.shards, member.head) == ("a", 3, 2)
    assert [shard.is_open for shard in found.shards] == [True, True, False, False]
    assert [shard.owner for shard in found.shards] == ["a", "a", None, "a"]
    assert [shard.sealed_at for shard in found.shards] == [None, None, None, 2]
    assert not found.is_whole


def test_an_owner_whose_session_was_ended_has_nothing_open():
    async def scenario(store, etcd):
        await taken(store, "s1")
        await taken(store, "s2")
        for shard in ALL:
            await put(etcd, KEYS.shard(shard), ONE)

    found = look(scenario)
    assert {shard.session for shard in found.shards} == {"s2"}
    assert not any(shard.is_open for shard in found.shards)
