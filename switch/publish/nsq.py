"""The engine for NSQ: a push of each use of a card, to more than one nsqd.

Rule 1: fast first, complete afterwards: a batch is done when one nsqd has it, and the
        other copies follow. What waited too long is sent, marked or dropped, as the
        settings say.
Rule 2: NSQ has no order, and a push may be there more than once: with the same id.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from switch.nsq.errors import NsqError
from switch.nsq.producer import Producer
from switch.publish.events import Event
from switch.publish.port import PublishError, Refused
from switch.publish.push import Ages, is_pushed
from switch.publish.settings import NsqSettings

MS_PER_SECOND: Final = 1000
# What the engine counts beside what each does: docs/operations.md has them.
COUNTS: Final = ("stale", "dropped", "copies_owed", "copies_missed", "servers_down")
# Made into messages without a pause for the other engines.
EVENTS_AT_ONCE: Final = 512


class NsqEngine:
    """See `switch.publish.port.Engine`. `counts` outlives it."""

    def __init__(self, settings: NsqSettings, counts: dict[str, int]) -> None:
        self._settings = settings
        self._counts = counts
        for name in COUNTS:
            counts.setdefault(name, 0)
        self._ages = Ages(settings.stale_seconds, settings.stale, counts)
        self._encode = msgspec.json.Encoder().encode
        self._producer = Producer(
            settings.nsqd,
            copies=settings.copies,
            timeout_seconds=settings.timeout_ms / MS_PER_SECOND,
            on_change=self._count,
        )
        self._missed_before = counts["copies_missed"]

    async def open(self) -> None:
        try:
            await self._producer.open()
        except NsqError as error:
            raise PublishError(str(error)) from error

    async def send(self, events: Sequence[Event]) -> Sequence[Refused]:
        sent, bodies = await self._messages(events)
        try:
            refused = await self._producer.publish(self._settings.topic, bodies)
        except NsqError as error:
            raise PublishError(str(error)) from error
        finally:
            self._count()
        return [Refused(sent[number], reason) for number, reason in refused.items()]

    async def close(self) -> None:
        await self._producer.close()

    async def _messages(
        self, events: Sequence[Event]
    ) -> tuple[list[Event], list[bytes]]:
        sent: list[Event] = []
        bodies: list[bytes] = []
        for number, event in enumerate(events, 1):
            if is_pushed(event):
                push = self._ages.push_of(event)
                if push is not None:
                    sent.append(event)
                    bodies.append(self._encode(push))
            if number % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return sent, bodies

    def _count(self) -> None:
        counts, producer = self._counts, self._producer
        counts["copies_owed"] = producer.owed
        counts["copies_missed"] = self._missed_before + producer.missed
        counts["servers_down"] = producer.hosts_down
