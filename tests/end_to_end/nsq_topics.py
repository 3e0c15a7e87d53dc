"""What a consumer gets of NSQ, and whether that is what the journal says."""

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from switch.nsq.consumer import Consumer, Subscription
from switch.nsq.protocol import Message
from tests.end_to_end.harness import wait_until

Event = dict[str, Any]

USES = ("held", "posted", "declined", "advised_hold", "advised_posting", "withdrawn")


class Collector(threading.Thread):
    """Takes all there is in a channel, from a thread with a loop of its own."""

    def __init__(
        self,
        topic: str,
        nsqd: Sequence[str] = (),
        lookupd: Sequence[str] = (),
        channel: str = "collector",
    ) -> None:
        super().__init__()
        self.taken: list[bytes] = []
        self.connected = 0
        self._subscription = Subscription(
            topic=topic,
            channel=channel,
            nsqd=tuple(nsqd),
            lookupd=tuple(lookupd),
            in_flight=200,
            lookup_seconds=0.2,
        )
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        consumer = Consumer(self._subscription, self._take)
        running = asyncio.create_task(consumer.run())
        while not self._ending.is_set():
            self.connected = consumer.connected
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def _take(self, message: Message) -> None:
        self.taken.append(message.body)

    @property
    def pushes(self) -> dict[str, Event]:
        """By id; whatever came twice says the same."""
        found: dict[str, Event] = {}
        for body in list(self.taken):
            push = json.loads(body)
            push.pop("stale", None)
            assert found.setdefault(push["id"], push) == push
        return found

    def wait_for(self, ids: set[str]) -> None:
        wait_until(
            lambda: ids <= set(self.pushes),
            f"{len(ids - set(self.pushes))} of {len(ids)} pushes",
        )


def wanted_pushes(events: Mapping[str, Event]) -> dict[str, Event]:
    """What there should be by the journal, said anew here."""
    return {
        event_id: event
        for event_id, event in events.items()
        if event["kind"] in USES
        and event["account"] is not None
        and (event["kind"] == "withdrawn" or "original_id" not in event)
    }


def check(pushes: Mapping[str, Event], events: Mapping[str, Event]) -> None:
    """Each use of a card was told of, and nothing else."""
    wanted = wanted_pushes(events)
    assert set(pushes) == set(wanted)
    for event_id, push in pushes.items():
        for name in push:
            assert push[name] == wanted[event_id].get(name), (event_id, name)
