"""What all nodes of a cluster have in common, agreed on once and looked at by each node
before it does anything.

    cluster     its name: another cluster's keyspace is not taken for ours
    identity    drawn once, in Cassandra and in etcd: two clusters with one name, in one
                etcd, would take each other's shards
    shards      how many
    pan_key     the fingerprint of the key that card numbers are hashed with
"""

from __future__ import annotations

import uuid
from typing import Protocol

import msgspec

from switch.journal.errors import JournalMismatch
from switch.ownership.etcd.keys import checked
from switch.ownership.etcd.store import Get, IsAt, Put, Store

WHAT = {
    "cluster": "cluster.name",
    "shards": "journal.shards",
    "pan_key": "the fingerprint of cluster.pan_key_file",
}


class Agreements(Protocol):
    """`switch.journal.cassandra.cluster_store.ClusterStore`."""

    async def agree(self, name: str, value: str) -> str: ...

    async def agreed(self, name: str) -> str | None: ...


class Founded(msgspec.Struct, frozen=True):
    cluster: str
    shards: int
    pan_key: str

    def values(self) -> dict[str, str]:
        return {
            "cluster": self.cluster,
            "shards": str(self.shards),
            "pan_key": self.pan_key,
        }


async def found(store: Agreements, etcd: Store, wanted: Founded) -> None:
    """May be called again, and by many at once. Raises JournalMismatch when something
    else was agreed on before."""
    for name, value in wanted.values().items():
        await _compare(name, value, await store.agree(name, value))
    identity = await store.agree("identity", uuid.uuid4().hex)
    await _compare_identity(etcd, wanted.cluster, identity, may_write=True)


async def check(store: Agreements, etcd: Store, wanted: Founded) -> None:
    """Raises JournalMismatch when the cluster is another one, or none yet."""
    for name, value in wanted.values().items():
        await _compare(name, value, await store.agreed(name))
    identity = await store.agreed("identity")
    await _compare_identity(etcd, wanted.cluster, identity or "", may_write=False)


async def _compare(name: str, expected: str, got: str | None) -> None:
    if got is None:
        raise JournalMismatch(
            "the cluster was not initialised",
            expected=f"its {name} in Cassandra, where `switch cluster init` puts it",
            got="none",
        )
    if expected != got:
        raise JournalMismatch(
            f"{WHAT[name]} is not that of the cluster",
            expected=got,
            got=expected,
        )


async def _compare_identity(
    etcd: Store, cluster: str, identity: str, *, may_write: bool
) -> None:
    key = f"cardswitch/{checked('cluster', cluster)}/identity"
    then = (Put(key, identity.encode()),) if may_write else (Get(key),)
    outcome = await etcd.transaction(IsAt(key, 0), then, (Get(key),))
    if outcome.is_met:
        if may_write:
            return
        raise JournalMismatch(
            f"the cluster {cluster} was not initialised",
            expected="its identity in etcd, where `switch cluster init` puts it",
            got="none",
        )
    (item,) = outcome.found
    got = "" if item is None else item.value.decode("utf-8", "replace")
    if got != identity:
        raise JournalMismatch(
            f"etcd knows another cluster by the name {cluster}",
            expected=f"identity {identity}, that of the keyspace",
            got=got,
        )
