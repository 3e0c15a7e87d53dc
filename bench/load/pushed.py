"""How long after its answer a push is with a consumer of NSQ: for `scripts/bench
publish`.

A switch is driven at a steady rate beside two real nsqd. A consumer of both notes how
old each push is when it first comes, by the clock of this machine, which is of both.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from bench.load import servers
from switch.nsq.consumer import Consumer, Subscription
from switch.nsq.protocol import Message
from tests.servers.nsq import Nsqd

TOPIC = "push-notifications"
CONNECTIONS, WINDOW = 2, 64
LOOK_SECONDS = 0.05
# Left out: the load generator is being started, on the same cores.
WARM_SECONDS = 1.0
MS_PER_SECOND = 1000


class Push(msgspec.Struct):
    id: str
    at: str


class Ages(threading.Thread):
    """Milliseconds from each decision to its push, by id."""

    def __init__(self, hosts: list[str]) -> None:
        super().__init__()
        # When it was decided, and how much later it came.
        self.found: dict[str, tuple[float, float]] = {}
        self.is_connected = threading.Event()
        self._hosts = tuple(hosts)
        self._ending = threading.Event()
        self._decode = msgspec.json.Decoder(Push).decode

    def __enter__(self) -> Self:
        self.start()
        self.is_connected.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        subscription = Subscription(TOPIC, "bench", nsqd=self._hosts, in_flight=500)
        consumer = Consumer(subscription, self._take)
        running = asyncio.create_task(consumer.run())
        while not self._ending.is_set():
            if consumer.connected == len(self._hosts):
                self.is_connected.set()
            await asyncio.sleep(LOOK_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def _take(self, message: Message) -> None:
        now = time.time()
        push = self._decode(message.body)
        if push.id not in self.found:
            at = datetime.fromisoformat(push.at).timestamp()
            self.found[push.id] = at, (now - at) * MS_PER_SECOND


def ages(
    folder: Path,
    data: Path,
    cards: servers.Cards,
    rate: float,
    seconds: float,
    wait_published: Callable[[servers.Server], object],
) -> tuple[list[float], dict[str, float]]:
    """And how long the answers took, which each push comes behind."""
    with Nsqd(folder / "nsqd1") as one, Nsqd(folder / "nsqd2") as two:
        hosts = [one.address, two.address]
        words = ["--set", f"publish.nsq.nsqd={','.join(hosts)}"]
        with (
            servers.switch_running(data, folder / "log", options=words) as server,
            Ages(hosts) as consumer,
        ):
            wait_published(server)  # what is there, and the publisher with it
            report = servers.drive(
                server.port, cards, seconds, CONNECTIONS, WINDOW, rate=rate
            )
            deadline = time.monotonic() + servers.START_SECONDS_MAX
            while len(consumer.found) < report["answered"]:
                if time.monotonic() > deadline:
                    raise servers.BenchError("pushes do not arrive")
                time.sleep(LOOK_SECONDS)
            began_at = min(at for at, _ in consumer.found.values())
            found = [
                ms
                for at, ms in consumer.found.values()
                if at >= began_at + WARM_SECONDS
            ]
            return found, report["latency_ms"]
