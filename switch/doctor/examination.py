"""All looks, in the order in which what is wrong with one explains the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from switch.check import problems_of
from switch.cluster.founding import Founded
from switch.cluster.observing import Seen
from switch.cluster_store import (
    cassandra_settings,
    etcd_settings,
    founded,
    load_key,
)
from switch.config import Config, ConfigError
from switch.doctor import cassandra, certificates, clocks, engines, etcd, machine
from switch.doctor.findings import Finding, error, ok
from switch.journal.cassandra.examined import ExaminedStore
from switch.journal.errors import JournalError
from switch.keys.port import KeysError
from switch.ownership.etcd.client import EtcdClient


async def examine(config: Config) -> AsyncIterator[Finding]:
    """As it goes on: some of it waits for servers that do not answer."""
    for finding in _configuration(config):
        yield finding
    for finding in certificates.examine(config):
        yield finding
    for finding in machine.directory(config):
        yield finding
    yield machine.descriptors(config)
    yield clocks.service()
    runs = machine.is_running(config)
    if config.cluster.name and _may_ask(config):
        seen: Seen | Finding | None
        async with etcd.client(config) as client:
            members = await etcd.members(config, client)
            is_there = any(finding.level == "ok" for finding in members)
            for finding in members:
                yield finding
            for finding in await _of_cassandra(config, client if is_there else None):
                yield finding
            seen = await etcd.who(config, client) if is_there else None
        if seen is None:
            pass  # nobody is there to be asked
        elif isinstance(seen, Finding):
            yield seen
        else:
            for finding in await etcd.nodes(config, seen):
                yield finding
            runs = config.cluster.node in seen.members
    for finding in machine.addresses(config, runs=runs):
        yield finding
    for look in (engines.kafka, engines.nsq):
        for finding in await look(config):
            yield finding


def _may_ask(config: Config) -> bool:
    """Without what they are to be asked with, which was told, nobody is asked."""
    try:
        cassandra_settings(config.cluster.cassandra)
        etcd_settings(config.cluster.etcd)
    except ConfigError:
        return False
    return True


def _configuration(config: Config) -> Iterable[Finding]:
    problems = problems_of(config)
    for problem in problems:
        setting, _, what = problem.partition(": ")
        yield Finding(setting, "error", what)
    file = config.cluster.pan_key_file
    if config.cluster.name and not Path(file).exists():
        yield error(
            "cluster.pan_key_file",
            f"the key of all nodes in {file}",
            "no file",
            "copy it from another node; `switch cluster init` makes the first one",
        )
    elif not problems:
        yield ok("configuration", "all that it names can be used")


async def _of_cassandra(config: Config, client: EtcdClient | None) -> Sequence[Finding]:
    findings = await cassandra.nodes(config)
    if not any(finding.level == "ok" for finding in findings):
        return findings  # nobody is there: there is nothing to ask
    wanted = _founded(config)
    tables = await cassandra.keyspace(config, wanted)
    findings += tables
    is_sound = not any(finding.level == "error" for finding in tables)
    if client is None or wanted is None or not is_sound:
        return findings
    try:
        store = await ExaminedStore.connect(
            cassandra_settings(config.cluster.cassandra)
        )
        try:
            await store.open()
            findings.append(await etcd.identity(client, store, wanted))
        finally:
            await store.close()
    except JournalError as fault:
        findings.append(error("identity of the cluster", "to ask", str(fault)))
    return findings


def _founded(config: Config) -> Founded | None:
    try:
        return founded(config, load_key(config))
    except KeysError:
        return None  # said already
