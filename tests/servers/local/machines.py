"""The servers and the nodes: started all at once, stopped in the other order."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.servers.cassandra import Cassandra
from tests.servers.common import ROOT, Server, ServerError
from tests.servers.etcd import Etcd
from tests.servers.kafka import Kafka
from tests.servers.local.layout import HTTP_PORT, LINK_PORT, PEER_PORT, Place, Plan
from tests.servers.local.processes import Processes
from tests.servers.node_config import node_config
from tests.servers.nsq import Nsqd, Nsqlookupd

NAME = "local"
LEASE_S = 5
DEADLINE_MS = 5_000
ANSWER_SECONDS = 5.0
SWITCH = (sys.executable, "-m", "switch")

Say = Callable[[str], None]

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
        self.shards = shards
        self._place = place
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

    def servers(self) -> Iterator[tuple[str, str, Server]]:
        """Name, address and all, those of others first."""
        for index, each in enumerate(self.cassandra.nodes, 1):
            yield f"cassandra{index}", each.address, each
        for index, member in enumerate(self.etcd.members, 1):
            yield f"etcd{index}", member.endpoint, member
        yield "nsqlookupd", self.lookupd.http_address, self.lookupd
        yield "nsqd", self.nsqd.address, self.nsqd
        if self.kafka is not None:
            yield "kafka", self.kafka.bootstrap, self.kafka
        for index, node in enumerate(self.nodes, 1):
            yield f"node{index}", f"{node.address}:{LINK_PORT}", node

    def ended(self) -> list[str]:
        """Those that do not run any more."""
        return [name for name, _, server in self.servers() if not server.is_running]

    @property
    def config(self) -> Path:
        return self._place.config_of(self._data, 1)

    # -- starting

    def start_servers(self) -> None:
        """All that nodes stand on. Raises ServerError or AssertionError."""
        for name, where, server in self.servers():
            self._spawn(name, where, server)
        self.kafka = Kafka(self._data / "kafka", format_options=("--ignore-formatted",))
        self._spawn("kafka", self.kafka.bootstrap, self.kafka)
        for name, where, server in self.servers():
            server.wait_ready()
            self._say(f"{name} is ready at {where}")
        self.cassandra.wait_whole()

    def _spawn(self, name: str, where: str, server: Server) -> None:
        server.spawn()
        assert server.process is not None
        self._processes.add(name, server.process.pid, where)

    def start_nodes(self) -> None:
        """With the tables and the key, if there are none yet."""
        for number, address in enumerate(self.plan.of_nodes, 1):
            config = self._write_config(number, address)
            directory = self._data / f"node{number}"
            self.nodes.append(NodeServer(directory, config, address))
        self._say(self.run("cluster", "init").strip())
        for number, node in enumerate(self.nodes, 1):
            self._spawn(f"node{number}", f"{node.address}:{LINK_PORT}", node)
        for number, node in enumerate(self.nodes, 1):
            node.wait_ready()
            self._say(f"node{number} is ready at {node.address}:{LINK_PORT}")

    def _write_config(self, number: int, address: str) -> Path:
        assert self.kafka is not None
        path = self._place.config_of(self._data, number)
        text = node_config(
            self.cassandra,
            self.etcd,
            data=self._data / f"node{number}" / "data",
            link=f"{address}:{LINK_PORT}",
            deadline_ms=DEADLINE_MS,
            http=f"{address}:{HTTP_PORT}",
            shards=self.shards,
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
        if done.returncode not in (0, 1):
            raise ServerError(f"switch {' '.join(arguments[:2])}: {done.stderr}")
        return done.stdout

    # -- stopping

    def stop_nodes(self) -> None:
        """As planned: each answers what it has, and gives up its shards."""
        for node in self.nodes:
            if node.process is not None:
                node.process.terminate()
        for node in self.nodes:
            if node.process is not None:
                try:
                    node.process.wait(ANSWER_SECONDS * 4)
                except subprocess.TimeoutExpired:
                    node.kill()

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        others = [server for _, _, server in self.servers()]
        for server in others:
            if server.is_running:
                assert server.process is not None
                server.process.terminate()
        for server in others:
            if server.process is not None:
                try:
                    server.process.wait(ANSWER_SECONDS)
                except subprocess.TimeoutExpired:
                    server.kill()
