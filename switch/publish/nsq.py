"""The engine for NSQ: a push of each use of a card, to more than one nsqd.

Rule 1: fast first, complete afterwards: a batch is done when one nsqd has it, and the
        other copies follow; it is settled when they have, or were given up. What waited
        too long is sent, marked or dropped, as the settings say.
Rule 2: NSQ has no order, and a push may be there more than once: with the same id.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from switch.journal.port import Commit
from switch.nsq.errors import NsqError
from switch.nsq.producer import Producer
from switch.publish.events import Event, record_events
from switch.publish.port import PublishError, Refused
from switch.publish.push import Ages, Released, is_pushed, never_seen
from switch.publish.settings import NsqSettings

MS_PER_SECOND: Final = 1000
# What the engine counts beside what each does: docs/operations.md has them.
COUNTS: Final = ("stale", "dropped", "copies_owed", "copies_missed", "servers_down")
# Made into messages without a pause for the other engines.
EVENTS_AT_ONCE: Final = 512


class NsqEngine:
    """See `switch.publish.port.Engine`. `counts` outlives it."""

    def __init__(
        self,
        settings: NsqSettings,
        counts: dict[str, int],
        released: Released = never_seen,
    ) -> None:
        self._settings = settings
        self._counts = counts
        for name in COUNTS:
            counts.setdefault(name, 0)
        self._ages = Ages(settings.stale_seconds, settings.stale, counts, released)
        self._encode = msgspec.json.Encoder().encode
        self._producer = Producer(
            settings.nsqd,
            copies=settings.copies,
            timeout_seconds=settings.timeout_ms / MS_PER_SECOND,
            on_change=self._count,
        )
        self._missed_before = counts["copies_missed"]
        self._turn = asyncio.Lock()

    @property
    def settled(self) -> int:
        return self._producer.settled

    async def open(self) -> None:
        try:
            await self._producer.open()
        except NsqError as error:
            raise PublishError(str(error)) from error

    async def send(self, commits: Sequence[Commit]) -> Sequence[Refused]:
        async with self._turn:  # what is counted as settled is counted in their order
            sent, bodies = await self._messages(commits)
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
        self, commits: Sequence[Commit]
    ) -> tuple[list[Event], list[bytes]]:
        sent: list[Event] = []
        bodies: list[bytes] = []
        looked_at = 0
        for commit in commits:
            for record in commit.records:
                for event in filter(is_pushed, record_events(commit.number, record)):
                    push = self._ages.push_of(event)
                    if push is not None:
                        sent.append(event)
                        bodies.append(self._encode(push))
                looked_at += record.count
                if looked_at >= EVENTS_AT_ONCE:
                    looked_at = 0
                    await asyncio.sleep(0)
        return sent, bodies

    def _count(self) -> None:
        counts, producer = self._counts, self._producer
        counts["copies_owed"] = producer.owed
        counts["copies_missed"] = self._missed_before + producer.missed
        counts["servers_down"] = producer.hosts_down
