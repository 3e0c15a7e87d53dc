"""The servers and the nodes: started all at once, stopped in the other order."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from switch.cli import exits
from tests.servers.cassandra import Cassandra
from tests.servers.common import ROOT, Server, ServerError
from tests.servers.etcd import Etcd
from tests.servers.kafka import Kafka
from tests.servers.local.layout import (
    HTTP_PORT,
    LINK_PORT,
    PEER_PORT,
    Place,
    Plan,
    config_of,
)
from tests.servers.local.processes import Processes
from tests.servers.node_config import node_config
from tests.servers.nsq import Nsqd, Nsqlookupd

NAME = "local"
LEASE_S = 5
DEADLINE_MS = 5_000
ANSWER_SECONDS = 5.0
# A node answers what it has and gives up its shards; others have nothing to lose.
NODE_STOP_SECONDS_MAX, SERVER_STOP_SECONDS_MAX = 20.0, 5.0
SWITCH = (sys.executable, "-m", "switch")

Say = Callable[[str], None]
# With its name, and where it is.
Named = tuple[str, str, Server]

HEAD = "# A node of the cluster that `scripts/cluster up` has started.\n"
# What is published where: the one place that says so.
PUBLISHING = """
[publish.kafka]
bootstrap = {bootstrap}

[publish.nsq]
nsqd = {nsqd}
"""


class NodeServer(Server):
    """`switch serve`, on a configuration file of its own."""

    def __init__(self, directory: Path, config: Path, address: str) -> None:
        super().__init__(directory)
        self.config = config
        self.address = address

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def link(self) -> str:
        return f"{self.address}:{LINK_PORT}"

    @property
    def url(self) -> str:
        return f"http://{self.address}:{HTTP_PORT}"

    def command(self) -> Sequence[str]:
        return (*SWITCH, "serve", "--config", str(self.config))

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(
            self.address, HTTP_PORT, timeout=ANSWER_SECONDS
        )
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class Machines:
    """All of it. What is started is written down; `close` ends it, whatever happened
    before."""

    def __init__(
        self, place: Place, data: Path, plan: Plan, shards: int, say: Say
    ) -> None:
        self.plan = plan
        self._shards = shards
        self._data = data
        self._say = say
        self._processes = Processes(place.processes)
        self.cassandra = Cassandra(
            data / "cassandra", plan.cassandra_count, addresses=plan.of_cassandra
        )
        self.etcd = Etcd(data / "etcd", plan.etcd_count, ports=plan.etcd_ports)
        self.lookupd = Nsqlookupd(data / "nsqlookupd")
        self.nsqd = Nsqd(data / "nsqd", self.lookupd)
        self.kafka: Kafka | None = None
        self.nodes: list[NodeServer] = []

    # -- what there is

    def servers(self) -> Iterator[Named]:
        """Those of others first."""
        for index, each in enumerate(self.cassandra.nodes, 1):
            yield f"cassandra{index}", each.address, each
        for index, member in enumerate(self.etcd.members, 1):
            yield f"etcd{index}", member.endpoint, member
        yield "nsqlookupd", self.lookupd.http_address, self.lookupd
        yield "nsqd", self.nsqd.address, self.nsqd
        if self.kafka is not None:
            yield "kafka", self.kafka.bootstrap, self.kafka
        yield from self._named_nodes()

    def _named_nodes(self) -> Iterator[Named]:
        for node in self.nodes:
            yield node.name, node.link, node

    def ended(self) -> list[str]:
        """Those that do not run any more."""
        return [name for name, _, server in self.servers() if not server.is_running]

    @property
    def config(self) -> Path:
        return config_of(self._data, 1)

    # -- starting

    def start_servers(self) -> None:
        """All that nodes stand on. Raises ServerError or AssertionError."""
        self._spawn(self.servers())
        # It takes seconds to be made; meanwhile the others start.
        kafka = Kafka(self._data / "kafka", format_options=("--ignore-formatted",))
        self.kafka = kafka
        self._spawn([("kafka", kafka.bootstrap, kafka)])
        self._wait_ready(self.servers())
        self.cassandra.wait_whole()

    def _spawn(self, servers: Iterable[Named]) -> None:
        for name, where, server in servers:
            server.spawn()
            assert server.process is not None
            self._processes.add(name, server.process.pid, where)

    def _wait_ready(self, servers: Iterable[Named]) -> None:
        for name, where, server in servers:
            server.wait_ready()
            self._say(f"{name} is ready at {where}")

    def start_nodes(self) -> None:
        """With the tables and the key, if there are none yet."""
        for number, address in enumerate(self.plan.of_nodes, 1):
            config = self._write_config(number, address)
            directory = self._data / f"node{number}"
            self.nodes.append(NodeServer(directory, config, address))
        self._say(self.run("cluster", "init").strip())
        self._spawn(self._named_nodes())
        self._wait_ready(self._named_nodes())

    def _write_config(self, number: int, address: str) -> Path:
        assert self.kafka is not None
        path = config_of(self._data, number)
        text = node_config(
            self.cassandra,
            self.etcd,
            data=self._data / f"node{number}" / "data",
            link=f"{address}:{LINK_PORT}",
            deadline_ms=DEADLINE_MS,
            http=f"{address}:{HTTP_PORT}",
            shards=self._shards,
            name=NAME,
            node=f"node{number}",
            key=self._data / "pan.key",
            lease=LEASE_S,
            keyspace=NAME,
            peer=f"{address}:{PEER_PORT}",
        )
        text += PUBLISHING.format(
            bootstrap=json.dumps([self.kafka.bootstrap]),
            nsqd=json.dumps([self.nsqd.address]),
        )
        path.write_text(HEAD + text)
        return path

    def run(self, *arguments: str) -> str:
        """A command of the switch on this cluster; its output. Raises ServerError."""
        done = subprocess.run(
            [*SWITCH, *arguments, "--config", str(self.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (exits.OK, exits.NOT_SO):
            raise ServerError(f"switch {' '.join(arguments[:2])}: {done.stderr}")
        return done.stdout

    # -- stopping

    def stop_nodes(self) -> None:
        """As planned: each answers what it has, and gives up its shards."""
        _stop(self.nodes, NODE_STOP_SECONDS_MAX)

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        others = [server for _, _, server in self.servers()]
        _stop(others, SERVER_STOP_SECONDS_MAX)


def _stop(servers: Sequence[Server], seconds_max: float) -> None:
    """At once; those that take longer are killed."""
    for server in servers:
        if server.process is not None:
            server.process.terminate()
    for server in servers:
        if server.process is not None:
            try:
                server.process.wait(seconds_max)
            except subprocess.TimeoutExpired:
                server.kill()
