"""`switch notify`: a consumer whose handler is a webhook, until it is told to end."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from switch.notify.deliveries import DeadLetters, Deliveries
from switch.notify.webhook import Webhook
from switch.nsq.consumer import Consumer, Subscription

# What is being posted when we are told to end may be answered within it.
DRAIN_SECONDS_MAX: Final = 10.0
LOOK_SECONDS: Final = 0.2
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)


class Wanted(Struct, frozen=True):
    subscription: Subscription
    url: str
    secret: bytes
    dead_letters: Path
    attempts_max: int
    timeout_seconds: float
    retry_seconds_min: float
    retry_seconds_max: float


class Metrics:
    """See `switch.notify.deliveries.Counts`."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._posts = Counter(
            "switch_notify_posts", "requests sent", ["outcome"], registry=registry
        )
        self._repeats = Counter(
            "switch_notify_repeats", "pushes that were there before", registry=registry
        )
        self._dead = Counter(
            "switch_notify_dead_letters", "pushes put aside", registry=registry
        )
        self._age = Histogram(
            "switch_notify_seconds",
            "from the decision to the webhook's answer",
            buckets=_BOUNDS,
            registry=registry,
        )
        self.nsqd = Gauge(
            "switch_notify_nsqd", "nsqd that it is connected to", registry=registry
        )
        for outcome in ("taken", "not_taken"):
            self._posts.labels(outcome)

    def delivered(self, seconds: float | None) -> None:
        self._posts.labels("taken").inc()
        if seconds is not None:
            self._age.observe(seconds)

    def failed(self) -> None:
        self._posts.labels("not_taken").inc()

    def repeated(self) -> None:
        self._repeats.inc()

    def put_aside(self) -> None:
        self._dead.inc()


async def notify(wanted: Wanted, metrics: Metrics) -> int:
    """Until SIGTERM or SIGINT, which it returns; what was begun then is finished."""
    dead_letters = DeadLetters(wanted.dead_letters)
    ending = asyncio.Event()
    told: list[int] = []
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        told.append(number)
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    try:
        async with aiohttp.ClientSession() as session:
            webhook = Webhook(
                session, wanted.url, wanted.secret, wanted.timeout_seconds
            )
            deliveries = Deliveries(
                webhook,
                dead_letters,
                metrics,
                attempts_max=wanted.attempts_max,
                retry_seconds_min=wanted.retry_seconds_min,
                retry_seconds_max=wanted.retry_seconds_max,
            )
            consumer = Consumer(wanted.subscription, deliveries.handle)
            await _run(consumer, metrics, ending)
    finally:
        dead_letters.close()
    return told[0]


async def _run(consumer: Consumer, metrics: Metrics, ending: asyncio.Event) -> None:
    running = asyncio.create_task(consumer.run())
    try:
        while not ending.is_set() and not running.done():
            metrics.nsqd.set(consumer.connected)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await ending.wait()
        if running.done():
            running.result()
        await consumer.drain(DRAIN_SECONDS_MAX)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
