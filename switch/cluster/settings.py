"""The settings of `[cluster]`: docs/cluster.md has them.

A switch is a node of a cluster when the cluster has a name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct, field

from switch.link.settings import Address
from switch.publish.settings import Hosts

CQL_PORT = 9042
# etcd grants no lease shorter than two seconds.
LEASE_S_MIN, LEASE_S_MAX = 2, 300
RETENTION_H_MAX = 10 * 366 * 24

Name = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")]
# HOST, or HOST:PORT, an IPv6 address in brackets.
ContactPoint = Annotated[
    str, Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]]+)(:[0-9]{1,5})?$")
]
Keyspace = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
ContactPoints = tuple[ContactPoint, ...]
Replication = dict[
    Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")],
    Annotated[int, Meta(ge=1, le=9)],
]


class EtcdSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Some of the members, or all.
    endpoints: Hosts = ()
    # How long a node that says nothing is believed to own what it owned.
    lease_ttl_s: Annotated[int, Meta(ge=LEASE_S_MIN, le=LEASE_S_MAX)] = 5
    # Empty: as nobody.
    user: str = ""
    password_file: str = ""
    # PEM: who signs its certificates, without which there is no TLS; ours, if it asks.
    ca: str = ""
    cert: str = ""
    key: str = ""
    # Of its certificates, if that is another than the endpoints have.
    server_name: str = ""


class CassandraSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Some of the nodes; they tell the others.
    contact_points: ContactPoints = ()
    keyspace: Keyspace = "cardswitch"
    # Copies by data centre: one, the one that this node asks.
    replication: Replication = field(default_factory=lambda: {"datacenter1": 3})
    # How long the journal's log is kept when nothing reads it any more.
    retention_h: Annotated[int, Meta(ge=0, le=RETENTION_H_MAX)] = 7 * 24
    # As for etcd.
    user: str = ""
    password_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    # Whether the certificate of a node has to have its address.
    verify_host: bool = True

    @property
    def addresses(self) -> list[Address]:
        return [
            Address.parse(point if _has_port(point) else f"{point}:{CQL_PORT}")
            for point in self.contact_points
        ]


class PeerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Where the other nodes reach this one: it listens there, and tells it to them.
    listen: Address = Address("127.0.0.1", 8581)
    # PEM: this node's certificate and key, and who signs those of all nodes.
    cert: str = ""
    key: str = ""
    ca: str = ""


class ClusterSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Empty: no cluster, but a data directory of its own.
    name: Name = ""
    # Of this node: no two have the same.
    node: Name = ""
    # The same file on all nodes; `switch cluster init` makes it.
    pan_key_file: str = ""
    # Whether this node keeps all accounts, cards and transactions of the cluster as
    # rows of its own, to search in.
    read_model: bool = True
    etcd: EtcdSettings = EtcdSettings()
    cassandra: CassandraSettings = CassandraSettings()
    peer: PeerSettings = PeerSettings()


_TOGETHER = "cert, key and ca together, without which nodes talk on loopback alone"


def missing(settings: ClusterSettings) -> Iterator[tuple[str, str, object]]:
    """What a cluster cannot do without: the setting, what was expected, what came."""
    if not settings.name:
        return
    for path, value, what in (
        ("node", settings.node, "the name of this node"),
        ("pan_key_file", settings.pan_key_file, "a file that all nodes share"),
        ("etcd.endpoints", settings.etcd.endpoints, "one at least"),
        (
            "cassandra.contact_points",
            settings.cassandra.contact_points,
            "one at least",
        ),
    ):
        if not value:
            yield path, what, "none"
    replication = settings.cassandra.replication
    if len(replication) != 1:
        yield "cassandra.replication", "one data centre", ", ".join(replication)
    ports = {address.port for address in settings.cassandra.addresses}
    if len(ports) > 1:
        yield "cassandra.contact_points", "the same port", sorted(ports)
    yield from _missing_of_access("etcd", settings.etcd)
    if settings.etcd.server_name and not settings.etcd.ca:
        yield "etcd.ca", "a file, with server_name", "none"
    yield from _missing_of_access("cassandra", settings.cassandra)
    yield from _missing_of_peer(settings.peer)


def _missing_of_access(
    section: str, settings: EtcdSettings | CassandraSettings
) -> Iterator[tuple[str, str, object]]:
    for name, other, what in (
        ("user", "password_file", "a user"),
        ("password_file", "user", "a file"),
        ("cert", "key", "a file"),
        ("key", "cert", "a file"),
        ("ca", "cert", "a file"),
    ):
        if getattr(settings, other) and not getattr(settings, name):
            yield f"{section}.{name}", f"{what}, with {other}", "none"


def _missing_of_peer(peer: PeerSettings) -> Iterator[tuple[str, str, object]]:
    files = {"cert": peer.cert, "key": peer.key, "ca": peer.ca}
    if any(files.values()) or not _is_loopback(peer.listen):
        for name, file in files.items():
            if not file:
                yield f"peer.{name}", _TOGETHER, "none"
    if _is_anywhere(peer.listen):
        yield "peer.listen", "an address at which other nodes reach it", peer.listen


def _is_loopback(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"


def _is_anywhere(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_unspecified
    except ValueError:
        return False


def _has_port(point: str) -> bool:
    return point.rpartition(":")[2].isdigit() and not point.endswith("]")
