"""Messages to some of several nsqd, each to as many of them as there shall be copies.

Rule 1: `publish` returns when every message is acknowledged by one nsqd at least, and
        by those others that answer within COPIES_SECONDS. It raises when none does in
        time; then any part may have been taken.
Rule 2: a copy that an nsqd does not take goes to another one that has none; if there
        is no such one, it is owed, and sent when the nsqd is back. What is owed is
        bounded: the oldest are given up, and counted.
Rule 3: an nsqd that is gone is connected to again, for ever.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from switch.backoff import Backoff
from switch.nsq import protocol
from switch.nsq.connection import Connection
from switch.nsq.errors import (
    REFUSALS,
    NsqAnswerError,
    NsqConnectionError,
    NsqError,
    NsqProtocolError,
)

# nsqd takes five mebibytes by default.
BATCH_BYTES_MAX: Final = 512 * 1024
BATCH_MESSAGES_MAX: Final = 1000
# What a single nsqd is owed at most.
OWED_BYTES_MAX: Final = 64 * 1024 * 1024
# How long the other copies are waited for when one is there.
COPIES_SECONDS: Final = 0.05
RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 1.0


class _Batch:
    """Some messages that were handed in together. `first` is done when each is taken,
    or refused, by somebody; `all` when no copy is missing."""

    def __init__(self, topic: str, bodies: Sequence[bytes], copies: int) -> None:
        loop = asyncio.get_running_loop()
        self.topic = topic
        self.bodies = bodies
        self.first: asyncio.Future[None] = loop.create_future()
        self.all: asyncio.Future[None] = loop.create_future()
        # By the number of the message.
        self.refused: dict[int, str] = {}
        # Who has a copy, or is to have one.
        self.hosts: set[str] = set()
        self._untaken = set(range(len(bodies)))
        self._missing = copies * len(bodies)

    def taken(self, part: "_Part") -> None:
        self._untaken.difference_update(range(part.begin, part.end))
        self.given_up(part)
        if not self._untaken and not self.first.done():
            self.first.set_result(None)

    def given_up(self, part: "_Part") -> None:
        self._missing -= part.count
        if not self._missing and not self.all.done():
            self.all.set_result(None)


class _Part:
    """What goes out in one command: messages from `begin` to before `end`."""

    def __init__(self, batch: _Batch, begin: int, end: int) -> None:
        self.batch = batch
        self.begin = begin
        self.end = end
        self.size = sum(map(len, self.bodies))

    @property
    def count(self) -> int:
        return self.end - self.begin

    @property
    def bodies(self) -> Sequence[bytes]:
        return self.batch.bodies[self.begin : self.end]

    def halves(self) -> "tuple[_Part, _Part]":
        middle = self.begin + self.count // 2
        return (
            _Part(self.batch, self.begin, middle),
            _Part(self.batch, middle, self.end),
        )


class _Lane:
    """One nsqd, and what it is to have."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_up = False
        self.error: NsqError | None = None
        self.parts: deque[_Part] = deque()
        self.size = 0
        self.changed = asyncio.Event()

    def add(self, parts: Sequence[_Part]) -> None:
        self.parts += parts
        for part in parts:
            part.batch.hosts.add(self.host)
        self.size += sum(part.size for part in parts)
        self.changed.set()

    def remove(self, part: _Part) -> None:
        # It may have been given up while it was on its way.
        if part in self.parts:
            self.parts.remove(part)
            self.size -= part.size


