"""Where a local cluster is: its files, and the addresses of all that is in it.

Rule 1: what servers have written names their addresses: data that is kept is gone on
        with at the addresses that it was made at.
Rule 2: two copies of the repository may each have one, for a network of 127.0.0.0/8
        that is taken is not used.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.servers.cassandra import PORTS as CASSANDRA_PORTS
from tests.servers.cassandra import REPLICAS_OF_SYSTEM, free_addresses
from tests.servers.common import ROOT, ServerError, free_ports, is_free

DIRECTORY = ROOT / ".cache" / "cluster"
NETWORK, FIRST_HOST = "127.0.0", 11
NODES_MAX = 9
LINK_PORT, HTTP_PORT, PEER_PORT = 8583, 8580, 8581
PORTS = (*CASSANDRA_PORTS, LINK_PORT, HTTP_PORT, PEER_PORT)
ETCD_MEMBERS = 3
PORTS_OF_A_MEMBER = 3


class Plan(msgspec.Struct, frozen=True):
    """Each machine has an address; the first ones have a Cassandra, too."""

    addresses: tuple[str, ...]
    cassandra_count: int
    node_count: int
    etcd_ports: tuple[int, ...]

    @property
    def of_cassandra(self) -> tuple[str, ...]:
        return self.addresses[: self.cassandra_count]

    @property
    def of_nodes(self) -> tuple[str, ...]:
        return self.addresses[: self.node_count]

    @property
    def etcd_count(self) -> int:
        return len(self.etcd_ports) // PORTS_OF_A_MEMBER


class Place:
    """The files of the cluster in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = directory / "lock"
        self.log = directory / "up.log"
        self.processes = directory / "processes"
        # What is running uses one of them.
        self.fresh = directory / "data"
        self.kept = directory / "kept"

    def data(self, *, keep: bool) -> Path:
        return self.kept if keep else self.fresh


def config_of(data: Path, number: int) -> Path:
    return data / f"node{number}.toml"


def plan_of(data: Path, *, node_count: int, small: bool) -> Plan:
    """The one that the data was made by, or a new one, written down. Raises
    ServerError when it was made by another."""
    file = data / "plan.json"
    count = 1 if small else REPLICAS_OF_SYSTEM
    if file.exists():
        plan = msgspec.json.decode(file.read_bytes(), type=Plan)
        if (plan.cassandra_count, plan.node_count) != (count, node_count):
            raise ServerError(
                f"{data}: expected {count} Cassandra and {node_count} nodes, got data "
                f"of {plan.cassandra_count} and {plan.node_count}: ask for those, or "
                "remove it with `scripts/cluster down --remove`"
            )
        return plan
    members = 1 if small else ETCD_MEMBERS
    plan = Plan(
        tuple(_addresses(max(count, node_count))),
        count,
        node_count,
        tuple(free_ports(PORTS_OF_A_MEMBER * members)),
    )
    file.write_bytes(msgspec.json.encode(plan))
    return plan


def _addresses(count: int) -> list[str]:
    wanted = [f"{NETWORK}.{FIRST_HOST + index}" for index in range(count)]
    are_free = all(is_free(address, PORTS) for address in wanted)
    return wanted if are_free else free_addresses(count)
