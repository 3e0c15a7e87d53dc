"""Apache Cassandra: the nodes of one data centre, each on an address of its own.

The ports are the same on all of them, and those that clients expect: what differs from
cluster to cluster is the address, which is drawn when it is made.
"""

import json
import secrets
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.servers.common import (
    Server,
    ServerError,
    accepts,
    cached,
    get_jars,
    is_free,
    wait_until,
)

VERSION = "5.0.9"
NAME = f"cassandra-{VERSION}"
SUMS = Path(__file__).with_name("cassandra.sha256")
CQL_PORT = 9042
STORAGE_PORT = 7000
PORTS = (CQL_PORT, STORAGE_PORT)
DATACENTER = "datacenter1"
NETWORKS_TRIED_MAX = 100
ANSWER_SECONDS = 10.0
# Maven fetches what a project depends on; the project is nothing else.
POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>servers</groupId><artifactId>cassandra</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId>
    <version>{version}</version>
  </dependency></dependencies>
</project>
"""
LOGBACK = """\
<configuration>
  <appender name="output" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level [%thread] %d{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="output"/></root>
</configuration>
"""
# What its own start script lets it see of the runtime.
EXPORTS = (
    *("java.base/java.lang.ref", "java.base/jdk.internal.misc"),
    *("java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.sql/java.sql"),
    *("java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server"),
    *("jdk.unsupported/sun.misc", "jdk.attach/sun.tools.attach"),
    "jdk.compiler/com.sun.tools.javac.file",
)
OPENS = (
    *("java.base/java.io", "java.base/java.lang", "java.base/java.lang.module"),
    *("java.base/java.lang.reflect", "java.base/java.util", "java.base/sun.nio.ch"),
    *("java.base/jdk.internal.loader", "java.base/jdk.internal.math"),
    *("java.base/jdk.internal.module", "java.base/jdk.internal.ref"),
    *("java.base/jdk.internal.reflect", "java.base/jdk.internal.util.jar"),
    *("jdk.compiler/com.sun.tools.javac", "jdk.management/com.sun.management.internal"),
)
# The second compiler makes a node slow for as long as most tests run.
QUICK = "-XX:TieredStopAtLevel=1"
JAVA = (
    *("java", "-Xms128m", "-Xmx512m", "-Xss512k", "-XX:MaxDirectMemorySize=256m"),
    *("-XX:+UseSerialGC", "-XX:+PerfDisableSharedMem"),
    *("-XX:+ExitOnOutOfMemoryError", "-Djdk.attach.allowAttachSelf=true"),
    # Cassandra sets one; Java 18 to 23 want to be told.
    "-Djava.security.manager=allow",
    *(f"--add-exports={name}=ALL-UNNAMED" for name in EXPORTS),
    *(f"--add-opens={name}=ALL-UNNAMED" for name in OPENS),
    *("-Dio.netty.tryReflectionSetAccessible=true", "-Djava.net.preferIPv4Stack=true"),
    # Nobody waits for nodes that are not there.
    *("-Dcassandra-foreground=yes", "-Dcassandra.skip_wait_for_gossip_to_settle=0"),
    *("-Dcassandra.ring_delay_ms=1000", "-Dcassandra.shutdown_announce_in_ms=200"),
    "-Dcassandra.consistent.rangemovement=false",
)
TOKENS = 1 << 64
# Levels of consistency and operations, of the native protocol (version 4).
ONE, ALL = 1, 5
_ERROR, _STARTUP, _AUTHENTICATE, _QUERY = 0x00, 0x01, 0x03, 0x07
_LOCAL = "SELECT key FROM system.local"
# Three copies of it are kept, so that it is read by three nodes that see each other.
_EVERYWHERE = "SELECT parent_id FROM system_distributed.parent_repair_history LIMIT 1"
REPLICAS_OF_SYSTEM = 3


def get() -> bool:
    """Whether it had to be fetched."""
    return get_jars(NAME, POM.format(version=VERSION), SUMS)


class Cassandra:
    """A cluster, started whole. `nodes` are killed, paused and started one by one.

    `settings` replace those of its configuration, by their names in cassandra.yaml;
    `addresses` the ones that would be drawn, such as those that its files are of.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 1,
        *,
        settings: Mapping[str, object] | None = None,
        addresses: Sequence[str] | None = None,
        is_quick: bool = True,
    ) -> None:
        """`is_quick`: to start; not, when it has run for long."""
        self.addresses = free_addresses(count) if addresses is None else [*addresses]
        self.nodes = [
            Node(
                *(directory / f"node{index + 1}", self.addresses, index),
                *(settings or {}, is_quick),
            )
            for index in range(count)
        ]

    @property
    def replication(self) -> int:
        """As many copies as there are nodes, and three at most."""
        return min(len(self.nodes), 3)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Those that do not run, at once; until each sees all others."""
        for node in self.nodes:
            if not node.is_running:
                node.spawn()
        for node in self.nodes:
            node.wait_ready()
        self.wait_whole()

    def wait_whole(self) -> None:
        """Until every node can be asked for what all of them have."""
        if len(self.nodes) < REPLICAS_OF_SYSTEM:
            return
        wait_until(
            lambda: all(node.answers(_EVERYWHERE, ALL) for node in self.nodes),
            lambda: f"the nodes of Cassandra at {self.addresses} see each other",
        )

    def kill(self) -> None:
        """kill -9, all of them."""
        for node in self.nodes:
            node.kill()


class Node(Server):
    """One of a cluster. It is ready when it answers; see `Cassandra.wait_whole`."""

    def __init__(
        self,
        directory: Path,
        addresses: Sequence[str],
        index: int,
        settings: Mapping[str, object],
        is_quick: bool,
    ) -> None:
        super().__init__(directory)
        self._java = (*JAVA, QUICK) if is_quick else JAVA
        self.address = addresses[index]
        self._jars = cached(NAME) / "libs"
        self._configuration = directory / "cassandra.yaml"
        self._logging = directory / "logback.xml"
        self._logging.write_text(LOGBACK)
        token = index * (TOKENS // len(addresses)) - TOKENS // 2 + 1
        content = self._settings(addresses, token) | dict(settings)
        # JSON is YAML.
        self._configuration.write_text(json.dumps(content, indent=1))

    def _settings(self, addresses: Sequence[str], token: int) -> dict[str, object]:
        provider = {
            "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
            "parameters": [{"seeds": ",".join(addresses)}],
        }
        directory = self.directory
        return {
            "cluster_name": f"tests at {addresses[0]}",
            "num_tokens": 1,
            "initial_token": str(token),
            "auto_bootstrap": False,
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "endpoint_snitch": "SimpleSnitch",
            "seed_provider": [provider],
            "listen_address": self.address,
            "rpc_address": self.address,
            "storage_port": STORAGE_PORT,
            "native_transport_port": CQL_PORT,
            "data_file_directories": [str(directory / "data")],
            "commitlog_directory": str(directory / "commitlog"),
            "hints_directory": str(directory / "hints"),
            "saved_caches_directory": str(directory / "saved_caches"),
            "cdc_raw_directory": str(directory / "cdc_raw"),
            # What was acknowledged is on disk when all nodes are killed at once.
            "commitlog_sync": "batch",
            "commitlog_segment_size": "8MiB",
            "commitlog_total_space": "256MiB",
            "memtable_heap_space": "64MiB",
            "memtable_offheap_space": "64MiB",
            "file_cache_size": "32MiB",
            "native_transport_max_threads": 32,
            "hinted_handoff_throttle": "10240KiB",
            "auto_snapshot": False,
        }

    def command(self) -> Sequence[str]:
        (agent,) = self._jars.glob("jamm-*.jar")
        return (
            *(*self._java, f"-javaagent:{agent}"),
            f"-Dcassandra.config={self._configuration.as_uri()}",
            f"-Dlogback.configurationFile={self._logging.as_uri()}",
            f"-Dcassandra.storagedir={self.directory}",
            f"-Dcassandra.logdir={self.directory}",
            f"-Djava.io.tmpdir={self.directory}",
            *("-cp", str(self._jars / "*")),
            "org.apache.cassandra.service.CassandraDaemon",
        )

    def is_ready(self) -> bool:
        return accepts(CQL_PORT, self.address) and self.answers(_LOCAL, ONE)

    def answers(self, query: str, consistency: int = ONE) -> bool:
        try:
            ask(self.address, query, consistency)
        except (OSError, CqlError):
            return False
        return True


def free_addresses(count: int) -> list[str]:
    """Side by side on a network of 127.0.0.0/8 that nobody uses, as far as Cassandra's
    ports go."""
    assert 0 < count < 255
    for _ in range(NETWORKS_TRIED_MAX):
        network = f"127.{1 + secrets.randbelow(255)}.{secrets.randbelow(256)}"
        addresses = [f"{network}.{1 + index}" for index in range(count)]
        if all(is_free(address, PORTS) for address in addresses):
            return addresses
    raise ServerError("expected a free network of 127.0.0.0/8, found none")


# -- asking one without a driver


class CqlError(Exception):
    """What a node says instead of a result."""


def ask(address: str, query: str, consistency: int = ONE) -> bytes:
    """The body of the result, as the native protocol has it. One that wants to know who
    asks counts as ready."""
    with (
        socket.create_connection((address, CQL_PORT), ANSWER_SECONDS) as connection,
        connection.makefile("rb") as answers,
    ):

        def call(operation: int, body: bytes) -> tuple[int, bytes]:
            head = struct.pack(">BBhBi", 4, 0, 1, operation, len(body))
            connection.sendall(head + body)
            head = answers.read(9)
            if len(head) < 9:
                raise OSError(f"{address} closed the connection")
            (size,) = struct.unpack_from(">i", head, 5)
            body = answers.read(size)
            if head[4] == _ERROR:
                raise CqlError(f"{address}: {body[6:].decode('utf-8', 'replace')}")
            return head[4], body

        version = b"\x00\x0bCQL_VERSION\x00\x053.0.0"
        operation, body = call(_STARTUP, b"\x00\x01" + version)
        if operation == _AUTHENTICATE:
            return body
        text = query.encode()
        said = struct.pack(">i", len(text)) + text + struct.pack(">HB", consistency, 0)
        return call(_QUERY, said)[1]
