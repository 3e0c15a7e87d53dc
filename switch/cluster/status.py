"""A cluster as it is now: who is there, who owns what, and how far each log goes."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from switch.cluster.history import session_end
from switch.cluster.observing import look
from switch.journal.cassandra.chains import current_of
from switch.journal.cassandra.retrying import PATIENCE, all_of, settled
from switch.journal.cassandra.store import Epoch, LogStore, SessionRow
from switch.journal.errors import JournalMissing
from switch.ownership.etcd.store import Store


class MemberStatus(Struct, frozen=True):
    """`head`: the last commit of its log. `lease`: etcd's number of it."""

    node: str
    address: str
    session: str
    lease: str
    shards: int
    head: int | None


class ShardStatus(Struct, frozen=True):
    """`owner` is None while nobody has it. `epoch`: the newest one in the journal, and
    who writes it, or did until `sealed_at`. With `is_open`, that is the owner."""

    shard: int
    owner: str | None
    grant: int | None
    epoch: int | None
    session: str | None
    sealed_at: int | None
    is_open: bool


class Status(Struct, frozen=True):
    cluster: str
    members: list[MemberStatus]
    shards: list[ShardStatus]

    @property
    def is_whole(self) -> bool:
        """Whether every shard answers, as far as can be seen from here."""
        return all(shard.is_open for shard in self.shards)


async def status(
    store: LogStore, etcd: Store, cluster: str, shard_count: int
) -> Status:
    """Raises JournalError or OwnershipUnavailable."""
    seen = await look(etcd, cluster)
    members = []
    for node, member in sorted(seen.members.items()):
        shards = sum(owner.member == member for owner in seen.owners.values())
        head = await _head(store, member.session)
        lease = f"{seen.leases[node]:x}"
        members.append(
            MemberStatus(node, member.address, member.session, lease, shards, head)
        )
    newest = await all_of([partial(_newest, store, n) for n in range(shard_count)])
    found = []
    for shard, (epoch, end) in enumerate(newest):
        owner = seen.owners.get(shard)
        session = None if epoch is None else epoch.id.session
        found.append(
            ShardStatus(
                shard,
                None if owner is None else owner.member.node,
                None if owner is None else owner.create_revision,
                None if epoch is None else epoch.id.number,
                session,
                end,
                is_open=owner is not None
                and owner.member.session == session
                and end is None,
            )
        )
    return Status(cluster, members, found)


async def _head(store: LogStore, session: str) -> int | None:
    try:
        return await session_end(store, session)
    except JournalMissing:
        return None  # it joins before it begins


async def _newest(store: LogStore, shard: int) -> tuple[Epoch | None, int | None]:
    """The current epoch, and the commit it ends with if it has ended."""
    epoch = current_of(await settled(lambda: store.read_epochs(shard), PATIENCE))
    if epoch is None or epoch.sealed_at is not None:
        return epoch, None if epoch is None else epoch.sealed_at
    session = epoch.id.session
    row: SessionRow | None
    row = await settled(lambda: store.read_session(session), PATIENCE)
    return epoch, None if row is None else row.sealed_at
