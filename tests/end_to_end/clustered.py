"""Nodes of a cluster as processes, on a real Cassandra and a real etcd."""

import asyncio
import csv
import gc
import http.client
import io
import json
import random
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from switch.cluster import history
from switch.journal.cassandra.acsylla_store import AcsyllaStore, Settings
from tests.end_to_end.harness import (
    EXPIRY,
    HOST,
    WAIT_SECONDS_MAX,
    Client,
    Daemon,
    pan_of,
    request,
    run_switch,
    wait_until,
)
from tests.servers.cassandra import ALL, DATACENTER, Cassandra, ask
from tests.servers.certificates import Authority
from tests.servers.etcd import Etcd
from tests.servers.node_config import node_config
from tests.simulation.journal_auditor import entries_of

SHARDS = 12
ECHO, ECHO_ANSWER = "0800", "0810"
# Kinds of entries.
POSTED, WITHDRAWN = 4, 12
LEASE_S = 2
DEADLINE_MS = 15_000
BALANCE = 1_000_000
# A terminal's own time-out; a node answers by its deadline of CONFIG if it can.
ANSWER_SECONDS_MAX = 20.0


class ClusterOfNodes:
    """A keyspace and a name of its own; nothing runs at first."""

    def __init__(
        self,
        folder: Path,
        cassandra: Cassandra,
        etcd: Etcd,
        *,
        lease_s: int = LEASE_S,
        more: str = "",
    ) -> None:
        """`more`: of the configuration of all nodes."""
        self.folder = folder
        self.shards = SHARDS
        self._lease_s = lease_s
        self._more = more
        self.name = f"cluster-{uuid.uuid4().hex[:8]}"
        self._cassandra = cassandra
        self._etcd = etcd
        self.keyspace = self.name.replace("-", "_")
        self.contact_points = cassandra.addresses
        self.replication = {DATACENTER: cassandra.replication}
        self._authority = Authority(folder)
        self.nodes: dict[str, NodeDaemon] = {}
        self._terminals: list[Terminal] = []
        self.config = self.write_config(folder / "tool", "tool")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._terminals:
            terminal.give_up()
        for node in self.nodes.values():
            node.close()
        for terminal in self._terminals:
            terminal.join()

    def write_config(self, data: Path, node: str, **others: object) -> Path:
        anywhere = f"{HOST}:0"
        values = {
            "data": data,
            "link": anywhere,
            "deadline_ms": DEADLINE_MS,
            "http": anywhere,
            "shards": self.shards,
            "name": self.name,
            "node": node,
            "key": self.folder / "pan.key",
            "lease": self._lease_s,
            "keyspace": self.keyspace,
            "peer": anywhere,
            "cert": self._authority.issue(node),
            "ca": self._authority.ca,
        } | others
        path = data.with_name(f"{data.name}.toml")
        path.write_text(node_config(self._cassandra, self._etcd, **values) + self._more)
        return path

    def run(self, *arguments: str | Path, config: Path | None = None) -> Any:
        """The command's process, ended."""
        return run_switch(*arguments, "--config", config or self.config)

    def init(self) -> None:
        done = self.run("cluster", "init")
        assert done.returncode == 0, done.stderr

    def start(self, *names: str) -> None:
        for name in names:
            self.spawn(name)
        for name in names:
            self.nodes[name].wait_ready()

    def spawn(self, name: str) -> "NodeDaemon":
        node = self.nodes.get(name)
        if node is None:
            folder = self.folder / name
            folder.mkdir()
            node = self.nodes[name] = NodeDaemon(folder, self, name)
        node.spawn()
        return node

    def start_terminals(
        self, names: Iterable[str], pans: Sequence[str]
    ) -> list["Terminal"]:
        """One at each of these nodes; they buy until they are told to end."""
        made = [
            Terminal(self, name, pans, 100_000 * (1 + index))
            for index, name in enumerate(names)
        ]
        self._terminals += made
        for terminal in made:
            terminal.start()
        return made

    def import_bank(self, count: int) -> list[str]:
        pans = [pan_of(index) for index in range(count)]
        self.import_rows(
            "accounts",
            ("account", "currency", "balance", "credit_limit"),
            [(f"A{index}", "EUR", BALANCE, 0) for index in range(count)],
        )
        self.import_rows(
            "cards",
            ("pan", "account", "expiry", "status"),
            [(pan, f"A{index}", EXPIRY, "active") for index, pan in enumerate(pans)],
        )
        return pans

    def import_rows(
        self,
        what: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *options: str,
    ) -> dict[str, Any]:
        path = self.folder / f"{what}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
        done = self.run(what, "import", path, "--json", *options)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def verify(self) -> dict[str, Any]:
        done = self.run("journal", "verify", "--json")
        verdict: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if verdict["ok"] else 1), done.stderr
        return verdict

    def add_token(self, node: str) -> str:
        config = self.nodes[node].config
        words = ("tokens", "add", "maria", "--role", "admin")
        done = self.run(*words, config=config)
        assert done.returncode == 0, done.stderr
        return str(done.stdout.strip())

    def status(self) -> dict[str, Any]:
        done = self.run("cluster", "status", "--json")
        assert done.stdout, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def owners(self) -> set[str]:
        return {shard["owner"] for shard in self.status()["shards"]}