class Producer:
    """`missed` counts the copies that were given up; `on_change` is called when an nsqd
    is there, and when it is gone."""

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        copies: int = 1,
        timeout_seconds: float = 5.0,
        owed_bytes_max: int = OWED_BYTES_MAX,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        assert hosts
        self.copies = min(copies, len(hosts))
        self.missed = 0
        self._timeout_seconds = timeout_seconds
        self._owed_bytes_max = owed_bytes_max
        self._lanes = [_Lane(host) for host in hosts]
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._on_change = on_change
        self._turn = 0

    @property
    def hosts_down(self) -> int:
        return sum(not lane.is_up for lane in self._lanes)

    @property
    def owed(self) -> int:
        """Messages that are to go to an nsqd yet."""
        return sum(part.count for lane in self._lanes for part in lane.parts)

    async def open(self) -> None:
        """When one nsqd is there; raises NsqConnectionError when none is in time."""
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._lanes]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while not any(lane.is_up for lane in self._lanes):
                    self._changed.clear()
                    await self._changed.wait()
                    if all(lane.is_up or lane.error for lane in self._lanes):
                        break
        except TimeoutError:
            pass
        if not any(lane.is_up for lane in self._lanes):
            raise self._nobody("to connect to")

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, topic: str, bodies: Sequence[bytes]) -> dict[int, str]:
        """Which of them are refused, by number, and why."""
        if not bodies:
            return {}
        batch = _Batch(topic, bodies, self.copies)
        lanes = self._next_lanes()
        for lane in lanes:
            lane.add(list(_parts(batch)))
            self._give_up(lane, batch)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await asyncio.shield(batch.first)
        except TimeoutError:
            for lane in self._lanes:
                for part in [each for each in lane.parts if each.batch is batch]:
                    lane.remove(part)
            raise self._nobody("to take messages") from None
        with suppress(TimeoutError):
            async with asyncio.timeout(COPIES_SECONDS):
                await asyncio.shield(batch.all)
        return batch.refused

    def _next_lanes(self) -> list[_Lane]:
        """One after the other in turn, those that are there before the others."""
        self._turn += 1
        turn = self._turn % len(self._lanes)
        lanes = self._lanes[turn:] + self._lanes[:turn]
        return sorted(lanes, key=lambda lane: not lane.is_up)[: self.copies]

    def _give_up(self, lane: _Lane, newest: _Batch) -> None:
        while lane.size > self._owed_bytes_max and lane.parts[0].batch is not newest:
            part = lane.parts[0]
            lane.remove(part)
            part.batch.given_up(part)
            self.missed += part.count

    def _nobody(self, what: str) -> NsqConnectionError:
        said = "; ".join(
            f"{lane.host}: {lane.error or 'nothing within the time'}"
            for lane in self._lanes
        )
        return NsqConnectionError(f"expected an nsqd {what}, got none: {said}")

    # -- one nsqd

    async def _run(self, lane: _Lane) -> None:
        backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        while True:
            connection = Connection(lane.host, on_end=lane.changed.set)
            try:
                await connection.open(self._timeout_seconds)
                self._is_up(lane)
                await self._feed(lane, connection, backoff)
            except NsqError as error:
                lane.error = error
            finally:
                lane.is_up = False
                await connection.close()
            self._hand_over(lane)
            self._has_changed()
            await backoff.sleep()

    def _is_up(self, lane: _Lane) -> None:
        lane.is_up, lane.error = True, None
        self._has_changed()

    def _has_changed(self) -> None:
        self._changed.set()
        if self._on_change is not None:
            self._on_change()

    async def _feed(
        self, lane: _Lane, connection: Connection, backoff: Backoff
    ) -> None:
        while True:
            lane.changed.clear()
            while lane.parts:
                await self._send(lane, connection, lane.parts[0], backoff)
            if connection.error is not None:
                raise connection.error
            await lane.changed.wait()

    async def _send(
        self, lane: _Lane, connection: Connection, part: _Part, backoff: Backoff
    ) -> None:
        command = protocol.publish_many(part.batch.topic, part.bodies)
        try:
            answer = await connection.ask(command, self._timeout_seconds)
        except NsqAnswerError as error:
            if error.code in REFUSALS:
                _take_apart(lane, part, str(error))
                backoff.reset()  # for nothing is wrong with nsqd
            raise
        if answer != protocol.OK:
            raise NsqProtocolError(
                f"expected OK from nsqd at {lane.host}, got {answer[:80]!r}"
            )
        backoff.reset()
        if part in lane.parts:
            lane.remove(part)
            part.batch.taken(part)
        if not lane.parts:
            self._has_changed()

    def _hand_over(self, lane: _Lane) -> None:
        """To who is there and has no copy of it."""
        for part in list(lane.parts):
            others = [
                other
                for other in self._lanes
                if other.is_up and other.host not in part.batch.hosts
            ]
            if others:
                lane.remove(part)
                part.batch.hosts.discard(lane.host)
                others[0].add([part])


def _parts(batch: _Batch) -> Iterator[_Part]:
    """By the bounds of what goes out at once; a message alone may be of any size."""
    begin = size = 0
    for number, body in enumerate(batch.bodies):
        is_full = number - begin == BATCH_MESSAGES_MAX
        if number > begin and (is_full or size + len(body) > BATCH_BYTES_MAX):
            yield _Part(batch, begin, number)
            begin, size = number, 0
        size += len(body)
    yield _Part(batch, begin, len(batch.bodies))


def _take_apart(lane: _Lane, part: _Part, reason: str) -> None:
    """Halves of what was refused are tried, until it is one message."""
    if part not in lane.parts:
        return
    lane.remove(part)
    if part.count > 1:
        for half in reversed(part.halves()):
            lane.parts.appendleft(half)
            lane.size += half.size
        return
    part.batch.refused[part.begin] = reason
    part.batch.taken(part)
