"""What all nodes of a cluster agree on."""

from __future__ import annotations

import asyncio
import time

import pytest

from switch.cluster.founding import Founded, check, found
from switch.journal.errors import JournalMismatch
from switch.ownership.etcd.memory import GOOD, MemoryEtcd, MemoryStore

FOUNDED = Founded("bank", 64, "0123")


class Agreements:
    def __init__(self):
        self.values = {}

    async def agree(self, name, value):
        return self.values.setdefault(name, value)

    async def agreed(self, name):
        return self.values.get(name)


def run(scenario):
    async def main():
        etcd = MemoryEtcd(time.monotonic)
        await scenario(Agreements(), MemoryStore(etcd, lambda name: GOOD))

    asyncio.run(main())


def test_it_is_found_once_and_again_and_every_node_sees_the_same():
    async def scenario(store, etcd):
        await found(store, etcd, FOUNDED)
        before = dict(store.values)
        await found(store, etcd, FOUNDED)
        await check(store, etcd, FOUNDED)
        assert store.values == before
        assert before["shards"] == "64"

    run(scenario)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Founded("another", 64, "0123"), "cluster.name .* expected bank, got another"),
        (Founded("bank", 32, "0123"), "journal.shards .* expected 64, got 32"),
        (Founded("bank", 64, "4567"), "pan_key_file .* expected 0123, got 4567"),
    ],
)
def test_another_one_is_refused(other, said):
    async def scenario(store, etcd):
        await found(store, etcd, FOUNDED)
        for look in (check, found):
            with pytest.raises(JournalMismatch, match=said):
                await look(store, etcd, other)

    run(scenario)


def test_none_is_told_how_to_make_one():
    async def scenario(store, etcd):
        with pytest.raises(JournalMismatch, match="switch cluster init"):
            await check(store, etcd, FOUNDED)
        await found(store, etcd, FOUNDED)
        elsewhere = MemoryStore(MemoryEtcd(time.monotonic), lambda name: GOOD)
        with pytest.raises(JournalMismatch, match="its identity in etcd"):
            await check(store, elsewhere, FOUNDED)

    run(scenario)


def test_two_of_one_name_in_one_etcd_are_told_apart():
    async def scenario(store, etcd):
        await found(store, etcd, FOUNDED)
        for look in (found, check):
            second = Agreements()
            second.values |= FOUNDED.values() | {"identity": "another"}
            with pytest.raises(JournalMismatch, match="another cluster by the name"):
                await look(second, etcd, FOUNDED)

    run(scenario)
