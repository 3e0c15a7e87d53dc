"""The side that asks: a connection to each other node, kept up, and what is in flight
on it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from switch.observe.log import event
from switch.peer.connection import PeerConnection
from switch.peer.errors import PeerProtocolError
from switch.peer.framing import Frame, Kind
from switch.peer.hello import Hello, Identity, hello
from switch.peer.port import Dial

# Requests in flight to one node; what is above it waits here.
IN_FLIGHT_MAX = 16_384
DIAL_TIMEOUT_S = 2.0
# Between attempts: doubled with each that fails, less a part by chance.
REDIAL_S_MIN = 0.05
REDIAL_S_MAX = 1.0
ANSWERS = frozenset({Kind.ANSWER, Kind.RESULT, Kind.NOT_MINE, Kind.REFUSED})

_log = logging.getLogger("switch.peer")


class Asker(Protocol):
    """Whose requests they are."""

    def line_up(self, line: PeerLine) -> None: ...

    def line_said(self, line: PeerLine, frame: Frame) -> None: ...

    def line_lost(self, line: PeerLine, numbers: list[int]) -> None:
        """What became of these requests is not known."""


class PeerLine:
    """To one node. `in_flight`: numbers of requests that it has not answered."""

    def __init__(
        self,
        node: str,
        asker: Asker,
        identity: Identity,
        links: Mapping[str, str],
        dial: Dial,
    ) -> None:
        """`links`: fingerprints by name, in the order of their numbers."""
        self.node = node
        self.in_flight: dict[int, None] = {}
        self.failure = "not connected yet"
        self._asker = asker
        self._identity = identity
        self._links = links
        self._dial = dial
        self._connection: PeerConnection | None = None
        self._ended = asyncio.Event()
        self._task = asyncio.create_task(self._keep())

    @property
    def is_up(self) -> bool:
        return self._connection is not None and self._connection.is_up

    @property
    def has_room(self) -> bool:
        return (
            self._connection is not None
            and self._connection.is_up
            and self._connection.takes_more
            and len(self.in_flight) < IN_FLIGHT_MAX
        )

    def send(self, number: int, frame: bytes) -> None:
        assert self._connection is not None
        self.in_flight[number] = None
        self._connection.send(frame)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            # Whether it takes what is on its way or not: the next owner is asked.
            self._connection.abort("the node is not asked any more")

    # -- what the connection tells

    def peer_up(self, connection: PeerConnection, said: Hello) -> None:
        if said.identity.node != self.node:
            raise PeerProtocolError("name of a node", self.node, said.identity.node)
        self.failure = ""
        event(_log, logging.INFO, "node connected", node=self.node)
        self._asker.line_up(self)

    def peer_said(self, connection: PeerConnection, frame: Frame) -> None:
        if frame.kind not in ANSWERS:
            raise PeerProtocolError(
                "frame of a node that is asked", "an answer", frame.kind.name
            )
        # What is not waited for any more has been settled otherwise.
        if self.in_flight.pop(frame.number, self) is None:
            self._asker.line_said(self, frame)

    def peer_lost(self, connection: PeerConnection, reason: str) -> None:
        if connection is not self._connection:
            return
        event(
            _log, logging.WARNING, "node lost", node=self.node, reason=reason,
            requests=len(self.in_flight),
        )  # fmt: skip
        self.failure = reason
        self._connection = None
        self._ended.set()
        numbers = list(self.in_flight)
        self.in_flight.clear()
        self._asker.line_lost(self, numbers)

    # -- keeping it up

    async def _keep(self) -> None:
        delay_s = REDIAL_S_MIN
        while True:
            self._ended.clear()
            if await self._open():
                delay_s = REDIAL_S_MIN
                await self._ended.wait()
            # The draw keeps no secret.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, REDIAL_S_MAX)

    async def _open(self) -> bool:
        connection = PeerConnection(self, self._identity, self._greeting)
        self._connection = connection
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await self._dial(self.node, connection)
        except OSError as error:  # a time-out is one
            if self._connection is connection:
                self._connection = None
            self.failure = str(error) or type(error).__name__
            return False
        return self._connection is connection

    def _greeting(self) -> bytes:
        return hello(self._identity, self._links)


MakeLine = Callable[[str, Asker], PeerLine]
