"""etcd, and what it says of the nodes."""

from __future__ import annotations

import asyncio
import email.utils
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from switch.cluster import founding
from switch.cluster.observing import Seen, look
from switch.cluster.settings import EtcdSettings
from switch.cluster_store import etcd_settings
from switch.config import Config
from switch.doctor import clocks, greeting
from switch.doctor.findings import Finding, error, ok, warning
from switch.journal.errors import JournalError
from switch.link.settings import Address
from switch.ownership.etcd.client import EtcdClient, MemberStatus
from switch.ownership.etcd.errors import EtcdError
from switch.ownership.port import OwnershipUnavailable
from switch.peer.errors import PeerError
from switch.peer.sockets import Certificates, contexts

HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=3)
# The date of an answer is in whole seconds.
DATE_GRAIN_MS: Final = 1_000
_ENDPOINTS: Final = "cluster.etcd.endpoints"


@asynccontextmanager
async def client(config: Config) -> AsyncIterator[EtcdClient]:
    made = EtcdClient(etcd_settings(config.cluster.etcd))
    try:
        yield made
    finally:
        await made.close()


async def members(config: Config, etcd: EtcdClient) -> list[Finding]:
    """Of each endpoint: whether it answers, and what troubles it."""
    found = await etcd.statuses()
    findings = [finding for each in found for finding in _member(each)]
    there = [each for each in found if each.trouble is None]
    if len({each.cluster for each in there}) > 1:
        told = ", ".join(f"{each.endpoint} of {each.cluster:x}" for each in there)
        advice = "nodes would not see each other"
        findings.append(error(_ENDPOINTS, "members of one etcd", told, advice))
    if there and not any(each.has_leader for each in there):
        advice = "start its other members: without a quorum nothing is decided"
        findings.append(error(_ENDPOINTS, "a leader", "none", advice))
    if len(found) < 3:
        findings.append(
            warning(
                _ENDPOINTS,
                "three at least",
                f"{len(found)}",
                "name all members: a node asks another one when one is away",
            )
        )
    return [*findings, *await _clocks(config, there)]


def _member(member: MemberStatus) -> list[Finding]:
    check = f"etcd {member.endpoint}"
    if member.trouble is not None:
        advice = f"is it one of {_ENDPOINTS}, and does it run?"
        return [error(check, "etcd to answer", member.trouble, advice)]
    role = "leader" if member.is_leader else "member"
    findings = [ok(check, f"etcd {member.version}, {role}, {member.size:,} bytes")]
    for alarm in member.alarms:
        advice = (
            "compact and defragment it, then `etcdctl alarm disarm`; until then "
            "no node joins and no shard is taken"
            if "NOSPACE" in alarm
            else "see etcd's own log"
        )
        findings.append(error(f"{check}: alarms", "none", alarm.strip(), advice))
    return findings


async def _clocks(config: Config, there: Sequence[MemberStatus]) -> list[Finding]:
    settings = config.cluster.etcd
    try:
        tls = _tls(settings)
    except OSError:  # what ssl raises is one
        return []  # what it was asked with is good for gRPC, and that is what counts
    connector = aiohttp.TCPConnector(ssl=True if tls is None else tls)
    async with aiohttp.ClientSession(
        timeout=HTTP_TIMEOUT, connector=connector
    ) as session:
        found = await asyncio.gather(
            *(
                _clock(session, each.endpoint, tls is not None, settings.server_name)
                for each in there
            )
        )
    return [finding for finding in found if finding is not None]


def _tls(settings: EtcdSettings) -> ssl.SSLContext | None:
    """The files were read a moment ago, for the members."""
    if not settings.ca:
        return None
    context = ssl.create_default_context(cafile=settings.ca)
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key)
    return context


async def _clock(
    session: aiohttp.ClientSession, endpoint: str, is_tls: bool, server_name: str
) -> Finding | None:
    """By the date of any answer; leases are counted in seconds, whatever it says."""
    url = f"{'https' if is_tls else 'http'}://{endpoint}/version"
    name = server_name if is_tls and server_name else None
    before = clocks.now_ms()
    try:
        async with session.get(url, server_hostname=name) as answer:
            date = email.utils.parsedate_to_datetime(answer.headers["Date"])
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
        return None  # it does not tell
    theirs = int(date.timestamp() * 1000)
    return clocks.compared(
        f"etcd {endpoint}: clock", before, theirs, clocks.now_ms(), DATE_GRAIN_MS
    )


async def identity(
    etcd: EtcdClient, store: founding.Agreements, founded: founding.Founded
) -> Finding:
    """Whether etcd and the keyspace are of one cluster."""
    check = "identity of the cluster"
    try:
        await founding.check(store, etcd, founded)
    except JournalError as fault:
        advice = "a cluster of this name in this etcd has another keyspace"
        return error(check, "the same in Cassandra and etcd", str(fault), advice)
    except EtcdError as fault:
        return error(check, "etcd to tell it", str(fault))
    return ok(check, "the same in Cassandra and etcd")


async def who(config: Config, etcd: EtcdClient) -> Seen | Finding:
    try:
        return await look(etcd, config.cluster.name)
    except OwnershipUnavailable as fault:
        return error("nodes", "etcd to tell who is there", str(fault))


async def nodes(config: Config, seen: Seen) -> list[Finding]:
    """Who is there, whether each can be reached as nodes reach each other, and what
    time it has."""
    if not seen.members:
        return [warning("nodes", "some", "none", "`switch serve` starts this one")]
    peer = config.cluster.peer
    others = [*_own(config, seen), _owners(config, seen)]
    tls = None
    if peer.cert:
        try:
            tls = contexts(Certificates(peer.cert, peer.key, peer.ca))[1]
        except PeerError as fault:
            told = error("nodes", "a certificate to reach them with", str(fault))
            return [told, *others]
    looks = await asyncio.gather(
        *(
            greeting.node(name, Address.parse(member.address), tls)
            for name, member in sorted(seen.members.items())
        )
    )
    return [*(finding for found in looks for finding in found), *others]


def _own(config: Config, seen: Seen) -> list[Finding]:
    own = seen.members.get(config.cluster.node)
    listen = config.cluster.peer.listen
    if own is None or listen.port == 0 or own.address == str(listen):
        return []
    return [
        error(
            "cluster.node",
            f"{config.cluster.node} at {listen}, of cluster.peer.listen",
            f"one at {own.address}",
            "no two nodes have the same name",
        )
    ]


def _owners(config: Config, seen: Seen) -> Finding:
    check = "shards"
    shards = config.journal.shards
    missing = sorted(set(range(shards)) - set(seen.owners))
    if missing:
        shown = ", ".join(map(str, missing[:8])) + (", …" if missing[8:] else "")
        advice = "a moment after a change that is so; then see the nodes' logs"
        got = f"none for {len(missing)}: {shown}"
        return error(check, f"an owner for each of {shards}", got, advice)
    return ok(check, f"each of {shards} has an owner")
