"""The node's publisher as a process. Its node starts it with
`switch.node_publisher.supervisor`."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import uvloop

from switch.cluster.settings import CassandraSettings
from switch.cluster_store import connect_cassandra
from switch.companion.parent import run_child
from switch.config import ConfigError
from switch.journal.cassandra.store import LogStore
from switch.journal.directory import PUBLISH_NAME
from switch.node_publisher.forwarder import ShardForwarder
from switch.node_publisher.orders import Orders
from switch.observe import log
from switch.publish.lines_engine import LinesEngine
from switch.publish.positions import PositionFiles
from switch.publish.settings import KafkaSettings, NsqSettings
from switch.publisher.engines import names_of, plans_of
from switch.publisher.forwarder import Plan
from switch.publisher.process import NICE_DEFAULT, Feeding
from switch.publisher.waker import Waker

EVENTS = "events"
EVENTS_ENTRIES_MAX = 8192
EVENTS_INTERVAL_SECONDS = 0.1
# Each look at the log is a reading at a quorum: fifty of them a second, at most.
INTERVAL_SECONDS_MIN = 0.02
_DIRECTORY_MODE = 0o700

_logger = logging.getLogger("switch.node_publisher")


class Settings(msgspec.Struct, frozen=True):
    # What is set aside is in it.
    data_directory: str
    events_directory: str
    cassandra: CassandraSettings
    file_bytes_max: int
    kafka: KafkaSettings = KafkaSettings()
    nsq: NsqSettings = NsqSettings()
    nice: int = NICE_DEFAULT
    log_level: str = "info"
    log_format: log.LogFormat = "auto"


def engines_of(kafka: KafkaSettings, nsq: NsqSettings) -> tuple[str, ...]:
    """Event files are always there, as on one machine."""
    return (EVENTS, *names_of(kafka, nsq))


def plans(settings: Settings) -> Iterator[Plan]:
    yield Plan(
        EVENTS,
        lambda: LinesEngine(
            settings.events_directory, file_bytes_max=settings.file_bytes_max
        ),
        entries_max=EVENTS_ENTRIES_MAX,
        interval_seconds=EVENTS_INTERVAL_SECONDS,
    )
    for plan in plans_of(settings.kafka, settings.nsq, has_one_log=False):
        seconds = max(plan.interval_seconds, INTERVAL_SECONDS_MIN)
        yield msgspec.structs.replace(plan, interval_seconds=seconds)


class NodePublisher(Feeding):
    def __init__(
        self, settings: Settings, every: Sequence[Plan], store: LogStore, orders: Orders
    ) -> None:
        super().__init__(orders, waker := Waker())
        directory = Path(settings.data_directory)
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        self.feeders = [
            ShardForwarder(
                plan,
                store,
                lambda: orders.assignment,
                lambda: orders.released,
                PositionFiles(directory / PUBLISH_NAME, plan.name, b""),
                waker,
            )
            for plan in every
        ]


async def run(settings: Settings, orders: Orders, input_descriptor: int) -> None:
    async with AsyncExitStack() as stack:
        store = await connect_cassandra(settings.cassandra)
        stack.push_async_callback(store.close)
        await store.open()
        publisher = NodePublisher(settings, list(plans(settings)), store, orders)
        await publisher.run(input_descriptor)


def main(arguments: Sequence[str] | None = None) -> int:
    def work(settings: Settings) -> None:
        descriptor = sys.stdin.fileno()
        orders = Orders(descriptor, sys.stdout.fileno())
        uvloop.run(run(settings, orders, descriptor))

    return run_child("node_publisher", Settings, work, arguments, also=ConfigError)
