"""Messages of a topic, from every nsqd that has it, to a handler.

Rule 1: what the handler returned from is finished; what it raised on comes again, later
        each time, from that nsqd or, when that is gone meanwhile, as it has it on disk.
        So each message is handled at least once.
Rule 2: so many messages are with handlers at once as was asked for, shared among the
        connections, of which each gets one at least.
Rule 3: a handler may take long: nsqd is told so, before it gives a message to another.
Rule 4: an nsqd that is gone is connected to again, while it is configured or known to
        an nsqlookupd.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import aiohttp
import msgspec

from switch.backoff import Backoff, delay
from switch.nsq import protocol
from switch.nsq.connection import HEARTBEAT_SECONDS, Connection
from switch.nsq.errors import NsqError, NsqProtocolError
from switch.nsq.lookup import hosts_of
from switch.nsq.protocol import Message
from switch.observe.log import event

ANSWER_SECONDS: Final = 5.0
RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 2.0
MS_PER_SECOND: Final = 1000

Handler = Callable[[Message], Awaitable[None]]

_log = logging.getLogger("switch.nsq")


class Requeue(Exception):  # noqa: N818 -- not a fault
    """Raised by a handler that knows when a message shall come again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"in {seconds:g} s")
        self.seconds = seconds


class Subscription(msgspec.Struct, frozen=True):
    topic: str
    channel: str
    nsqd: tuple[str, ...] = ()
    lookupd: tuple[str, ...] = ()
    in_flight: int = 16
    lookup_seconds: float = 5.0
    requeue_seconds_min: float = 0.5
    requeue_seconds_max: float = 300.0
    heartbeat_seconds: float = HEARTBEAT_SECONDS


