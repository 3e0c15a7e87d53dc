"""A cluster that is restored as docs/cluster.md says: from snapshots of Cassandra and a
copy of its key, with an etcd that has never heard of it."""

from tests.end_to_end.clustered import BALANCE, ClusterOfNodes, balances
from tests.end_to_end.harness import Client, request, wait_until
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd

COUNT = 12
SNAPSHOT = "backup"


def test_a_cluster_is_restored_from_a_snapshot(tmp_path, cassandra, etcd):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    with ClusterOfNodes(old, cassandra, etcd) as cluster:
        cluster.init()
        cluster.start("a")
        pans = cluster.import_bank(COUNT)
        (terminal,) = cluster.start_terminals("a", pans)
        wait_until(lambda: len(terminal.purchases) > 20, "purchases")
        terminal.end()
        assert cluster.nodes["a"].stop() == 0
        (node,) = cassandra.nodes
        node.snapshot(SNAPSHOT, cluster.keyspace, "system_schema")
        kept, epochs = cluster.verify(), epochs_of(cluster)
    spent = dict.fromkeys(pans, 0)
    for each in terminal.purchases:
        spent[each.pan] += each.amount if each.code == "00" else 0

    servers = Cassandra(new / "cassandra")
    servers.nodes[0].put_in_place(node, SNAPSHOT)
    with (
        servers,
        Etcd(new / "etcd") as empty_etcd,
        ClusterOfNodes(new, servers, empty_etcd, like=cluster) as restored,
    ):
        # Nobody is taken for a cluster that etcd does not know.
        assert restored.run("serve").returncode == 74
        restored.init()
        assert restored.verify() == kept
        restored.start("a")
        a = restored.nodes["a"]
        assert balances(a, COUNT) == [BALANCE - spent[pan] for pan in pans]
        with Client(a.port) as client:
            # A repeat gets the answer that was given, and what is new is decided.
            for each in terminal.purchases:
                again = request("0201", int(each.rrn), each.pan, each.amount)
                assert client.ask(again)[39] == each.code
            assert client.ask(request("0200", 900_000, pans[0], 5))[39] == "00"
        assert a.account("A0")["balance"] == BALANCE - spent[pans[0]] - 5
        assert a.stop() == 0
        assert restored.verify()["entries"] == kept["entries"] + 1
        after = epochs_of(restored)
        assert all(after[shard] > number for shard, number in epochs.items())


def epochs_of(cluster: ClusterOfNodes) -> dict[int, int]:
    return {each["shard"]: each["epoch"] for each in cluster.status()["shards"]}