class NodeDaemon(Daemon):
    def __init__(self, folder: Path, cluster: ClusterOfNodes, name: str) -> None:
        super().__init__(folder)
        # Its processes are known by the path of the data, which is in this one's.
        self.config = cluster.write_config(self.data, name)

    @property
    def command(self) -> list[str]:
        return [*self.program, "serve", "--config", str(self.config)]


class Purchase(NamedTuple):
    rrn: str
    pan: str
    amount: int
    code: str
    waited_s: float  # from the first time that it was asked for
    repeats: int


def ask_api(
    node: Daemon, token: str, path: str, rows: str | None = None
) -> tuple[int, Any]:
    """`rows`: a file to import; without, it looks."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/csv"}
    connection = http.client.HTTPConnection(
        HOST, node.http_port, timeout=WAIT_SECONDS_MAX
    )
    method, body = ("GET", None) if rows is None else ("POST", rows.encode())
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Terminal(threading.Thread):
    """Buys one thing after the other at one node. What is not answered in time is asked
    again, at whichever node is there, until it is: a node that has lost its session
    never answers what it had decided, and keeps the connection."""

    def __init__(
        self, cluster: ClusterOfNodes, home: str, pans: Sequence[str], first_stan: int
    ) -> None:
        super().__init__(daemon=True)
        self.home = home
        self.purchases: list[Purchase] = []
        self.error: BaseException | None = None
        self._cluster = cluster
        self._pans = pans
        self._stan = first_stan
        self._chance = random.Random(first_stan)
        self._client: Client | None = None
        self._is_over = threading.Event()
        self._has_given_up = False

    def run(self) -> None:
        try:
            while not self._is_over.is_set():
                self._buy()
        except BaseException as error:
            self.error = error
            raise
        finally:
            if self._client is not None:
                self._client.close()

    def give_up(self) -> None:
        """It may be that nothing is answered any more."""
        self._has_given_up = True
        self._is_over.set()

    def end(self) -> None:
        self._is_over.set()
        self.join(2 * WAIT_SECONDS_MAX)
        assert not self.is_alive()
        assert self.error is None, self.error

    def _buy(self) -> None:
        pan = self._chance.choice(self._pans)
        amount = self._chance.randint(1, 100)
        self._stan += 1
        began_at, repeats = time.monotonic(), 0
        code = self._ask("0200", pan, amount)
        while code is None:
            if self._has_given_up:
                return
            repeats += 1
            code = self._ask("0201", pan, amount)
        waited_s = time.monotonic() - began_at
        rrn = f"{self._stan:012d}"
        self.purchases.append(Purchase(rrn, pan, amount, code, waited_s, repeats))

    def _ask(self, mti: str, pan: str, amount: int) -> str | None:
        try:
            if self._client is None:
                self._client = Client(self._port())
            self._client.send(request(mti, self._stan, pan, amount))
            deadline = time.monotonic() + ANSWER_SECONDS_MAX
            answer = self._receive(self._client, deadline)
            while answer["mti"] == ECHO:
                # Nothing has come from here for a while: whether anybody is there.
                self._client.send({**answer, "mti": ECHO_ANSWER, 39: "00"})
                answer = self._receive(self._client, deadline)
        except (OSError, AssertionError):
            if self._client is not None:
                self._client.close()
            self._client = None
            self._is_over.wait(0.05)
            return None
        return str(answer[39])

    @staticmethod
    def _receive(client: Client, deadline: float) -> dict[int | str, str]:
        client.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        return client.receive()

    def _port(self) -> int:
        nodes = self._cluster.nodes
        names = [self.home, *nodes]
        running = [name for name in names if nodes[name].process is not None]
        if not running:
            raise ConnectionRefusedError("no node is running")
        # Its own, if that is there; else another one each time.
        name = running[0] if running[0] == self.home else self._chance.choice(running)
        return nodes[name].port


def balances(node: Daemon, count: int) -> list[int]:
    return [node.account(f"A{index}")["balance"] for index in range(count)]


def listed_balances(node: Daemon, token: str) -> dict[str, int]:
    """Page by page."""
    found: dict[str, int] = {}
    cursor = ""
    while True:
        status, page = ask_api(node, token, f"/api/accounts?limit=7{cursor}")
        assert status == 200, page
        for each in page["accounts"]:
            assert each["account"] not in found
            found[each["account"]] = each["balance"]
        if page["cursor"] is None:
            return found
        cursor = f"&cursor={page['cursor']}"


def row_balances(cluster: ClusterOfNodes) -> dict[str, int]:
    """Those in Cassandra's rows of accounts."""
    query = f"SELECT account, balance FROM {cluster.keyspace}.accounts"
    body = io.BytesIO(ask(cluster.contact_points[0], query, ALL))

    def integer(size: int) -> int:
        return int.from_bytes(body.read(size), "big")

    kind, flags, columns = integer(4), integer(4), integer(4)
    assert (kind, flags & 1, columns) == (2, 1, 2), "rows of one table"
    for _ in range(2):
        body.read(integer(2))
    for _ in range(columns):
        body.read(integer(2) + 2)  # a name, and a type without more
    found = {}
    for _ in range(integer(4)):
        account = body.read(integer(4)).decode()
        found[account] = integer(integer(4))
    return found


