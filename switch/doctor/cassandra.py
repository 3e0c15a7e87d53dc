"""Cassandra: each contact point by itself, then the keyspace and its tables."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from switch.cluster import founding
from switch.cluster.founding import Founded
from switch.cluster_store import cassandra_settings
from switch.config import Config
from switch.doctor import clocks
from switch.doctor.connecting import connected
from switch.doctor.findings import Finding, error, ok, warning
from switch.journal.cassandra.acsylla_store import Settings
from switch.journal.cassandra.examined import PROBE, About, ExaminedStore
from switch.journal.errors import JournalError, JournalUnknown
from switch.link.settings import Address

ASK_SECONDS: Final = 10.0
COPIES_MIN: Final = 3
DURABLE: Final = ("batch", "group")
_POINTS: Final = "cluster.cassandra.contact_points"
_KEYSPACE: Final = "cluster.cassandra.keyspace"
_INIT: Final = "`switch cluster init` makes what is missing"


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[ExaminedStore]:
    store = await ExaminedStore.connect(settings)
    try:
        yield store
    finally:
        await store.close()


async def nodes(config: Config) -> list[Finding]:
    """Of each contact point: whether Cassandra is there, and how it is set."""
    points = config.cluster.cassandra.addresses
    looks = await asyncio.gather(*(_node(config, point) for point in points))
    findings = [finding for found, _ in looks for finding in found]
    told = [about for _, about in looks if about is not None]
    for what, values in (
        ("name of the cluster", [about.cluster for about in told]),
        ("version of the schema", [about.schema for about in told]),
    ):
        if len(set(values)) > 1:
            got = ", ".join(sorted(set(values)))
            advice = "are all of them nodes of one cluster?"
            findings.append(error(_POINTS, f"one {what}", got, advice))
    return findings


async def _node(config: Config, point: Address) -> tuple[list[Finding], About | None]:
    check = f"cassandra {point}"
    advice = f"is it one of {_POINTS}, and does it run?"
    there = await connected(check, point, advice)
    if there.level != "ok":
        return [there], None
    try:
        (*_, where), *_ = await asyncio.get_running_loop().getaddrinfo(
            point.host, point.port, type=socket.SOCK_STREAM
        )
        settings = cassandra_settings(config)
        settings.contact_points = [str(where[0])]
        settings.alone = str(where[0])
        async with asyncio.timeout(ASK_SECONDS), _store(settings) as store:
            before = clocks.now_ms()
            about = await store.about()
            after = clocks.now_ms()
    except TimeoutError:
        got = f"no answer within {ASK_SECONDS:g} s"
        return [error(check, "Cassandra to answer", got, advice)], None
    except (JournalError, OSError) as fault:
        return [error(check, "Cassandra to answer", str(fault), advice)], None
    return [
        ok(check, f"Cassandra {about.version}, {about.datacenter}"),
        *_synced(check, about),
        clocks.compared(f"{check}: clock", before, about.clock_ms, after),
    ], about


def _synced(check: str, about: About) -> list[Finding]:
    check = f"{check}: commitlog_sync"
    if about.commitlog_sync is None:
        return []  # it may not be looked at, or this version does not tell
    if about.commitlog_sync in DURABLE:
        return [ok(check, about.commitlog_sync)]
    return [
        warning(
            check,
            " or ".join(DURABLE),
            about.commitlog_sync,
            "what was acknowledged may be lost when all nodes are killed at once",
        )
    ]


async def keyspace(config: Config, founded: Founded | None) -> list[Finding]:
    """All that nodes have in common there. `founded` is None without the key."""
    try:
        async with _store(cassandra_settings(config)) as store:
            found = await _datacenter(store)
            if found.level == "error":
                return [found]
            return [found, *await _tables(config, store, founded)]
    except JournalError as fault:
        name = config.cluster.cassandra.keyspace
        return [
            error(
                _KEYSPACE,
                f"to ask for {name} as a node does",
                str(fault),
                f"are {_POINTS}, and the data centre in "
                "cluster.cassandra.replication, right?",
            )
        ]


async def _datacenter(store: ExaminedStore) -> Finding:
    check = "cluster.cassandra.replication"
    own, (wanted,) = store.settings.datacenter, store.settings.replication.values()
    counts = await store.datacenters()
    told = ", ".join(f"{name} ({count} nodes)" for name, count in counts.items())
    if own not in counts:
        return error(check, f"a data centre {own}", told, "name one that there is")
    if counts[own] < wanted:
        return error(
            check,
            f"{wanted} nodes in {own}, for so many copies",
            f"{counts[own]}",
            "start the others: without a quorum nothing is written",
        )
    return ok(check, told)


async def _tables(
    config: Config, store: ExaminedStore, founded: Founded | None
) -> list[Finding]:
    name = store.settings.keyspace
    copies = await store.copies()
    if copies is None:
        return [error(_KEYSPACE, f"a keyspace {name}", "none", _INIT)]
    try:
        await store.check_replication()
    except JournalError as fault:
        advice = "a quorum must meet every other: alter the keyspace"
        return [error(_KEYSPACE, "quorums that meet", str(fault), advice)]
    findings = [_copies(store, copies)]
    try:
        await store.open()
    except JournalError as fault:
        advice = "update the switch, or the tables with `switch cluster init`"
        findings.append(error(_KEYSPACE, "tables of this version", str(fault), advice))
        return findings
    findings.append(await _written(store))
    findings += await _agreed(store, founded)
    return findings


def _copies(store: ExaminedStore, copies: int) -> Finding:
    check = f"{_KEYSPACE}: copies"
    (wanted,) = store.settings.replication.values()
    if copies != wanted:
        return warning(
            check,
            f"{wanted}, as cluster.cassandra.replication says",
            f"{copies}",
            "alter the keyspace and repair it, or correct the setting",
        )
    if copies < COPIES_MIN:
        return warning(
            check,
            f"{COPIES_MIN} at least",
            f"{copies}",
            "with one node down nothing is written, with one lost all is",
        )
    return ok(check, f"{copies}")


async def _written(store: ExaminedStore) -> Finding:
    check = f"{_KEYSPACE}: writing"
    expected = "a row to be written by a quorum"
    try:
        await store.write_probe()
    except JournalUnknown as fault:
        advice = "are enough nodes up? otherwise, are their disks full?"
        return error(check, expected, str(fault), advice)
    except JournalError as fault:
        advice = "make room on Cassandra's disks, or grant the right to write"
        return error(check, expected, str(fault), advice)
    return ok(check, f"row {PROBE} of table meta, written by a quorum")


async def _agreed(store: ExaminedStore, founded: Founded | None) -> Sequence[Finding]:
    """What `switch cluster init` has written down."""
    if founded is None:
        return []
    findings = []
    for name, value in founded.values().items():
        what = founding.WHAT[name]
        got = await store.agreed(name)
        if got is None:
            findings.append(error(what, "it in Cassandra", "none", _INIT))
        elif got != value:
            advice = "this file is not of a node of that cluster"
            findings.append(error(what, f"{got}, as the cluster has", value, advice))
        else:
            findings.append(ok(what, f"{value}, as the cluster has"))
    return findings
