"""The link that dials: keeps so many connections to one address, and dials again.

Rule 1: an attempt that fails, or a connection that does not last, makes the next one
        wait longer: a peer that is down, or that closes what it accepts, is not
        stormed. Chance keeps many of us from coming back in one moment.
Rule 2: each connection is kept by a task of its own, which is never part of a message.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import cast

from switch.backoff import delay
from switch.link._connection import Connection
from switch.link.link import Link
from switch.link.settings import LinkSettings
from switch.observe.log import event

# Of a delay: the part that chance may take away.
JITTER = 0.5
MS_PER_S = 1000

_log = logging.getLogger("switch.link")


def redial_delay_s(settings: LinkSettings, failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row; `chance` is from 0 to 1."""
    delay_ms = delay(failures, settings.redial_min_ms, settings.redial_max_ms)
    return delay_ms * (1 - JITTER * chance) / MS_PER_S


class LinkDialler(Link):
    _tasks: tuple[asyncio.Task[None], ...] = ()
    _failure = "not dialled yet"

    async def start(self) -> None:
        self._endpoint = self._make_endpoint()
        # Done when the connection is closed.
        self._ends: dict[Connection, asyncio.Future[None]] = {}
        event(
            _log,
            logging.INFO,
            "dialling",
            link=self.name,
            address=self.settings.address,
            connections=self.settings.connections,
            spec=self.dispatcher.codec.spec.name,
            framing=self.settings.framing,
        )
        self._tasks = tuple(
            asyncio.create_task(self._keep()) for _ in range(self.settings.connections)
        )

    def down(self) -> str:
        is_up = any(not connection.ending for connection in self.connections)
        return "" if is_up else self._failure

    def stop_opening(self) -> None:
        super().stop_opening()
        for task in self._tasks:
            task.cancel()

    async def _keep(self) -> None:
        """One connection, again and again."""
        failures = 0
        while True:
            seconds = await self._hold_one()
            # A good one has earned the shortest delay.
            is_good = seconds * MS_PER_S >= self.settings.redial_max_ms
            failures = 0 if is_good else failures + 1
            # The draw keeps no secret.
            chance = random.random()
            await asyncio.sleep(
                redial_delay_s(self.settings, max(failures - 1, 0), chance)
            )

    async def _hold_one(self) -> float:
        """For how many seconds there was a connection; 0 when there was none."""
        loop = asyncio.get_running_loop()
        connection = await self._dial(loop)
        if connection is None or connection not in self._ends:
            return 0.0
        opened_at = loop.time()
        try:
            await self._ends[connection]
        finally:
            del self._ends[connection]
        self._failure = f"connection lost: {connection.end_reason}"
        return loop.time() - opened_at

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> Connection | None:
        address = self.settings.address
        connection = Connection(self._endpoint)
        try:
            async with asyncio.timeout(self.settings.connect_timeout_ms / MS_PER_S):
                await self._connect(loop, connection)
        except (OSError, UnicodeError) as error:  # a time-out is an OSError
            self.counters.dials_failed += 1
            self._failure = _reason(error)
            event(
                _log,
                logging.WARNING,
                "dial failed",
                link=self.name,
                address=address,
                reason=self._failure,
            )
            return None
        return connection

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, connection: Connection
    ) -> None:
        address = self.settings.address
        try:
            await loop.create_connection(
                lambda: cast(asyncio.BaseProtocol, connection),
                address.host,
                address.port,
            )
        except asyncio.CancelledError:
            # uvloop closes one that was made in this moment, and does not tell it.
            loop.call_soon(self._give_up, connection)
            raise

    def _give_up(self, connection: Connection) -> None:
        if connection in self.connections:
            connection.connection_lost(None)

    def _opened(self, connection: Connection) -> bool:
        if not super()._opened(connection):
            return False
        self._ends[connection] = asyncio.get_running_loop().create_future()
        return True

    def _closed(self, connection: Connection) -> None:
        super()._closed(connection)
        # The task that waits may have been cancelled, and its future with it.
        end = self._ends.get(connection)
        if end is not None and not end.done():
            end.set_result(None)


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, TimeoutError) and not error.errno:
        return "no connection in time"
    text = getattr(error, "strerror", None) or str(error)
    return text.lower()
