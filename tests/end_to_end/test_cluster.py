"""Several nodes on a real Cassandra and a real etcd: what was answered is in the
journal once, whatever becomes of the nodes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clustered import (
    BALANCE,
    LEASE_S,
    SHARDS,
    ClusterOfNodes,
    NodeDaemon,
    Terminal,
    balances,
    row_balances,
    wait_for_owners,
)
from tests.end_to_end.harness import wait_until
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd

COUNT = 24


@pytest.fixture(scope="module")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    with Cassandra(tmp_path_factory.mktemp("cassandra")) as server:
        yield server


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def cluster(
    tmp_path: Path, cassandra: Cassandra, etcd: Etcd
) -> Iterator[ClusterOfNodes]:
    with ClusterOfNodes(tmp_path, cassandra, etcd) as made:
        made.init()
        yield made


def test_what_was_answered_is_there_once_whatever_becomes_of_nodes(cluster):
    cluster.start("a", "b", "c")
    pans = cluster.import_bank(COUNT)
    for node in cluster.nodes.values():
        # Whoever has the shard.
        assert balances(node, COUNT) == [BALANCE] * COUNT
        assert node.get("/api/accounts/nobody")[0] == 404
    terminals = [
        Terminal(cluster, name, pans, 100_000 * (1 + index))
        for index, name in enumerate("abc")
    ]
    for terminal in terminals:
        terminal.start()

    # Killed: its shards answer again on the others.
    wait_until(lambda: all(len(t.codes) > 20 for t in terminals), "purchases")
    cluster.nodes["c"].kill()
    wait_for_owners(cluster, {"a", "b"})

    # Hung for longer than its lease: whatever it says afterwards is true.
    cluster.nodes["b"].send_signal(signal.SIGSTOP)
    wait_for_owners(cluster, {"a"})
    cluster.nodes["b"].send_signal(signal.SIGCONT)
    wait_for_owners(cluster, {"a", "b"})

    # Stopped as planned: nobody is told to try again.
    before = [len(terminal.codes) for terminal in terminals]
    wait_until(lambda: len(terminals[0].codes) > before[0] + 20, "purchases")
    told = [len(terminal.codes) for terminal in terminals]
    assert cluster.nodes["b"].stop() == 0
    wait_for_owners(cluster, {"a"})
    for terminal, start in zip(terminals, told, strict=True):
        assert set(terminal.codes[start:]) <= {"00"}

    for terminal in terminals:
        terminal.end()
    spent = [sum(t.spent[pan] for t in terminals) for pan in pans]
    a = cluster.nodes["a"]
    expected = [BALANCE - each for each in spent]
    assert balances(a, COUNT) == expected
    assert all(spent)
    verdict = cluster.verify()
    assert verdict["problems"] == []
    rows = {f"A{index}": balance for index, balance in enumerate(expected)}
    wait_until(lambda: row_balances(cluster) == rows, "rows of accounts")
    expect_figures(a)
    a.send_signal(signal.SIGHUP)
    read = "configuration read again"
    wait_until(lambda: a.log_records(read), "the configuration to be read")
    assert [record["kept"] for record in a.log_records(read)] == ["main"]
    # One more node, or none: it is all in the journal.
    assert a.stop() == 0
    cluster.start("c")
    assert balances(cluster.nodes["c"], COUNT) == expected
    assert cluster.verify() == verdict


def expect_figures(node: NodeDaemon) -> None:
    """Of one that has all shards, and nothing to do."""
    told = node.metrics()
    assert told["switch_cluster_session_up"] == 1
    assert told["switch_cluster_members"] == 1
    assert told["switch_cluster_shards"] == SHARDS
    assert told["switch_cluster_shards_unowned"] == 0
    assert 0 < told["switch_cluster_lease_seconds"] <= LEASE_S
    assert told["switch_rows_lag_entries"] == 0
    assert told["switch_rows_written_total"] > 0
    for name in ("commit", "log_append", "fence_read", "cluster_takeover"):
        assert told[f"switch_{name}_seconds_count"] > 0
    assert "switch_retention_passes_total" in told


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
