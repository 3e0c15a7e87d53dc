"""A cluster on a real Cassandra and a real etcd: what operators do with it. What
befalls its servers is in test_cluster_faults.py."""

import json
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
    nsq_settings,
    published,
    without_gaps,
)
from tests.end_to_end.clustered import (
    BALANCE,
    LEASE_S,
    SHARDS,
    ClusterOfNodes,
    NodeDaemon,
    ask_api,
    balances,
    listed_balances,
    row_balances,
    wait_for_owners,
)
from tests.end_to_end.harness import wait_until
from tests.end_to_end.nsq_topics import Collector, check, wanted_pushes
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
    rows = {f"A{index}": BALANCE for index in range(COUNT)}
    wait_until(lambda: row_balances(cluster) == rows, "rows of accounts")
    b, token = cluster.nodes["b"], cluster.add_token("b")
    wait_until(lambda: ask_api(b, token, "/api/accounts")[0] == 200, "a read model")
    wait_until(lambda: listed_balances(b, token) == rows, "rows of its own")
    a = cluster.nodes["a"]
    assert cluster.nodes["b"].stop() == 0
    wait_for_owners(cluster, {"a"})
    wait_until(lambda: not a.metrics()["switch_rows_lag_entries"], "marks of the rows")
    expect_figures(a)
    a.send_signal(signal.SIGHUP)
    read = "configuration read again"
    wait_until(lambda: a.log_records(read), "the configuration to be read")
    assert [record["kept"] for record in a.log_records(read)] == ["main"]


def test_what_was_answered_is_published_whoever_owns_it(
    tmp_path, cassandra, etcd, kafka, nsqd
):
    topic = "cluster"
    more = kafka_settings(kafka.bootstrap, "cluster-")
    more += nsq_settings([nsqd.address], topic)
    with (
        ClusterOfNodes(tmp_path, cassandra, etcd, more=more) as cluster,
        Collector(topic, [nsqd.address]) as collector,
    ):
        cluster.init()
        cluster.start("a", "b")
        pans = cluster.import_bank(COUNT)
        expected = trade_while_one_is_killed(cluster, pans)
        # What is answered is published before they end.
        for node in cluster.nodes.values():
            assert node.stop() == 0

        entries = cluster.verify()["entries"]
        all_out = dict.fromkeys(("events", "kafka", "nsq"), (entries, 0))
        assert published(cluster) == all_out
        events = in_kafka(kafka.bootstrap, "cluster-")
        for found in (events, in_files(cluster)):
            assert without_gaps(found) == entries
            assert balances_of(found) == expected
        collector.wait_for(set(wanted_pushes(events)))
        check(collector.pushes, events)

        # An operator has all of it sent again, while a node runs.
        cluster.start("a")
        done = cluster.run("publish", "rewind", "kafka", "--to-start")
        assert f"{entries:,} entries" in done.stdout, done.stderr
        wait_until(lambda: published(cluster) == all_out, "all to be published again")
        assert without_gaps(in_kafka(kafka.bootstrap, "cluster-")) == entries
        assert cluster.nodes["a"].stop() == 0

        # Kafka and NSQ are taken out of the configuration for good.
        forget = "publish", "forget", "kafka", "--json"
        assert cluster.run(*forget).returncode == 74
        without = tmp_path / "without.toml"
        without.write_text(cluster.config.read_text().removesuffix(more))
        assert published(cluster, without) == all_out
        done = cluster.run(*forget, config=without)
        assert json.loads(done.stdout) == {"engine": "kafka", "entries": entries}
        left = {name: each for name, each in all_out.items() if name != "kafka"}
        assert published(cluster, without) == left


def trade_while_one_is_killed(
    cluster: ClusterOfNodes, pans: list[str]
) -> dict[str, int]:
    """And started again. What is left in each account."""
    terminals = cluster.start_terminals("ab", pans)
    wait_until(lambda: all(len(t.purchases) > 20 for t in terminals), "purchases")
    for pid in cluster.nodes["a"].publishers():
        os.kill(pid, signal.SIGKILL)
    cluster.nodes["b"].kill()
    wait_for_owners(cluster, {"a"})
    # It comes back, and half of the shards move as planned.
    cluster.start("b")
    wait_for_owners(cluster, {"a", "b"})
    before = len(terminals[1].purchases)
    wait_until(lambda: len(terminals[1].purchases) > before + 20, "purchases")
    for terminal in terminals:
        terminal.end()
    spent = dict.fromkeys(pans, 0)
    for terminal in terminals:
        for each in terminal.purchases:
            spent[each.pan] += each.amount if each.code == "00" else 0
    return {f"A{index}": BALANCE - spent[pan] for index, pan in enumerate(pans)}


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
    assert told['switch_disk_free_bytes{directory="events"}'] > 0
    assert told["switch_transactions_remembered"] == 0


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
        ({"key": "nowhere.key"}, "the cluster has a key already"),
        ({"name": "another"}, "cluster.name is not that of the cluster"),
    ):
        config = cluster.write_config(cluster.folder / "other", "other", **others)
        done = cluster.run("cluster", "init", config=config)
        assert done.returncode != 0
        assert said in done.stderr
    assert cluster.run("serve", config=config).returncode != 0
    assert cluster.run("cluster", "init").returncode == 0
