"""Cassandra as somebody looks at it who wants to know what is wrong with it."""

from __future__ import annotations

from typing import Final

import acsylla
from msgspec import Struct

from switch.journal.cassandra.cluster_store import ClusterStore
from switch.journal.errors import JournalError

# A row that says who wrote it, and goes away.
PROBE: Final = "doctor"
PROBE_SECONDS: Final = 60
_WRITE: Final = (
    f"INSERT INTO meta (name, value) VALUES ('{PROBE}', 'a trial') "
    f"USING TTL {PROBE_SECONDS}"
)


class About(Struct, frozen=True):
    """A node, as it tells of itself. `schema`: two nodes with another one do not agree
    about tables. `clock_ms`: since 1970, when it answered."""

    version: str
    datacenter: str
    cluster: str
    schema: str
    clock_ms: int
    commitlog_sync: str | None


class ExaminedStore(ClusterStore):
    async def about(self) -> About:
        """Of the node that answers; see `Settings.alone`."""
        ((version, datacenter, cluster, schema, clock_ms),) = await self._query(
            "SELECT release_version, data_center, cluster_name, schema_version, "
            "toUnixTimestamp(now()) FROM system.local"
        )
        return About(
            str(version),
            str(datacenter),
            str(cluster),
            str(schema),
            int(clock_ms),
            await self._setting("commitlog_sync"),
        )

    async def _setting(self, name: str) -> str | None:
        """None where settings may not be looked at."""
        try:
            rows = await self._query(
                f"SELECT value FROM system_views.settings WHERE name = '{name}'"
            )
        except JournalError:
            return None
        return str(rows[0][0]) if rows else None

    async def datacenters(self) -> dict[str, int]:
        """How many nodes each has."""
        local = await self._query("SELECT data_center FROM system.local")
        peers = await self._query("SELECT data_center FROM system.peers")
        names = [str(row[0]) for row in [*local, *peers]]
        return {name: names.count(name) for name in sorted(set(names))}

    async def copies(self) -> int | None:
        """Of the keyspace in the own data centre; None: there is no keyspace."""
        rows = await self._query(
            "SELECT replication FROM system_schema.keyspaces "
            f"WHERE keyspace_name = '{self.settings.keyspace}'"
        )
        if not rows:
            return None
        replication: dict[str, str] = dict(rows[0][0])
        copies = replication.get(self.settings.datacenter)
        return int(copies or replication.get("replication_factor") or 0)

    async def write_probe(self) -> None:
        """At a quorum. Raises JournalError when it is refused, JournalUnknown when
        nobody says."""
        statement = acsylla.create_statement(_WRITE)
        statement.set_is_idempotent(True)
        await self._asked("a trial row", self._session.execute(statement))
