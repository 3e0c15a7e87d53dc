"""The tables, their version, and whether a keyspace may hold them.

A keyspace is made and brought up to date by `AcsyllaStore.create`, again if need be,
but by one process at a time: Cassandra may make of two that make one table at once two
tables of one name. A program refuses tables of a version that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switch.journal.errors import JournalError, JournalMismatch, JournalVersion

SCHEMA_VERSION = 1
STRATEGY = "org.apache.cassandra.locator."

# Statements of each version, from the one before it; each may be made again.
_TABLES = (
    """CREATE TABLE IF NOT EXISTS log (
        session text, segment int, number bigint, part int, parts int, data blob,
        PRIMARY KEY ((session, segment), number, part))""",
    # A column of their own for each who writes: nobody overwrites anybody.
    """CREATE TABLE IF NOT EXISTS fences (
        session text, fenced_by text, PRIMARY KEY (session, fenced_by))""",
    """CREATE TABLE IF NOT EXISTS marks (
        session text, kind text, position blob, PRIMARY KEY (session, kind))""",
    """CREATE TABLE IF NOT EXISTS sessions (
        session text PRIMARY KEY, node text, sealed_at bigint)""",
    """CREATE TABLE IF NOT EXISTS epochs (
        shard int, number bigint, session text,
        parent_number bigint, parent_session text,
        after_segment int, after_number bigint, sealed_at bigint,
        current_number bigint static, current_session text static,
        PRIMARY KEY (shard, number, session))""",
    """CREATE TABLE IF NOT EXISTS checkpoints (shard int PRIMARY KEY, head blob)""",
    """CREATE TABLE IF NOT EXISTS chunks (
        shard int, name text, piece int, data blob,
        PRIMARY KEY ((shard, name), piece))""",
    """CREATE TABLE IF NOT EXISTS published (
        publisher text, shard int, position blob, PRIMARY KEY ((publisher, shard)))""",
)
MIGRATIONS: Mapping[int, Sequence[str]] = {1: _TABLES}
META = "CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text)"

assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION + 1))


def create_keyspace(keyspace: str, replication: Mapping[str, int]) -> str:
    copies = ", ".join(f"'{name}': {count}" for name, count in replication.items())
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
        f"{{'class': 'NetworkTopologyStrategy', {copies}}} AND durable_writes = true"
    )


def migrations_from(version: int) -> list[str]:
    """The statements that lead from a version to this program's."""
    if version > SCHEMA_VERSION:
        raise JournalVersion(
            "tables of a newer version",
            expected=f"at most {SCHEMA_VERSION}",
            got=version,
        )
    return [
        statement
        for number in range(version + 1, SCHEMA_VERSION + 1)
        for statement in MIGRATIONS[number]
    ]


def check_replication(
    keyspace: str, replication: Mapping[str, str], datacenters: Sequence[str], own: str
) -> None:
    """Whether any two local quorums have a replica in common, wherever they are asked
    for. `replication` is a row of system_schema.keyspaces; `own` the data centre that
    this node asks. Raises JournalMismatch."""
    strategy = replication.get("class", "").removeprefix(STRATEGY)
    options = {name: text for name, text in replication.items() if name != "class"}

    def refuse(why: str) -> JournalMismatch:
        got = ", ".join(f"{name} {text}" for name, text in options.items())
        return JournalMismatch(
            f"keyspace {keyspace}: {why}",
            expected=f"NetworkTopologyStrategy with copies in {own} alone",
            got=f"{strategy} with {got or 'no copies'}",
        )

    if strategy == "SimpleStrategy":
        if len(datacenters) > 1:
            raise refuse(
                "it places copies without regard to data centres, of which there are "
                f"{len(datacenters)}: a local quorum in one need not meet that of "
                "another"
            )
        copies = options.get("replication_factor", "0")
    elif strategy == "NetworkTopologyStrategy":
        having = sorted(name for name, text in options.items() if text != "0")
        if having != [own]:
            raise refuse(
                "a local quorum of one data centre does not meet that of another"
            )
        copies = options[own]
    else:
        raise refuse("it does not say how many copies there are")
    if not copies.isdigit() or copies == "0":
        raise refuse("with transient copies, or none, two quorums need not meet")


def check_durable(keyspace: str, durable_writes: bool) -> None:
    if not durable_writes:
        raise JournalMismatch(
            f"keyspace {keyspace}: what is acknowledged is in no log of Cassandra's",
            expected="durable_writes = true",
            got="false",
        )


def check_name(keyspace: str) -> None:
    """It goes into statements as it is."""
    if not (keyspace.isascii() and keyspace.isidentifier() and keyspace.islower()):
        raise JournalError(
            "name of a keyspace",
            expected="small letters, digits and underscores, a letter first",
            got=repr(keyspace),
        )
