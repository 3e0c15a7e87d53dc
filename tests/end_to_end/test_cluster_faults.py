"""Three nodes on three Cassandra and three etcd, under load, while servers of each kind
are killed, hang, and are restarted: what was answered is in the journal, once.

CLUSTER_FAULT_ROUNDS=5 goes through all faults so often, and through a rolling restart
of Cassandra among them; without it there is one round of a few. How long purchases took
meanwhile is told and decides nothing.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end import faults
from tests.end_to_end.clustered import (
    BALANCE,
    ClusterOfNodes,
    balances,
    row_balances,
    transactions_of,
)
from tests.end_to_end.faults import LEASE_S, NAMES, Stage
from tests.end_to_end.harness import wait_until
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd

COUNT = 24
ROUNDS = int(os.environ.get("CLUSTER_FAULT_ROUNDS", "0"))
SECONDS_MAX = 600 * (1 + ROUNDS)


@pytest.fixture
def cluster(
    tmp_path: Path, cassandra_cluster: Cassandra, etcd_cluster: Etcd
) -> Iterator[ClusterOfNodes]:
    with ClusterOfNodes(
        tmp_path, cassandra_cluster, etcd_cluster, lease_s=LEASE_S
    ) as made:
        made.init()
        yield made


@pytest.mark.timeout(SECONDS_MAX)
def test_what_was_answered_is_there_once_whatever_befalls(
    cluster, cassandra_cluster, etcd_cluster, capsys
):
    cluster.start(*NAMES)
    pans = cluster.import_bank(COUNT)
    stage = Stage(cluster, cassandra_cluster, etcd_cluster, pans)
    stage.buy()
    for befalls in [*faults.ALL] * ROUNDS or faults.SHORT:
        befalls(stage)
    purchases = stage.end()
    with capsys.disabled():
        print("", *stage.told, sep="\n  ")

    # One by one: what was approved is there once, and nothing else moved money.
    approved, undone = transactions_of(cluster)
    told = Counter(each.rrn for each in purchases if each.code == "00")
    assert set(told.values()) == {1}
    assert approved - undone == told

    spent: dict[str, int] = dict.fromkeys(pans, 0)
    for each in purchases:
        if each.code == "00":
            spent[each.pan] += each.amount
    expected = [BALANCE - spent[pan] for pan in pans]
    for node in cluster.nodes.values():
        assert balances(node, COUNT) == expected
    verdict = cluster.verify()
    assert verdict["problems"] == []
    rows = {f"A{index}": balance for index, balance in enumerate(expected)}
    wait_until(lambda: row_balances(cluster) == rows, "rows of accounts")

    # All of it again from the journal alone.
    for node in cluster.nodes.values():
        assert node.stop() == 0
    cluster.start("b")
    assert balances(cluster.nodes["b"], COUNT) == expected
    assert cluster.verify() == verdict