class Consumer:
    """`run` until it is cancelled; `drain` before, to finish what has begun."""

    def __init__(self, subscription: Subscription, handler: Handler) -> None:
        assert subscription.nsqd or subscription.lookupd
        self._subscription = subscription
        self._handler = handler
        self._lanes: dict[str, _Lane] = {}
        self._known: set[str] = set()
        self._is_draining = False

    @property
    def connected(self) -> int:
        return sum(lane.is_up for lane in self._lanes.values())

    async def run(self) -> None:
        try:
            async with aiohttp.ClientSession() as session:
                while True:
                    await self._look_up(session)
                    self._connect()
                    await asyncio.sleep(self._subscription.lookup_seconds)
        finally:
            lanes = list(self._lanes.values())
            await asyncio.gather(*(lane.close() for lane in lanes))

    async def drain(self, seconds: float) -> None:
        """No more messages; those that are being handled are finished, if they can."""
        self._is_draining = True
        for lane in self._lanes.values():
            lane.pause()
        handling = [task for lane in self._lanes.values() for task in lane.handling]
        if handling:
            await asyncio.wait(handling, timeout=seconds)
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    async def _look_up(self, session: aiohttp.ClientSession) -> None:
        subscription = self._subscription
        if not subscription.lookupd:
            return
        try:
            self._known = await hosts_of(
                subscription.topic, subscription.lookupd, session, ANSWER_SECONDS
            )
        except NsqError as error:  # and what was known stays so
            event(_log, logging.WARNING, "no nsqlookupd answers", reason=error)

    def _connect(self) -> None:
        for host in {*self._subscription.nsqd, *self._known}:
            if host not in self._lanes and not self._is_draining:
                lane = _Lane(host, self._subscription, self._handler, self._changed)
                self._lanes[host] = lane
                lane.start()

    def _changed(self, lane: "_Lane") -> bool:
        """It has, or has no connection any more. Whether it is to be tried again."""
        up = [each for each in self._lanes.values() if each.is_up]
        for each in up:
            each.set_ready(max(self._subscription.in_flight // len(up), 1))
        is_wanted = lane.host in self._subscription.nsqd or lane.host in self._known
        if not lane.is_up and (not is_wanted or self._is_draining):
            self._lanes.pop(lane.host, None)
            return False
        return True


class _Lane:
    """One nsqd, and its messages that are being handled."""

    def __init__(
        self,
        host: str,
        subscription: Subscription,
        handler: Handler,
        changed: "Callable[[_Lane], bool]",
    ) -> None:
        self.host = host
        self.is_up = False
        self.handling: set[asyncio.Task[None]] = set()
        self._subscription = subscription
        self._handler = handler
        self._changed = changed
        self._ready = 0
        self._is_paused = False
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        task, self._task = self._task, None
        for each in [*self.handling, *([task] if task else [])]:
            each.cancel()
        if task is not None:
            await asyncio.gather(task, *self.handling, return_exceptions=True)

    def pause(self) -> None:
        """nsqd sends no more, and hears of what it has sent."""
        self._is_paused = True
        if self._connection is not None and self.is_up:
            self._connection.send(protocol.CLOSE)

    def set_ready(self, count: int) -> None:
        if not self._is_paused and count != self._ready:
            self._say_ready(count)

    def _say_ready(self, count: int) -> None:
        connection = self._connection
        if connection is not None and self.is_up:
            self._ready = count
            connection.send(protocol.ready(min(count, connection.limits.max_rdy_count)))

    async def _run(self) -> None:
        backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        is_told = False
        is_wanted = True
        while is_wanted:
            try:
                await self._serve(backoff)
            except NsqError as error:
                if self.is_up or not is_told:
                    is_told = True
                    event(
                        _log,
                        logging.WARNING,
                        "no nsqd, will try again",
                        host=self.host,
                        reason=error,
                    )
            self.is_up = False
            is_wanted = self._changed(self)
            if is_wanted:
                await backoff.sleep()

    async def _serve(self, backoff: Backoff) -> None:
        """Until the connection ends; raises why it did."""
        ended = asyncio.Event()
        subscription = self._subscription
        connection = self._connection = Connection(
            self.host,
            heartbeat_seconds=subscription.heartbeat_seconds,
            on_message=lambda message: self._take(connection, message),
            on_end=ended.set,
        )
        try:
            await connection.open(ANSWER_SECONDS)
            command = protocol.subscribe(subscription.topic, subscription.channel)
            answer = await connection.ask(command, ANSWER_SECONDS)
            if answer != protocol.OK:
                raise NsqProtocolError(
                    f"expected OK from nsqd at {self.host}, got {answer[:80]!r}"
                )
            self.is_up, self._ready = True, 0
            backoff.reset()
            event(_log, logging.INFO, "connected to nsqd", host=self.host)
            self._changed(self)
            await ended.wait()
            assert connection.error is not None
            raise connection.error
        finally:
            await connection.close()

    def _take(self, connection: Connection, message: Message) -> None:
        task = asyncio.create_task(self._handle(connection, message))
        self.handling.add(task)
        task.add_done_callback(self.handling.discard)

    async def _handle(self, connection: Connection, message: Message) -> None:
        """To its end, though the connection may be gone: then nsqd gives it again."""
        touching = asyncio.create_task(_touch(connection, message))
        try:
            await self._handler(message)
        except Requeue as wish:
            self._give_back(connection, message, wish.seconds)
        except asyncio.CancelledError:
            self._give_back(connection, message, 0)
            raise
        except Exception as error:  # noqa: BLE001 -- whatever a handler raises: Rule 1
            subscription = self._subscription
            seconds = delay(
                max(message.attempts - 1, 0),
                subscription.requeue_seconds_min,
                subscription.requeue_seconds_max,
            )
            event(
                _log,
                logging.WARNING,
                "message not handled, will come again",
                attempts=message.attempts,
                reason=f"{type(error).__name__}: {error}",
                seconds=seconds,
            )
            self._give_back(connection, message, seconds)
        else:
            connection.send(protocol.finish(message.id))
        finally:
            touching.cancel()
            with suppress(asyncio.CancelledError):
                await touching

    @staticmethod
    def _give_back(connection: Connection, message: Message, seconds: float) -> None:
        delay_ms = int(seconds * MS_PER_SECOND)
        connection.send(protocol.requeue(message.id, delay_ms))


async def _touch(connection: Connection, message: Message) -> None:
    """nsqd waits that long for each, and begins anew when it is told."""
    seconds = connection.limits.msg_timeout / MS_PER_SECOND / 2
    while not connection.has_ended:
        await asyncio.sleep(max(seconds, 0.01))
        connection.send(protocol.touch(message.id))
