"""Operators look things up at any node of a cluster on a real Cassandra and a real
etcd: what was bought anywhere, in that node's own rows."""

import http.client
import json
import os
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.clustered import BALANCE, ClusterOfNodes, NodeDaemon
from tests.end_to_end.harness import (
    HOST,
    ROOT,
    SWITCH,
    WAIT_SECONDS_MAX,
    Client,
    environment,
    request,
    wait_until,
)
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd

COUNT = 12
NAMES = ("a", "b", "c")


@pytest.fixture
def cluster(
    tmp_path: Path, cassandra: Cassandra, etcd: Etcd
) -> Iterator[ClusterOfNodes]:
    with ClusterOfNodes(tmp_path, cassandra, etcd) as made:
        made.init()
        yield made


class Operator:
    """Somebody with a token at one node."""

    def __init__(self, cluster: ClusterOfNodes, name: str) -> None:
        self.node = cluster.nodes[name]
        self.token = cluster.add_token(name)

    def look(self, path: str, **query: object) -> Any:
        status, answer = self.ask(path, **query)
        assert status == 200, answer
        return answer

    def ask(self, path: str, **query: object) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(
            HOST, self.node.http_port, timeout=WAIT_SECONDS_MAX
        )
        headers = {"Authorization": f"Bearer {self.token}"}
        words = urllib.parse.urlencode(query)
        try:
            connection.request("GET", f"/api/{path}?{words}", headers=headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def run(self, *words: str) -> Any:
        """A command, on the running node."""
        http = ("--http", f"{HOST}:{self.node.http_port}", "--json")
        done = subprocess.run(
            [*SWITCH, *words, *http],
            cwd=ROOT,
            env=environment() | {"SWITCH_TOKEN": self.token},
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rrns(self) -> set[str]:
        """Of all purchases that its rows have, page by page."""
        status, page = self.ask("transactions", limit=7)
        if status == 503:
            return set()  # there is no file yet
        found = {each["rrn"] for each in page["transactions"]}
        while page["cursor"] is not None:
            page = self.look("transactions", limit=7, cursor=page["cursor"])
            found |= {each["rrn"] for each in page["transactions"]}
        return found


def wait_for_rows(at: Operator, bought: set[str]) -> None:
    wait_until(lambda: at.rrns() == bought, "rows of what was bought")


def rrn_of(stan: int) -> str:
    return f"{stan:012d}"


def buy(node: NodeDaemon, first_stan: int, pans: list[str]) -> set[str]:
    """One thing with each card; their reference numbers."""
    with Client(node.port) as client:
        for index, pan in enumerate(pans):
            stan = first_stan + index
            answer = client.ask(request("0200", stan, pan, 100 + index))
            assert answer[39] == "00"
    return {rrn_of(first_stan + index) for index in range(len(pans))}


def expect_found(at: Operator, stan: int, index: int, since: str) -> None:
    """A purchase on one account, by all that it can be looked up by."""
    (card,) = at.run("cards", "list", f"A{index}")["cards"]
    amount, until = 100 + index, datetime.now(UTC).isoformat()
    by_time = {"from": since, "to": until, "limit": 500}
    for query in (
        {"account": f"A{index}"},
        {"card": card["token"]},
        {"rrn": rrn_of(stan)},
        {"stan": f"{stan:06d}"},
        {"amount": amount},
        by_time,
    ):
        found = at.look("transactions", **query)["transactions"]
        (one,) = [each for each in found if each["rrn"] == rrn_of(stan)]
        told = one["account"], one["card_token"], one["amount"], one["response_code"]
        assert told == (f"A{index}", card["token"], amount, "00"), query
    words = ("transactions", "search", "--rrn", rrn_of(stan))
    (one,) = at.run(*words)["transactions"]
    assert one["stan"] == f"{stan:06d}"


def expect_balances(at: Operator) -> None:
    """The rows' are those of whoever has the shard."""
    listed = {each["account"]: each for each in at.look("accounts")["accounts"]}
    assert listed == {name: at.node.account(name) for name in listed}
    assert len(listed) == COUNT


def follower_of(node: NodeDaemon) -> int:
    (pid,) = [
        pid
        for pid in node.processes()
        if b"switch.node_follower" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pid


def test_what_was_bought_anywhere_is_found_anywhere(cluster):
    since = datetime.now(UTC).isoformat()
    cluster.start(*NAMES)
    pans = cluster.import_bank(COUNT)
    bought: set[str] = set()
    for number, name in enumerate(NAMES):
        bought |= buy(cluster.nodes[name], 1000 * (number + 1), pans)
    operators = {name: Operator(cluster, name) for name in NAMES}
    b = operators["b"]
    wait_for_rows(b, bought)

    # Its shards go to others, and what is bought there meanwhile is found there.
    cluster.nodes["a"].kill()
    bought |= buy(cluster.nodes["c"], 4000, pans)
    os.kill(follower_of(cluster.nodes["b"]), signal.SIGKILL)
    for name in ("b", "c"):
        at = operators[name]
        wait_for_rows(at, bought)
        expect_found(at, 1003, 3, since)
        expect_found(at, 4007, 7, since)
        expect_balances(at)
    assert b.node.account("A5")["balance"] == BALANCE - 4 * 105
    told = b.node.metrics()
    assert told["switch_follower_up"] == 1
    assert told['switch_follower_faulty{sink="read_model"}'] == 0
    assert told["switch_follower_restarts_total"] == 1

    # What it missed while it was dead it has when it is back.
    cluster.start("a")
    at = operators["a"]
    wait_for_rows(at, bought)
    expect_found(at, 4007, 7, since)
    expect_balances(at)
    for node in cluster.nodes.values():
        assert node.stop() == 0
        assert node.processes() == []


def test_a_node_that_was_told_to_has_no_rows(tmp_path, cassandra, etcd):
    with ClusterOfNodes(tmp_path, cassandra, etcd) as cluster:
        cluster.init()
        node = cluster.spawn("a")
        node.kill()
        text = node.config.read_text()
        node.config.write_text(
            text.replace("[cluster]\n", "[cluster]\nread_model = false\n")
        )
        cluster.start("a")
        at = Operator(cluster, "a")
        for path in ("accounts", "cards", "transactions"):
            status, answer = at.ask(path)
            assert status == 503
            assert "cluster.read_model" in answer["error"]["message"]
        assert not (node.data / "readmodel.db").exists()
        assert "switch_follower_up" not in node.metrics()
