"""A cluster as whoever is no node of it sees it: who is there, and who owns what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from switch.ownership.etcd.errors import EtcdError
from switch.ownership.etcd.keys import Keys, member_of
from switch.ownership.etcd.store import Store
from switch.ownership.port import Member, Owner, OwnershipUnavailable

LOOK_S: Final = 0.25


class Seen(msgspec.Struct, frozen=True):
    members: Mapping[str, Member]
    # Of the members: what their keys hang on.
    leases: Mapping[str, int]
    owners: Mapping[int, Owner]


async def look(etcd: Store, cluster: str) -> Seen:
    """Raises OwnershipUnavailable."""
    keys = Keys(cluster)
    try:
        listing = await etcd.listing(keys.live)
    except EtcdError as error:
        raise OwnershipUnavailable(str(error)) from error
    members: dict[str, Member] = {}
    leases: dict[str, int] = {}
    owners: dict[int, Owner] = {}
    for item in listing.items:
        node, shard = keys.node_of(item.key), keys.shard_of(item.key)
        if node is not None:
            members[node] = member_of(item)
            leases[node] = item.lease
        elif shard is not None:
            owners[shard] = Owner(member_of(item), item.create_revision)
    return Seen(members, leases, owners)


class Observer:
    """`switch.peer.port.Owners`, looked at again and again while `run` does."""

    def __init__(
        self, etcd: Store, cluster: str, changed: Callable[[dict[str, str]], None]
    ) -> None:
        """`changed` is told the addresses of the nodes, by name."""
        self._etcd = etcd
        self._cluster = cluster
        self._changed = changed
        self._seen = Seen({}, {}, {})

    def owner_of(self, shard: int) -> str | None:
        owner = self._seen.owners.get(shard)
        return None if owner is None else owner.member.node

    async def look(self) -> Seen:
        self._seen = await look(self._etcd, self._cluster)
        self._changed({node: each.address for node, each in self._seen.members.items()})
        return self._seen

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except OwnershipUnavailable:
                continue  # what was seen last is as good as any
