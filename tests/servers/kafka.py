"""Apache Kafka: one process that is broker and controller, with or without TLS."""

import base64
from collections.abc import Sequence
from pathlib import Path

from tests.servers.common import (
    HOST,
    Server,
    accepts,
    cached,
    free_ports,
    get_jars,
    run,
)

VERSION = "4.4.0"
NAME = f"kafka-{VERSION}"
SUMS = Path(__file__).with_name("kafka.sha256")
# Of 16 bytes; one of chance may begin as an option does.
IDENTITY = base64.urlsafe_b64encode(b"cardswitch-tests").decode().rstrip("=")
JAVA = (
    *("java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    "-XX:MaxDirectMemorySize=128m",
)
# Maven fetches what a project depends on; the project is nothing else.
POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>servers</groupId><artifactId>kafka</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
    <version>{version}</version>
  </dependency></dependencies>
</project>
"""
# A broker that was killed is taken back when its session is over.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners={protocol}://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners={protocol}://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name={protocol}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
"""


def get() -> bool:
    """Whether it had to be fetched."""
    return get_jars(NAME, POM.format(version=VERSION), SUMS)


class Kafka(Server):
    """`properties` are lines added to its configuration; `protocol` is of clients."""

    def __init__(
        self,
        directory: Path,
        *,
        protocol: str = "PLAINTEXT",
        properties: Sequence[str] = (),
        format_options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory)
        self.port, controller_port = free_ports(2)
        self._jars = cached(NAME) / "libs" / "*"
        self._configuration = directory / "kafka.properties"
        text = PROPERTIES.format(
            host=HOST,
            port=self.port,
            controller_port=controller_port,
            directory=directory,
            protocol=protocol,
        )
        self._configuration.write_text(text + "".join(f"{p}\n" for p in properties))
        run(
            *(*JAVA, "-cp", str(self._jars), "kafka.tools.StorageTool", "format"),
            *("-t", IDENTITY, "-c", str(self._configuration), *format_options),
            cwd=directory,
        )

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        main = ("-cp", str(self._jars), "kafka.Kafka", str(self._configuration))
        return (*JAVA, *main)

    def is_ready(self) -> bool:
        """It listens only when it has recovered."""
        return accepts(self.port)
