"""What all tests share."""

import os
import socket
from collections.abc import Iterator

import hypothesis
import pytest

from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd
from tests.servers.kafka import Kafka
from tests.servers.nsq import Nsqd, Nsqlookupd

# A verdict must not depend on the machine's speed, nor change from run to run without
# the source changing. `--hypothesis-profile=search` looks for new examples.
hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture
def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def no_environment_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests do not reach the code under test."""
    for name in os.environ:
        if name.startswith(("SWITCH_", "CARDSWITCH_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker for all tests that leave it alone; each has topics of its own, by
    `publish.kafka.topic_prefix`."""
    with Kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="session")
def nsqlookupd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsqlookupd]:
    with Nsqlookupd(tmp_path_factory.mktemp("nsqlookupd")) as server:
        yield server


@pytest.fixture(scope="session")
def nsqd(
    tmp_path_factory: pytest.TempPathFactory, nsqlookupd: Nsqlookupd
) -> Iterator[Nsqd]:
    """For all tests that leave it alone; each has topics of its own."""
    with Nsqd(tmp_path_factory.mktemp("nsqd"), nsqlookupd) as server:
        yield server


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """For all tests that leave it alone; each has keys of its own."""
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(scope="session")
def etcd_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Three members. A test that harms one of them mends it."""
    with Etcd(tmp_path_factory.mktemp("etcd-cluster"), 3) as servers:
        yield servers


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    """One server, for all tests that leave it alone; each has a keyspace of its own."""
    with Cassandra(tmp_path_factory.mktemp("cassandra"), has_tools=True) as server:
        yield server


@pytest.fixture(scope="session")
def cassandra_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    """Three servers. A test that harms one of them mends it."""
    with Cassandra(tmp_path_factory.mktemp("cassandra-cluster"), 3) as servers:
        yield servers
