"""What publishing to a real Kafka costs, and how it keeps up: `scripts/bench publish`.

A switch is driven at a steady rate without a Kafka and, in turn, with one. What counts
is the ratio of the two, of neighbouring drives, and how far the publisher was behind.
Then a backlog is drained, and the same records are sent by a producer that does nothing
else. And pushes are timed, from the answer to a consumer of NSQ.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from bench.load import machine, pushed, running, servers
from bench.load.running import say
from bench.load.servers import BenchError, Cards, Server
from switch.journal.sqlite import SqliteJournal
from switch.publish.events import events_of
from switch.publish.kafka import BATCH_BYTES_MAX, HEADER, format_of
from switch.publish.topics import TOPICS, topic_of
from tests.scraping import values_of
from tests.servers import kafka as real
from tests.servers import nsq
from tests.servers.kafka import Kafka

ACCOUNT_COUNT = 10_000
BALANCE = 10**13
CONNECTIONS = 2
WINDOW = 256
PARTITIONS = 12
BROKER_NICE = 15
LOOK_SECONDS = 0.05
# Seldom: what a switch does for a look is not what is measured.
LAG_LOOK_SECONDS = 0.25
BACKLOG_CONNECTIONS, BACKLOG_WINDOW = 4, 256
QUIET_SECONDS_MAX = 600.0
LAG = 'switch_publish_lag_seconds{engine="kafka"}'
BEHIND = 'switch_publish_lag_entries{engine="kafka"}'
EVENTS = 'switch_publish_events_total{engine="kafka"}'
PUSHES_BEHIND = 'switch_publish_lag_entries{engine="nsq"}'

Place = tuple[str, int]
Record = tuple[bytes | None, bytes, bytes]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench publish",
        description="Measures a switch with and without publishing to a real Kafka.",
        epilog="example: scripts/bench publish --rounds 3 --backlog 200000 --json",
    )
    running.add_options(parser, seconds=10)
    parser.add_argument(
        "--rate", type=float, default=10_000.0, help="of requests (default 10000/s)"
    )
    parser.add_argument(
        "--backlog",
        type=int,
        default=1_000_000,
        help="entries that are drained; 0 leaves it out (default 1000000)",
    )
    parser.add_argument(
        "--push-rate",
        type=float,
        default=2_000.0,
        help="of requests while pushes are timed; 0 leaves it out (default 2000/s)",
    )
    return parser.parse_args()


def options_of(broker: Kafka, prefix: str) -> list[str]:
    settings = {
        "bootstrap": broker.bootstrap,
        "topic_prefix": prefix,
        "partitions": PARTITIONS,
    }
    words = []
    for name, value in settings.items():
        words += ["--set", f"publish.kafka.{name}={value}"]
    return words


def metrics(server: Server) -> dict[str, float]:
    url = f"http://{servers.HOST}:{server.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return values_of(answer.read().decode())


def publisher_cpu_seconds(server: Server) -> float:
    for pid in server.processes():
        if b"switch.publisher" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return servers.cpu_seconds_of(pid)
    return 0.0


@contextlib.contextmanager
def lags(server: Server) -> Iterator[list[float]]:
    """How far behind the publisher is, looked at all the while. Where there is none it
    is looked at as well: the switch writes its metrics between two requests."""
    found: list[float] = []
    ending = threading.Event()

    def look() -> None:
        while not ending.wait(LAG_LOOK_SECONDS):
            found.append(metrics(server).get(LAG, 0.0))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ending.set()
        thread.join()


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def wait_published(server: Server, behind: str = BEHIND) -> float:
    """Until nothing is behind; seconds."""
    began_at = time.monotonic()
    while metrics(server).get(behind) != 0:
        if time.monotonic() - began_at > QUIET_SECONDS_MAX:
            raise BenchError("the publisher does not catch up")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began_at


def await_first(server: Server) -> tuple[float, float]:
    """How many events were acknowledged first, and when: until then the switch and the
    publisher start, connect and make topics, which no producer is timed with."""
    deadline = time.monotonic() + QUIET_SECONDS_MAX
    while not (events := metrics(server).get(EVENTS, 0.0)):
        if time.monotonic() > deadline:
            raise BenchError("the publisher does not begin")
        time.sleep(LOOK_SECONDS)
    return events, time.monotonic()


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path, broker: Kafka):
        self.options = options
        self.folder = folder
        self.broker = broker
        self.cards: Cards = servers.write_cards(folder, ACCOUNT_COUNT, BALANCE)
        self.imported = folder / "imported"
        servers.import_cards(self.imported, self.cards)

    def drive(self, prefix: str | None) -> dict[str, float]:
        """With a Kafka whose topics have that prefix, or without one."""
        data = self._data()
        words = [] if prefix is None else options_of(self.broker, prefix)
        log = self.folder / "log"
        with servers.switch_running(data, log, options=words) as server:
            if prefix is not None:
                wait_published(server)  # accounts and cards
            cpu_before = publisher_cpu_seconds(server)
            with lags(server) as behind:
                report = servers.drive(
                    server.port,
                    self.cards,
                    self.options.seconds,
                    CONNECTIONS,
                    WINDOW,
                    rate=self.options.rate,
                )
            spent = publisher_cpu_seconds(server) - cpu_before
            if prefix is not None:
                wait_published(server)
        return {
            "p50_ms": report["latency_ms"]["p50"],
            "p99_ms": report["latency_ms"]["p99"],
            "answered_per_second": report["answered_per_second"],
            "lag_p99_s": quantile(behind, 0.99),
            "publisher_cpu_us_per_event": spent / report["answered"] * 1e6,
        }

    def pair(self, number: int) -> dict[str, float]:
        prefix = f"drive{number}-"
        without, beside = self.drive(None), self.drive(prefix)
        acknowledged = asyncio.run(ages(self.broker.bootstrap, prefix))
        return {
            **{f"without_{name}": without[name] for name in ("p50_ms", "p99_ms")},
            **{f"with_{name}": beside[name] for name in ("p50_ms", "p99_ms")},
            "ratio_p99": beside["p99_ms"] / without["p99_ms"],
            "with_answered_per_second": beside["answered_per_second"],
            "lag_p99_s": beside["lag_p99_s"],
            "acknowledged_p50_ms": quantile(acknowledged, 0.5),
            "acknowledged_p99_ms": quantile(acknowledged, 0.99),
            "publisher_cpu_us_per_event": beside["publisher_cpu_us_per_event"],
        }

    def drain(self, count: int) -> dict[str, float]:
        data = self._data()
        log = self.folder / "log"
        with servers.switch_running(data, log) as server:
            while metrics(server)["switch_entries_total"] < count:
                servers.drive(
                    *(server.port, self.cards, self.options.seconds),
                    *(BACKLOG_CONNECTIONS, BACKLOG_WINDOW),
                )
        bare = asyncio.run(self._bare(data))
        say(f"a bare producer: {bare:,.0f} events/s")
        words = options_of(self.broker, "drained-")
        began_at = time.monotonic()
        with servers.switch_running(data, log, options=words) as server:
            first, first_at = await_first(server)
            wait_published(server)
            ended_at = time.monotonic()
            events = metrics(server)[EVENTS]
            cpu = publisher_cpu_seconds(server)
        rate = (events - first) / (ended_at - first_at)
        say(f"the publisher: {rate:,.0f} events/s, {rate / bare:.0%}")
        return {
            "events": events,
            "bare_per_second": bare,
            "drained_per_second": rate,
            "ratio": rate / bare,
            "start_s": first_at - began_at,
            "ratio_with_start": events / (ended_at - began_at) / bare,
            "cpu_us_per_event": cpu / events * 1e6,
        }

    async def _bare(self, data: Path) -> float:
        """Events a second of a producer that has nothing to do but to send them."""
        records, count = records_of(data)
        producer = AIOKafkaProducer(
            bootstrap_servers=self.broker.bootstrap,
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES_MAX,
        )
        await producer.start()
        try:
            # Topics are made, and have their leaders, before it is timed.
            await asyncio.gather(
                *(send(producer, place, each[:1]) for place, each in records.items())
            )
            began_at = time.monotonic()
            await asyncio.gather(
                *(send(producer, place, each) for place, each in records.items())
            )
            return count / (time.monotonic() - began_at)
        finally:
            await producer.stop()

    def pushes(self) -> dict[str, float]:
        rate = self.options.push_rate
        found, answers = pushed.ages(
            *(self.folder, self._data(), self.cards, rate, self.options.seconds),
            lambda server: wait_published(server, PUSHES_BEHIND),
        )
        return {
            "rate": rate,
            "pushes": len(found),
            "answer_p50_ms": answers["p50"],
            "answer_p99_ms": answers["p99"],
            "push_p50_ms": quantile(found, 0.5),
            "push_p99_ms": quantile(found, 0.99),
        }

    def _data(self) -> Path:
        data = self.folder / "data"
        servers.remove(data)
        servers.copy(self.imported, data)
        # What was left behind in memory is not written during the next drive.
        os.sync()
        return data


def records_of(data: Path) -> tuple[dict[Place, list[Record]], int]:
    """As the publisher makes them, for topics that there are."""
    encode = format_of("json").encode
    found: dict[Place, list[Record]] = {}
    count = 0
    journal = SqliteJournal.open(data, read_only=True)
    for commit in journal.read(0):
        for event in events_of(commit):
            key = event.account or event.id
            number = (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS
            place = f"bare-{topic_of(event)}", number
            record = key.encode(), encode(event), event.id.encode()
            found.setdefault(place, []).append(record)
            count += 1
    journal.close()
    return found, count


async def send(producer: AIOKafkaProducer, place: Place, records: list[Record]) -> None:
    topic, partition = place
    batch = producer.create_batch()
    waiting = []
    for key, value, event_id in records:
        headers = [(HEADER, event_id)]
        appended = batch.append(timestamp=None, key=key, value=value, headers=headers)
        if appended is None:
            waiting.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value, headers=headers)
    waiting.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*waiting)


async def ages(bootstrap: str, prefix: str) -> list[float]:
    """Milliseconds from each decision to its record's place in Kafka, by the clock of
    this machine, which is that of both."""
    import msgspec

    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    places = [
        TopicPartition(prefix + topic, number)
        for topic in TOPICS[:2]
        for number in range(PARTITIONS)
    ]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    found = []
    while any([await consumer.position(each) < ends[each] for each in places]):
        for some in (await consumer.getmany(timeout_ms=100)).values():
            for record in some:
                event = msgspec.json.decode(record.value)
                if event["kind"] != "account_opened":
                    at = datetime.fromisoformat(event["at"]).timestamp()
                    found.append(record.timestamp - at * 1000)
    await consumer.stop()
    return found


def give_way(broker: Kafka) -> None:
    """Elsewhere a broker has processors of its own. Here it takes what is left of those
    of the switch, so that what is measured is what publishing costs the switch."""
    assert broker.process is not None
    process = Path(f"/proc/{broker.process.pid}")
    for thread in (process / "task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), BROKER_NICE)
    # It is a session of its own, which Linux may share processors out by first.
    with contextlib.suppress(FileNotFoundError):
        (process / "autogroup").write_text(str(BROKER_NICE))


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    real.get()
    nsq.get()
    # For the topics of the bare producer.
    more = ["auto.create.topics.enable=true", f"num.partitions={PARTITIONS}"]
    with Kafka(folder / "kafka", properties=more) as broker:
        give_way(broker)
        bench = Bench(options, folder, broker)
        pairs = []
        for number in range(1, options.rounds + 1):
            pairs.append(bench.pair(number))
            say(
                f"round {number} of {options.rounds}: p99"
                f" {pairs[-1]['without_p99_ms']:.2f} ms without,"
                f" {pairs[-1]['with_p99_ms']:.2f} ms with,"
                f" lag p99 {pairs[-1]['lag_p99_s']:.3f} s"
            )
        drained = bench.drain(options.backlog) if options.backlog else None
        # Kafka idles beside it, as it would.
        timed = bench.pushes() if options.push_rate else None
    medians = {
        name: statistics.median(pair[name] for pair in pairs) for name in pairs[0]
    }
    return {
        "machine": machine.describe(),
        "file_system": machine.file_system(folder),
        "rate": options.rate,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "steady": medians,
        "drain": drained,
        "pushes": timed,
    }


def print_report(result: dict[str, Any]) -> None:
    for name, value in result["machine"].items():
        print(f"{name:18} {value}")
    print(
        f"\n{result['rate']:g} requests a second, {result['rounds']} rounds of"
        f" {result['seconds']:g} s, medians:\n"
    )
    for name, value in result["steady"].items():
        print(f"{name:28} {value:>12,.3f}")
    if result["drain"] is not None:
        print("\nthe drain of a backlog, and a bare producer of the same records:\n")
        for name, value in result["drain"].items():
            print(f"{name:28} {value:>12,.3f}")
    if result["pushes"] is not None:
        print("\nfrom the decision to a consumer of NSQ, with two nsqd:\n")
        for name, value in result["pushes"].items():
            print(f"{name:28} {value:>12,.3f}")


if __name__ == "__main__":
    sys.exit(running.main(arguments(), run, print_report))
