"""What a node of a cluster does with what is wrong around it: a clear error, or less
service, and never a wrong answer. `switch doctor` names it."""

import json
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from switch.journal.cassandra.schema import SCHEMA_VERSION
from tests.end_to_end.clustered import (
    DEADLINE_MS,
    SHARDS,
    ClusterOfNodes,
    NodeDaemon,
    balances,
    wait_for_owners,
)
from tests.end_to_end.harness import (
    SWITCH,
    Client,
    request,
    run_switch,
    wait_until,
)
from tests.servers.cassandra import Cassandra, ask
from tests.servers.certificates import Authority
from tests.servers.etcd import Etcd

HOUR_MS = 3_600_000
COUNT = 12
NOBODY = "127.0.0.1:1"
NOT_ANSWERED = "what was not answered is not, here"
# The doctor, of a machine whose clock is wrong.
AN_HOUR_AHEAD = (
    sys.executable,
    "-c",
    f"""
import sys
from switch.cli.main import main
from switch.doctor import clocks
now = clocks.now_ms
clocks.now_ms = lambda: now() + {HOUR_MS}
sys.exit(main())
""",
)


@pytest.fixture(scope="module")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    with Cassandra(
        tmp_path_factory.mktemp("cassandra"),
        settings={"commitlog_segment_size": "1MiB"},
    ) as server:
        yield server


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, cassandra: Cassandra, etcd: Etcd
) -> Iterator[ClusterOfNodes]:
    """Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("cluster")
    with ClusterOfNodes(folder, cassandra, etcd) as made:
        made.init()
        yield made


@pytest.fixture(autouse=True)
def no_node_is_left(cluster: ClusterOfNodes) -> Iterator[None]:
    yield
    for node in cluster.nodes.values():
        node.close()


def errors_of(config: Path, program: Sequence[str] = SWITCH) -> dict[str, str]:
    """What `switch doctor` calls an error: what is said, by what was looked at."""
    done = run_switch("doctor", "--config", config, "--json", program=program)
    told = json.loads(done.stdout)
    errors = [f for f in told["findings"] if f["level"] == "error"]
    assert done.returncode == (1 if errors else 0), done.stderr
    return {
        f["check"]: f"expected {f['expected']}, got {f['got']}: {f['advice']}"
        for f in errors
    }


def other_config(cluster: ClusterOfNodes, tmp_path: Path, **others: object) -> Path:
    return cluster.write_config(tmp_path / "other", "other", **others)


def refused(cluster: ClusterOfNodes, config: Path) -> str:
    """What a node says that does not start, in one line."""
    done = cluster.run("serve", config=config)
    assert done.returncode == 74, done.stderr
    (line,) = (x for x in done.stderr.splitlines() if x.startswith("switch: "))
    return str(line)


def test_what_is_well_has_no_error(cluster):
    cluster.start("a")
    wait_for_owners(cluster, {"a"})
    config = cluster.nodes["a"].config
    done = run_switch("doctor", "--config", config, "--json")
    told = json.loads(done.stdout)
    findings = {f["check"]: f for f in told["findings"]}
    wrong = [f for f in told["findings"] if f["level"] == "error"]
    assert (done.returncode, told["ok"], wrong) == (0, True, [])
    (point,) = cluster.contact_points
    assert findings[f"cassandra {point}:9042"]["got"].startswith("Cassandra 5")
    assert findings[f"cassandra {point}:9042: commitlog_sync"]["got"] == "batch"
    assert findings["identity of the cluster"]["level"] == "ok"
    assert findings["node a"]["level"] == "ok"
    assert findings["shards"]["got"] == f"each of {SHARDS} has an owner"
    # One copy of everything is told of.
    assert findings["cluster.cassandra.keyspace: copies"]["level"] == "warning"
    lines = run_switch("doctor", "--config", config)
    assert lines.returncode == 0
    assert "0 errors" in lines.stdout
    assert cluster.nodes["a"].stop() == 0


def test_contact_points_where_nobody_is(cluster, tmp_path):
    config = other_config(cluster, tmp_path, contact_points=[NOBODY])
    said = refused(cluster, config)
    assert "Cassandra cannot be reached" in said
    assert NOBODY.partition(":")[0] in said
    assert f"cassandra {NOBODY}" in errors_of(config)


def test_contact_points_where_something_else_is(cluster, etcd, tmp_path):
    (where,) = etcd.endpoints
    config = other_config(cluster, tmp_path, contact_points=[where])
    assert "Cassandra cannot be reached" in refused(cluster, config)


def test_endpoints_where_no_etcd_is(cluster, tmp_path):
    config = other_config(cluster, tmp_path, endpoints=[NOBODY])
    assert "expected etcd to be there" in refused(cluster, config)
    assert f"etcd {NOBODY}" in errors_of(config)


def test_a_data_centre_that_is_none(cluster, tmp_path):
    config = other_config(cluster, tmp_path, datacenter="elsewhere")
    assert "Cassandra" in refused(cluster, config)
    found = errors_of(config)
    assert "datacenter1" in found.get("cluster.cassandra.replication", "") or (
        "cluster.cassandra.replication" in found["cluster.cassandra.keyspace"]
    )


def test_another_shard_count_and_another_key(cluster, tmp_path):
    config = other_config(cluster, tmp_path, shards=SHARDS + 1)
    assert "journal.shards is not that of the cluster" in refused(cluster, config)
    assert f"expected {SHARDS}" in errors_of(config)["journal.shards"]
    key = tmp_path / "pan.key"
    config = other_config(cluster, tmp_path, key=key)
    assert "expected that of all nodes" in refused(cluster, config)
    assert "copy it" in errors_of(config)["cluster.pan_key_file"]
    key.write_text(f"switch-pan-key-1 {bytes(32).hex()} 190a55ad\n")
    key.chmod(0o600)
    said = refused(cluster, config)
    assert "the fingerprint of cluster.pan_key_file is not that of the cluster" in said
    assert bytes(32).hex() not in said
    assert "the fingerprint of cluster.pan_key_file" in errors_of(config)


def test_tables_of_another_version(cluster):
    def set_version(text: str) -> None:
        ask(
            cluster.contact_points[0],
            f"UPDATE {cluster.keyspace}.meta SET value = '{text}' "
            "WHERE name = 'schema_version' IF EXISTS",
        )

    set_version("99")
    try:
        said = refused(cluster, cluster.config)
        assert "tables of a newer version" in said
        assert "got 99" in said
        found = errors_of(cluster.config)["cluster.cassandra.keyspace"]
        assert "tables of a newer version" in found
    finally:
        set_version(str(SCHEMA_VERSION))
    assert "cluster.cassandra.keyspace" not in errors_of(cluster.config)


def test_two_clusters_of_one_name(cluster, cassandra, etcd, tmp_path):
    keyspace = f"{cluster.keyspace}_b"
    key = tmp_path / "pan.key"
    config = other_config(cluster, tmp_path, keyspace=keyspace, key=key)
    done = cluster.run("cluster", "init", config=config)
    assert done.returncode == 74
    assert f"etcd knows another cluster by the name {cluster.name}" in done.stderr
    assert "another cluster by the name" in refused(cluster, config)
    assert "another keyspace" in errors_of(config)["identity of the cluster"]


def test_certificates_that_have_expired(cluster, tmp_path):
    authority = Authority(tmp_path)
    expired = authority.issue("expired", days=-0.5)
    config = other_config(cluster, tmp_path, cert=expired, ca=authority.ca)
    assert "expected one that is valid now" in refused(cluster, config)
    found = errors_of(config)["cluster.peer.cert"]
    assert "expected a certificate of CN=expired that is valid now" in found
    done = run_switch("config", "check", config)
    assert done.returncode == 2
    assert "valid now" in done.stdout


def test_two_nodes_of_one_name(cluster, tmp_path, free_port):
    cluster.start("a")
    wait_for_owners(cluster, {"a"})
    folder = tmp_path / "second"
    folder.mkdir()
    second = cluster.nodes["second"] = NodeDaemon(folder, cluster, "a")
    text = second.config.read_text()
    there = f'listen = "127.0.0.1:{free_port}"\ncert'
    second.config.write_text(text.replace('listen = "127.0.0.1:0"\ncert', there))
    found = errors_of(second.config)
    assert "no two nodes have the same name" in found["cluster.node"]
    second.spawn()
    said = "expected nobody else to be node a"
    wait_until(lambda: said in second.log_text(), said)
    wait_until(second._find_ports, "where it listens")
    assert second.get("/readyz")[0] == 503
    assert second.stop() == 0
    # The first one has noticed nothing.
    assert cluster.owners() == {"a"}
    assert cluster.nodes["a"].stop() == 0


def test_an_etcd_with_an_alarm(cluster, etcd):
    pans = bank(cluster)
    cluster.start("a")
    wait_for_owners(cluster, {"a"})
    with alarm(etcd):
        found = errors_of(cluster.nodes["a"].config)
        assert "NOSPACE" in found[f"etcd {etcd.endpoints[0]}: alarms"]
        # What is owned is kept: purchases go on.
        with Client(cluster.nodes["a"].port) as client:
            assert client.ask(request("0200", 1, pans[0], 100))[39] == "00"
        # Nothing new is taken: another node does not join, and says why.
        b = cluster.spawn("b")
        wait_until(lambda: "space" in b.log_text().lower(), "why it does not join")
        assert cluster.owners() == {"a"}
    b.wait_ready()
    wait_for_owners(cluster, {"a", "b"})
    for name in ("b", "a"):
        assert cluster.nodes[name].stop() == 0


@contextmanager
def alarm(etcd: Etcd) -> Iterator[None]:
    (member,) = etcd.members

    def change(action: str) -> None:
        told = member.ask("maintenance/alarm", {"action": "GET"})
        number = told["header"]["member_id"]  # type: ignore[index]
        member.ask(
            "maintenance/alarm",
            {"action": action, "memberID": number, "alarm": "NOSPACE"},
        )

    change("ACTIVATE")
    try:
        yield
    finally:
        change("DEACTIVATE")


def bank(cluster: ClusterOfNodes) -> list[str]:
    """Made by the first who wants it."""
    if not hasattr(cluster, "pans"):
        cluster.pans = cluster.import_bank(COUNT)  # type: ignore[attr-defined]
    pans: list[str] = cluster.pans  # type: ignore[attr-defined]
    return pans


class AheadNode(NodeDaemon):
    """Its clock is an hour ahead."""

    @property
    def program(self) -> Sequence[str]:
        file = self.folder / "ahead"
        file.write_text(str(HOUR_MS))
        switch = super().program
        return [switch[0], "-m", "tests.end_to_end.clocked", str(file)]


def test_a_clock_that_is_an_hour_ahead(cluster):
    pans = bank(cluster)
    folder = cluster.folder / "ahead"
    folder.mkdir()
    cluster.nodes["ahead"] = AheadNode(folder, cluster, "ahead")
    cluster.start("a", "ahead")
    wait_for_owners(cluster, {"a", "ahead"})
    before = balances(cluster.nodes["a"], COUNT)
    codes = []
    with (
        Client(cluster.nodes["a"].port) as right,
        Client(cluster.nodes["ahead"].port) as wrong,
    ):
        for index, pan in enumerate(pans):
            asked, again = (right, wrong) if index % 2 else (wrong, right)
            first = asked.ask(request("0200", 500 + index, pan, 100))
            second = again.ask(request("0201", 500 + index, pan, 100))
            codes.append(first[39])
            assert (first[39], first[38]) == (second[39], second[38])
    assert codes == ["00"] * COUNT
    found = errors_of(cluster.nodes["ahead"].config, AN_HOUR_AHEAD)
    (point,) = cluster.contact_points
    assert "behind ours" in found[f"cassandra {point}:9042: clock"]
    # Its shards go to one whose clock is right: time has not gone back there.
    assert cluster.nodes["ahead"].stop() == 0
    wait_for_owners(cluster, {"a"})
    with Client(cluster.nodes["a"].port) as right:
        for index, pan in enumerate(pans):
            assert right.ask(request("0201", 500 + index, pan, 100))[39] == "00"
            assert right.ask(request("0200", 600 + index, pan, 100))[39] == "00"
    assert balances(cluster.nodes["a"], COUNT) == [each - 200 for each in before]
    assert cluster.verify()["problems"] == []
    assert cluster.nodes["a"].stop() == 0


class HastyNode(NodeDaemon):
    """It says soon that it cannot."""

    def __init__(self, folder: Path, cluster: ClusterOfNodes, name: str) -> None:
        super().__init__(folder, cluster, name)
        text = self.config.read_text()
        shorter = text.replace(f"deadline_ms = {DEADLINE_MS}", "deadline_ms = 3000")
        assert shorter != text
        self.config.write_text(shorter)


def test_a_cassandra_whose_disk_is_full(cluster, cassandra):
    pans = bank(cluster)
    folder = cluster.folder / "hasty"
    folder.mkdir()
    a = cluster.nodes["hasty"] = HastyNode(folder, cluster, "hasty")
    cluster.start("hasty")
    wait_for_owners(cluster, {"hasty"})
    before = balances(a, COUNT)
    with disk_full(cassandra), Client(a.port) as first, Client(a.port) as second:
        fill(cluster)
        first.send(request("0200", 700, pans[0], 100))
        wait_until(lambda: a.log_records("session lost: " + NOT_ANSWERED), "its end")
        assert second.ask(request("0200", 701, pans[0], 100))[39] == "91"
        assert any(check.startswith("cassandra ") for check in errors_of(a.config))
        first.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            first.receive()
    wait_for_owners(cluster, {"hasty"})
    with Client(a.port) as client:
        assert client.ask(request("0201", 700, pans[0], 100))[39] == "00"
        assert client.ask(request("0200", 710, pans[0], 100))[39] == "00"
    before[0] -= 200
    assert balances(a, COUNT) == before
    assert cluster.verify()["problems"] == []
    assert a.stop() == 0


@contextmanager
def disk_full(cassandra: Cassandra) -> Iterator[None]:
    """No file of it grows any more, as on a disk without room; it is started again when
    there is."""
    (node,) = cassandra.nodes
    assert node.process is not None
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        yield
    finally:
        node.kill()
        cassandra.start()


def fill(cluster: ClusterOfNodes) -> None:
    """Writes until Cassandra takes no more."""
    (point,) = cluster.contact_points
    text = "x" * 300_000

    def is_refused() -> bool:
        try:
            ask(
                point,
                f"INSERT INTO {cluster.keyspace}.meta (name, value) "
                f"VALUES ('filling', '{text}')",
            )
        except Exception:  # noqa: BLE001 -- a refusal, a time-out, or no answer
            return True
        return False

    wait_until(is_refused, "Cassandra takes no more")
