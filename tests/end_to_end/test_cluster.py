"""Several nodes on a real Cassandra and a real etcd: what was answered is in the
journal once, whatever becomes of the nodes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.cluster_publishing import (
    balances_of,
    in_files,
    in_kafka,
    kafka_settings,
    published,
    without_gaps,
)
from tests.end_to_end.clustered import (
    BALANCE,
    ClusterOfNodes,
    Terminal,
    ask_api,
    balances,
    listed_balances,
    row_balances,
    wait_for_owners,
)
from tests.end_to_end.harness import wait_until
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd
from tests.servers.kafka import Kafka

COUNT = 24


@pytest.fixture(scope="module")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    with Cassandra(tmp_path_factory.mktemp("cassandra")) as server:
        yield server


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with Kafka(tmp_path_factory.mktemp("kafka")) as server:
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
    assert listed_balances(a, cluster.add_token("a")) == rows
    # One more node, or none: it is all in the journal.
    assert a.stop() == 0
    cluster.start("c")
    assert balances(cluster.nodes["c"], COUNT) == expected
    assert cluster.verify() == verdict


def test_what_was_answered_is_published_whoever_owns_it(
    tmp_path, cassandra, etcd, kafka
):
    more = kafka_settings(kafka.bootstrap, "cluster-")
    with ClusterOfNodes(tmp_path, cassandra, etcd, more) as cluster:
        cluster.init()
        cluster.start("a", "b")
        pans = cluster.import_bank(COUNT)
        terminals = [
            Terminal(cluster, name, pans, 100_000 * (1 + index))
            for index, name in enumerate("ab")
        ]
        for terminal in terminals:
            terminal.start()
        wait_until(lambda: all(len(t.codes) > 20 for t in terminals), "purchases")
        for pid in cluster.nodes["a"].publishers():
            os.kill(pid, signal.SIGKILL)
        cluster.nodes["b"].kill()
        wait_for_owners(cluster, {"a"})
        # It comes back, and half of the shards move as planned.
        cluster.start("b")
        wait_for_owners(cluster, {"a", "b"})
        before = len(terminals[1].codes)
        wait_until(lambda: len(terminals[1].codes) > before + 20, "purchases")
        for terminal in terminals:
            terminal.end()
        # What is answered is published before they end.
        for node in cluster.nodes.values():
            assert node.stop() == 0

        entries = cluster.verify()["entries"]
        all_out = {"events": (entries, 0), "kafka": (entries, 0)}
        assert published(cluster) == all_out
        spent = [sum(t.spent[pan] for t in terminals) for pan in pans]
        expected = {f"A{index}": BALANCE - each for index, each in enumerate(spent)}
        for found in (in_kafka(kafka.bootstrap, "cluster-"), in_files(cluster)):
            assert without_gaps(found) == entries
            assert balances_of(found) == expected

        # An operator has all of it sent again, while a node runs.
        cluster.start("a")
        done = cluster.run("publish", "rewind", "kafka", "--to-start")
        assert f"{entries:,} entries" in done.stdout, done.stderr
        wait_until(lambda: published(cluster) == all_out, "all to be published again")
        assert without_gaps(in_kafka(kafka.bootstrap, "cluster-")) == entries
        assert cluster.nodes["a"].stop() == 0


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
    # Over HTTP, at a node that has events of its own by then.
    cluster.start("a")
    a = cluster.nodes["a"]
    wait_until(lambda: published(cluster)["events"] == (COUNT + 1, 0), "events")
    text = ",".join(columns) + "\nH1,EUR,7,0\nH2,EUR,8,0\n"
    path = "/api/imports/accounts?reason=merger"
    token = cluster.add_token("a")
    answer = {"imported": 2, "existing": 0}
    assert ask_api(a, token, path, text) == (201, answer)
    assert (a.account("H1")["balance"], a.account("H2")["balance"]) == (7, 8)
    assert ask_api(a, token, path, text)[0] == 409
    assert cluster.verify()["entries"] == COUNT + 3


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
