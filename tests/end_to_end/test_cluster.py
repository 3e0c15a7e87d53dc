"""A cluster on a real Cassandra and a real etcd: what operators do with it. What
befalls its servers is in test_cluster_faults.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clustered import BALANCE, ClusterOfNodes, balances
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd

COUNT = 24


@pytest.fixture
def cluster(
    tmp_path: Path, cassandra: Cassandra, etcd: Etcd
) -> Iterator[ClusterOfNodes]:
    with ClusterOfNodes(tmp_path, cassandra, etcd) as made:
        made.init()
        yield made


def test_any_node_tells_of_any_account(cluster):
    cluster.start("a", "b")
    cluster.import_bank(COUNT)
    for node in cluster.nodes.values():
        # Whoever has the shard.
        assert balances(node, COUNT) == [BALANCE] * COUNT
        assert node.get("/api/accounts/nobody")[0] == 404
    assert cluster.owners() == {"a", "b"}


def test_import_with_no_node_and_again(cluster):
    columns = ("account", "currency", "balance", "credit_limit")
    rows = [(f"A{index}", "EUR", BALANCE, 0) for index in range(COUNT)]
    assert cluster.import_rows("accounts", columns, rows) == {
        "imported": COUNT,
        "existing": 0,
    }
    more = [*rows, ("B1", "EUR", 5, 0)]
    assert cluster.import_rows("accounts", columns, more, "--skip-existing") == {
        "imported": 1,
        "existing": COUNT,
    }
    refused = cluster.run("accounts", "import", cluster.folder / "accounts.csv")
    assert refused.returncode != 0
    assert "expected a new one, got one that is open" in refused.stderr
    assert cluster.verify() == {
        "ok": True,
        "entries": COUNT + 1,
        "accounts": COUNT + 1,
        "problems": [],
    }


def test_a_node_of_another_cluster_is_refused(cluster):
    for others, said in (
        ({"shards": 8}, "journal.shards is not that of the cluster"),
        ({"key": '"nowhere.key"'}, "the cluster has a key already"),
        ({"name": "another"}, "cluster.name is not that of the cluster"),
    ):
        config = cluster.write_config(cluster.folder / "other", "other", **others)
        done = cluster.run("cluster", "init", config=config)
        assert done.returncode != 0
        assert said in done.stderr
    assert cluster.run("serve", config=config).returncode != 0
    assert cluster.run("cluster", "init").returncode == 0
