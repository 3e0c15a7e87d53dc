"""The store on Cassandra itself, by acsylla.

Rule 1: plain statements are at LOCAL_QUORUM, conditional ones at LOCAL_SERIAL with it,
        and what those decide is read at LOCAL_SERIAL. The keyspace is checked for it.
Rule 2: what does not surely say that nothing was done is JournalUnknown: a time-out, a
        connection that is gone (which the driver calls a time-out), replicas that are
        not there. To repeat it unchanged does no harm.
Rule 3: all statements are idempotent, so the driver may ask another node; but for the
        conditional ones, whose second answer would be another than the first.
"""

from __future__ import annotations

import asyncio
import enum
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Self

import acsylla
import msgspec
from acsylla import errors as driver_errors

from switch.journal.cassandra import schema
from switch.journal.cassandra.statements import CONDITIONAL, PLAIN, SERIAL
from switch.journal.cassandra.store import (
    Epoch,
    EpochId,
    Part,
    Position,
    SessionRow,
    ShardEpochs,
)
from switch.journal.errors import JournalError, JournalMismatch, JournalUnknown

# The driver times out what waits for a stream: 8,000 at once gave 30% time-outs.
IN_FLIGHT_MAX = 512
REQUEST_SECONDS_MAX = 2.0
CONNECT_SECONDS_MAX = 5.0
SCHEMA_SECONDS_MAX = 20.0  # of a change that all nodes have to agree on
PAGE_ROWS = 1000

# What says for sure that nothing was done, and that to ask again is of no use.
_REFUSED = (
    driver_errors.CassExceptionInvalidQuery,
    driver_errors.CassExceptionSyntaxError,
    driver_errors.CassErrorServerSyntaxError,
    driver_errors.CassErrorServerInvalidQuery,
    driver_errors.CassErrorServerUnauthorized,
    driver_errors.CassErrorServerBadCredentials,
    driver_errors.CassErrorServerConfigError,
    driver_errors.CassErrorServerAlreadyExists,
    driver_errors.CassErrorServerProtocolError,
)
# By number, then by segment: as cells with one timestamp are compared.
_POSITION = struct.Struct(">QI")


class Tls(msgspec.Struct, frozen=True):
    """As PEM. `cert` and `key` are of this client, if Cassandra wants to know it by
    them. With `verify_host` a node's certificate has to have its address, by which it
    is reached whatever the contact points are."""

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = None
    verify_host: bool = True

    def __repr__(self) -> str:
        return f"Tls(verify_host={self.verify_host})"


class _Verified(enum.Enum):
    """acsylla takes one of the driver's flags, of which the second says nothing about
    who signed the certificate: here they are together."""

    CERTIFICATE = 1
    CERTIFICATE_AND_ADDRESS = 1 | 2


class Settings:
    """Where Cassandra is, and as whom it is asked."""

    def __init__(
        self,
        contact_points: Sequence[str],
        keyspace: str,
        replication: Mapping[str, int],
        *,
        port: int = 9042,
        username: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
        alone: str | None = None,
    ) -> None:
        """`alone`: of all nodes, the one that is asked, whatever its data centre."""
        schema.check_name(keyspace)
        if len(replication) != 1:
            raise JournalMismatch(
                "replication of the journal's keyspace",
                expected="one data centre",
                got=", ".join(replication) or "none",
            )
        self.contact_points = list(contact_points)
        self.keyspace = keyspace
        self.replication = dict(replication)
        (self.datacenter,) = replication
        self.port = port
        self.username = username
        self.password = password
        self.tls = tls
        self.alone = alone

    def options(self) -> dict[str, Any]:
        """For acsylla."""
        tls: dict[str, Any] = {}
        if self.tls is not None:
            verified = _Verified.CERTIFICATE
            if self.tls.verify_host:
                verified = _Verified.CERTIFICATE_AND_ADDRESS
            tls = {
                "ssl_enabled": True,
                "ssl_trusted_cert": _text(self.tls.ca),
                "ssl_cert": self.tls.cert and _text(self.tls.cert),
                "ssl_private_key": self.tls.key and _text(self.tls.key),
                "ssl_verify_flags": verified,
            }
        return {
            "contact_points": self.contact_points,
            "port": self.port,
            "username": self.username,
            "password": self.password,
            "load_balance_dc_aware": None if self.alone else self.datacenter,
            "load_balance_round_robin": self.alone is not None,
            "whitelist_hosts": self.alone,
            **tls,
        }