def transactions_of(cluster: ClusterOfNodes) -> tuple[Counter[str], Counter[str]]:
    """Of the cluster's journal, by code of its own: which purchases were approved, by
    their reference numbers, and which of those were taken back."""
    approved: Counter[str] = Counter()
    undone: Counter[str] = Counter()

    async def read() -> None:
        store = await AcsyllaStore.connect(
            Settings(cluster.contact_points, cluster.keyspace, cluster.replication)
        )
        try:
            await store.open()
            chains = await history.chains(store, cluster.shards)
            async for commit in history.commits(store, chains):
                for record in commit.records:
                    for entry in entries_of(record.payload):
                        if entry.kind == POSTED:
                            approved[entry.rrn] += 1
                        elif entry.kind == WITHDRAWN:
                            undone[entry.rrn] += 1
        finally:
            await store.close()

    run_alone(read())
    return approved, undone


def run_alone(coroutine: Coroutine[Any, Any, None]) -> None:
    """The driver leaves sockets, by which it wakes the loop, for the collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(coroutine)
        gc.collect()


def wait_for_owners(cluster: ClusterOfNodes, names: set[str]) -> None:
    def is_so() -> bool:
        status = cluster.status()
        owners = {shard["owner"] for shard in status["shards"]}
        return bool(status["whole"]) and owners == names

    wait_until(is_so, f"shards at {names}")
