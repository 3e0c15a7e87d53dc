"""`switch notify`: a consumer whose handler is a webhook, until it is told to end."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
from msgspec import Struct

from switch.notify.deliveries import REMEMBERED_MAX, DeadLetters, Deliveries
from switch.notify.metrics import Metrics
from switch.notify.remembered import Remembered
from switch.notify.webhook import Webhook
from switch.nsq.consumer import Consumer, Subscription

# What is being posted when we are told to end may be answered within it.
DRAIN_SECONDS_MAX: Final = 10.0
LOOK_SECONDS: Final = 0.2


class Wanted(Struct, frozen=True):
    subscription: Subscription
    url: str
    secret: bytes
    dead_letters: Path
    # None: what was dealt with is forgotten at the end.
    remembered: Path | None
    attempts_max: int
    timeout_seconds: float
    retry_seconds_min: float
    retry_seconds_max: float


async def notify(wanted: Wanted, metrics: Metrics) -> int:
    """Until SIGTERM or SIGINT, which it returns; what was begun then is finished."""
    done = Remembered(REMEMBERED_MAX, wanted.remembered)
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
                done=done,
            )
            consumer = Consumer(wanted.subscription, deliveries.handle)
            await _run(consumer, metrics, ending)
    finally:
        dead_letters.close()
        done.close()
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