class AcsyllaStore:
    """See `switch.journal.cassandra.store.LogStore`."""

    def __init__(self, session: Any, settings: Settings) -> None:
        self.settings = settings
        self._session = session
        self._prepared: dict[str, Any] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)

    # -- opening

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """One that can be asked nothing yet but `create` and `open`."""
        cluster = acsylla.create_cluster(
            **settings.options(),
            connect_timeout=CONNECT_SECONDS_MAX,
            request_timeout=REQUEST_SECONDS_MAX,
            consistency="LOCAL_QUORUM",
            serial_consistency="LOCAL_SERIAL",
            queue_size_io=65_536,
            coalesce_delay_us=50,
            constant_reconnect_delay_ms=500,
            log_level="disabled",
            application_name="cardswitch",
        )
        try:
            session = await cluster.create_session()
        except _REFUSED as error:
            raise JournalError(
                "Cassandra does not take us",
                path=", ".join(settings.contact_points),
                got=_said(error),
            ) from error
        except driver_errors.CassException as error:
            raise JournalUnknown(
                "Cassandra cannot be reached",
                path=", ".join(settings.contact_points),
                got=_said(error),
            ) from error
        return cls(session, settings)

    async def create(self) -> None:
        """The keyspace and its tables, or what is missing of them."""
        settings = self.settings
        await self._query(
            schema.create_keyspace(settings.keyspace, settings.replication)
        )
        await self._use()
        await self._query(schema.META)
        await self._prepare(("read_meta", "write_meta", "change_meta"))
        version = await self._version()
        for statement in schema.migrations_from(version):
            await self._query(statement)
        text = str(schema.SCHEMA_VERSION)
        if version == 0:
            await self._conditional("write_meta", "schema_version", text)
        elif version < schema.SCHEMA_VERSION:
            await self._conditional("change_meta", text, "schema_version", str(version))

    async def open(self) -> None:
        """Ready to be asked. Raises JournalMismatch, JournalVersion, JournalUnknown."""
        await self._use()
        await self._prepare(("read_meta", "write_meta"))
        version = await self._version()
        if version == 0 or schema.migrations_from(version):
            raise JournalMismatch(
                f"keyspace {self.settings.keyspace}",
                expected=f"tables of version {schema.SCHEMA_VERSION}",
                got=f"version {version}" if version else "none",
            )
        await self._prepare([*PLAIN, *CONDITIONAL, *SERIAL])

    async def close(self) -> None:
        await self._session.close()

    async def agree(self, name: str, value: str) -> str:
        """What all nodes have under a name: `value`, if they had nothing."""
        await self._conditional("write_meta", name, value)
        (row,) = await self._rows("read_meta", name)
        return str(row[0])

    async def _version(self) -> int:
        rows = await self._rows("read_meta", "schema_version")
        return int(rows[0][0]) if rows else 0

    async def _use(self) -> None:
        await self.check_replication()
        await self._query(f"USE {self.settings.keyspace}")

    async def check_replication(self) -> None:
        """Raises JournalMismatch when local quorums need not meet."""
        name = self.settings.keyspace
        found = await self._query(
            "SELECT replication, durable_writes FROM system_schema.keyspaces "
            f"WHERE keyspace_name = '{name}'"
        )
        if not found:
            raise JournalMismatch(f"keyspace {name}", expected="one", got="none")
        local = await self._query("SELECT data_center FROM system.local")
        peers = await self._query("SELECT data_center FROM system.peers")
        datacenters = sorted({str(row[0]) for row in [*local, *peers]})
        replication, is_durable = found[0]
        schema.check_replication(
            name, dict(replication), datacenters, self.settings.datacenter
        )
        schema.check_durable(name, bool(is_durable))

    async def _prepare(self, names: Sequence[str]) -> None:
        texts = {**PLAIN, **CONDITIONAL, **SERIAL}
        for name in names:
            if name not in self._prepared:
                self._prepared[name] = await self._asked(
                    name, self._session.create_prepared(texts[name])
                )

    # -- asking

    async def _query(self, text: str) -> list[list[Any]]:
        result = await self._asked(
            text,
            self._session.execute(
                acsylla.create_statement(text, timeout=SCHEMA_SECONDS_MAX)
            ),
        )
        return [row.as_list() for row in result]

    async def _asked(self, what: str, answer: Any) -> Any:
        async with self._slots:
            try:
                return await answer
            except _REFUSED as error:
                raise JournalError(f"{what}: {_said(error)}") from error
            except driver_errors.CassException as error:
                raise JournalUnknown(f"{what}: {_said(error)}") from error

    def _bound(self, name: str, values: Sequence[Any]) -> Any:
        statement = self._prepared[name].bind()
        statement.bind_list(list(values))
        return statement

    async def _write(self, name: str, *values: Any) -> None:
        statement = self._bound(name, values)
        statement.set_is_idempotent(True)
        await self._asked(name, self._session.execute(statement))

    async def _rows(self, name: str, *values: Any) -> list[list[Any]]:
        """All pages of them."""
        rows: list[list[Any]] = []
        page: bytes | None = None
        while True:
            statement = self._bound(name, values)
            statement.set_is_idempotent(True)
            statement.set_page_size(PAGE_ROWS)
            if name in SERIAL:
                statement.set_consistency(acsylla.Consistency.LOCAL_SERIAL)
            if page is not None:
                statement.set_page_state(page)
            result = await self._asked(name, self._session.execute(statement))
            rows += [row.as_list() for row in result]
            if not result.has_more_pages():
                return rows
            page = result.page_state()

    async def _conditional(self, name: str, *values: Any) -> bool:
        """Whether it was applied."""
        result = await self._asked(
            name, self._session.execute(self._bound(name, values))
        )
        return bool(result.first().as_list()[0])

    # -- a session's log

    async def insert_part(self, session: str, segment: int, part: Part) -> None:
        await self._write(
            "insert_part",
            *(session, segment, part.number, part.index, part.count, part.data),
        )

    async def read_parts(
        self, session: str, segment: int, after: int, limit: int
    ) -> list[Part]:
        rows = await self._rows("read_parts", session, segment, after, limit)
        return [Part(*row) for row in rows]

    async def drop_segment(self, session: str, segment: int) -> None:
        await self._write("drop_segment", session, segment)

    async def write_fence(self, session: str, fenced_by: str) -> None:
        await self._write("write_fence", session, fenced_by)

    async def read_fence(self, session: str) -> bool:
        return bool(await self._rows("read_fence", session))

    async def write_mark(self, session: str, kind: str, position: Position) -> None:
        data = _POSITION.pack(position.number, position.segment)
        await self._write("write_mark", session, kind, data, position.number)

    async def read_mark(self, session: str, kind: str) -> Position | None:
        rows = await self._rows("read_mark", session, kind)
        if not rows:
            return None
        number, segment = _POSITION.unpack(rows[0][0])
        return Position(segment, number)

    # -- sessions

    async def create_session(self, session: str, node: str) -> None:
        await self._conditional("create_session", session, node)

    async def seal_session(self, session: str, end: int) -> bool:
        return await self._conditional("seal_session", end, session)

    async def read_session(self, session: str) -> SessionRow | None:
        rows = await self._rows("read_session", session)
        return SessionRow(session, rows[0][0], rows[0][1]) if rows else None

    async def list_sessions(self) -> list[str]:
        return [str(row[0]) for row in await self._rows("list_sessions")]

    # -- epochs

    async def open_epoch(self, epoch: Epoch) -> bool:
        own, parent = epoch.id, epoch.parent
        row = (
            *(epoch.shard, own.number, own.session),
            *((None, None) if parent is None else (parent.number, parent.session)),
            *(epoch.begins_after.segment, epoch.begins_after.number),
        )
        current = (own.number, own.session, epoch.shard)
        if parent is None:
            return await self._conditional("open_first", *current, *row)
        return await self._conditional(
            "open_next", *current, parent.number, parent.session, *row
        )

    async def seal_epoch(self, shard: int, epoch: EpochId, end: int) -> bool:
        return await self._conditional(
            "seal_epoch", end, shard, epoch.number, epoch.session
        )

    async def read_epochs(self, shard: int) -> ShardEpochs:
        rows = await self._rows("read_epochs", shard)
        if not rows or rows[0][0] is None:
            return ShardEpochs(None, ())
        epochs = [
            Epoch(
                shard,
                EpochId(number, session),
                None if parent is None else EpochId(parent, parent_session),
                Position(segment, after),
                sealed_at,
            )
            for (
                *_,
                number,
                session,
                parent,
                parent_session,
                segment,
                after,
                sealed_at,
            ) in rows
        ]
        return ShardEpochs(EpochId(rows[0][0], rows[0][1]), epochs)

    # -- checkpoints and publishers

    async def write_chunk(self, shard: int, name: str, index: int, data: bytes) -> None:
        await self._write("write_chunk", shard, name, index, data)

    async def read_chunk(self, shard: int, name: str, index: int) -> bytes | None:
        rows = await self._rows("read_chunk", shard, name, index)
        return rows[0][0] if rows else None

    async def drop_chunks(self, shard: int, name: str) -> None:
        await self._write("drop_chunks", shard, name)

    async def write_checkpoint(self, shard: int, sequence: int, head: bytes) -> None:
        await self._write("write_checkpoint", shard, head, sequence)

    async def read_checkpoint(self, shard: int) -> bytes | None:
        rows = await self._rows("read_checkpoint", shard)
        return rows[0][0] if rows else None

    async def write_published(
        self, publisher: str, shard: int, sequence: int, position: bytes
    ) -> None:
        await self._write("write_published", publisher, shard, position, sequence)

    async def read_published(self, publisher: str, shard: int) -> bytes | None:
        rows = await self._rows("read_published", publisher, shard)
        return rows[0][0] if rows else None

    async def list_publishers(self) -> list[str]:
        return sorted({str(row[0]) for row in await self._rows("list_publishers")})


def _text(pem: bytes) -> str:
    return pem.decode("utf-8", "replace")  # comments may be anything


def _said(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
