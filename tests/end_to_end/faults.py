"""What befalls the servers of a cluster, one after the other, while somebody buys; and
what those who buy notice of it.

Each fault is over when it returns: what was killed runs again, what hung goes on, every
shard has an owner. How long anybody waited meanwhile is told, and decides nothing.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.end_to_end.clustered import ClusterOfNodes, Purchase
from tests.end_to_end.harness import wait_until
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd, Member

NAMES = ("a", "b", "c")
LEASE_S = 5
# Of whatever is stopped and goes on: longer than the lease.
HANG_S = LEASE_S + 2
# Behind a fault, and while it lasts: of each terminal.
PURCHASES = 5
# A card scheme would still have waited; a person would have noticed.
LATE_S = 1.0


class Told(NamedTuple):
    """Of one fault: the purchases that were answered from its beginning to its end."""

    fault: str
    seconds: float
    purchases: int
    late: int
    longest_s: float
    asked_again: int
    declined: int

    def __str__(self) -> str:
        return (
            f"{self.fault:42} {self.seconds:7.1f} s {self.purchases:7} purchases,"
            f" {self.late} later than {LATE_S:g} s, the longest {self.longest_s:.2f} s,"
            f" {self.asked_again} asked again, {self.declined} declined"
        )


class Stage:
    def __init__(
        self,
        cluster: ClusterOfNodes,
        cassandra: Cassandra,
        etcd: Etcd,
        pans: Sequence[str],
        terminals_each: int = 2,
    ) -> None:
        self.cluster = cluster
        self.cassandra = cassandra
        self.etcd = etcd
        self.told: list[Told] = []
        self.terminals = cluster.start_terminals(NAMES * terminals_each, pans)

    def end(self) -> list[Purchase]:
        """All that was bought."""
        for terminal in self.terminals:
            terminal.end()
        return [each for terminal in self.terminals for each in terminal.purchases]

    def buy(self) -> None:
        """So many more, at each terminal."""
        before = [len(terminal.purchases) for terminal in self.terminals]

        def is_done() -> bool:
            return all(
                terminal.error is not None
                or len(terminal.purchases) >= count + PURCHASES
                for terminal, count in zip(self.terminals, before, strict=True)
            )

        wait_until(is_done, "purchases")

    def wait_owners(self, *names: str) -> None:
        """As the first of these nodes sees it, every shard is at one of them, and each
        of them has some."""

        def is_so() -> bool:
            _, body = self.cluster.nodes[names[0]].get("/readyz")
            shards = json.loads(body).get("shards", {})
            whole = sum(shards.values()) == self.cluster.shards
            return whole and set(shards) == set(names)

        wait_until(is_so, f"shards at {names}")

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        before = [len(terminal.purchases) for terminal in self.terminals]
        began_at = time.monotonic()
        yield
        self.buy()
        purchases = [
            each
            for terminal, count in zip(self.terminals, before, strict=True)
            for each in terminal.purchases[count:]
        ]
        self.told.append(
            Told(
                name,
                time.monotonic() - began_at,
                len(purchases),
                sum(each.waited_s > LATE_S for each in purchases),
                max(each.waited_s for each in purchases),
                sum(each.repeats for each in purchases),
                sum(each.code != "00" for each in purchases),
            )
        )


# -- Cassandra


def cassandra_is_killed(stage: Stage) -> None:
    node = stage.cassandra.nodes[0]
    with stage.fault("a Cassandra is killed, and starts"):
        node.kill()
        stage.buy()
        node.start()
        stage.cassandra.wait_whole()


def cassandra_hangs(stage: Stage) -> None:
    node = stage.cassandra.nodes[1]
    with stage.fault("a Cassandra hangs, and goes on"):
        node.pause()
        time.sleep(HANG_S)
        node.resume()


def cassandra_is_restarted_one_by_one(stage: Stage) -> None:
    with stage.fault("all Cassandra are restarted, one by one"):
        for node in stage.cassandra.nodes:
            node.stop()
            stage.buy()
            node.start()
            stage.cassandra.wait_whole()


# -- etcd


def leader_of_etcd_is_killed(stage: Stage) -> None:
    with stage.fault("the leader of etcd is killed, and starts"):
        leader = _leader(stage.etcd)
        leader.kill()
        stage.buy()
        leader.start()


def cassandra_hangs_and_the_leader_of_etcd_is_killed(stage: Stage) -> None:
    node, leader = stage.cassandra.nodes[1], _leader(stage.etcd)
    with stage.fault("a Cassandra hangs, etcd's leader is killed"):
        node.pause()
        leader.kill()
        time.sleep(HANG_S)
        node.resume()
        leader.start()


def leader_of_etcd_hangs(stage: Stage) -> None:
    with stage.fault("the leader of etcd hangs, and goes on"):
        leader = _leader(stage.etcd)
        leader.pause()
        time.sleep(HANG_S)
        leader.resume()


def _leader(etcd: Etcd) -> Member:
    def is_there() -> bool:
        return any(member.is_leader() for member in etcd.members)

    wait_until(is_there, "a leader of etcd")
    return etcd.leader()


# -- the switch


def node_is_killed(stage: Stage) -> None:
    node = stage.cluster.nodes["c"]
    with stage.fault(f"a node is killed, lease {LEASE_S} s"):
        node.kill()
        stage.wait_owners("a", "b")
    with stage.fault("and starts"):
        stage.cluster.start("c")
        stage.wait_owners(*NAMES)


def node_is_killed_while_a_cassandra_is_down(stage: Stage) -> None:
    server = stage.cassandra.nodes[2]
    with stage.fault("a Cassandra is killed"):
        server.kill()
    node = stage.cluster.nodes["c"]
    with stage.fault(f"a node is killed as well, lease {LEASE_S} s"):
        node.kill()
        server.spawn()
        stage.wait_owners("a", "b")
    with stage.fault("and both start"):
        stage.cluster.start("c")
        stage.wait_owners(*NAMES)
        server.wait_ready()
        stage.cassandra.wait_whole()


def node_hangs(stage: Stage) -> None:
    """For longer than its lease: whatever it says afterwards is true."""
    node = stage.cluster.nodes["b"]
    with stage.fault("a node hangs beyond its lease, and goes on"):
        node.send_signal(signal.SIGSTOP)
        stage.wait_owners("a", "c")
        node.send_signal(signal.SIGCONT)
        stage.wait_owners(*NAMES)


def node_is_stopped(stage: Stage) -> None:
    """As planned: nobody is told to try again."""
    with stage.fault("a node is stopped as planned"):
        assert stage.cluster.nodes["b"].stop() == 0
        stage.wait_owners("a", "c")
    assert stage.told[-1].declined == 0, stage.told[-1]
    with stage.fault("and starts"):
        stage.cluster.start("b")
        stage.wait_owners(*NAMES)


Fault = Callable[[Stage], None]
# Of each kind of server one that is killed and one that hangs.
SHORT: Sequence[Fault] = (
    node_is_killed_while_a_cassandra_is_down,
    cassandra_hangs_and_the_leader_of_etcd_is_killed,
    node_hangs,
    node_is_stopped,
)
ALL: Sequence[Fault] = (
    cassandra_is_killed,
    node_is_killed,
    leader_of_etcd_is_killed,
    cassandra_hangs,
    node_hangs,
    leader_of_etcd_hangs,
    cassandra_is_restarted_one_by_one,
    node_is_stopped,
    node_is_killed_while_a_cassandra_is_down,
)
