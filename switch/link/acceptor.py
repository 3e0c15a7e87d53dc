"""Listening sockets, and how fast connections are taken from them.

A connection costs as much as fifty messages, and a peer can make thousands a second:
taken as they come they would keep the loop from every other link. So a link takes
`BURST` of them at once and `RATE` a second from then on; the rest wait in the kernel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, cast

# Connections that the kernel keeps until we take them: a scheme that reconnects after
# a restart does so with all of them in one moment.
BACKLOG: Final = 1024
# That moment's connections are taken without a pause.
BURST: Final = 256
RATE: Final = 200
# Between two looks at whether more may be taken.
PAUSE_S: Final = 0.02


class Acceptor:
    """Made by `listen`. `make` makes the protocol of a connection."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self.sockets = sockets
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._allowance = float(BURST)
        self._counted_at = self._loop.time()
        self._is_closed = False
        self._pause: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[object]] = set()
        self._watch()

    @classmethod
    async def listen(
        cls, host: str, port: int, make: Callable[[], asyncio.BaseProtocol]
    ) -> Acceptor:
        """On all addresses of `host`. Raises OSError, UnicodeError."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, address in dict.fromkeys((each[0], each[4]) for each in found):
                sockets.append(_listening(family, address))
        except OSError:
            for each in sockets:
                each.close()
            raise
        return cls(sockets, make)

    def close(self) -> None:
        """Takes no connection any more; those that were taken stay."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._pause is None:
            self._look_away()
        else:
            self._pause.cancel()
        for each in self.sockets:
            each.close()

    def _watch(self) -> None:
        self._pause = None
        for each in self.sockets:
            self._loop.add_reader(each, self._accept, each)

    def _look_away(self) -> None:
        for each in self.sockets:
            self._loop.remove_reader(each)

    def _accept(self, listening: socket.socket) -> None:
        """One connection; the others come with the loop's next turns."""
        if not self._may_accept():
            self._look_away()
            self._pause = self._loop.call_later(PAUSE_S, self._watch)
            return
        # The peer has gone again, or somebody else was faster.
        with suppress(BlockingIOError, InterruptedError, ConnectionAbortedError):
            taken, _ = listening.accept()
            taken.setblocking(False)
            task = self._loop.create_task(self._connect(taken))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _may_accept(self) -> bool:
        now = self._loop.time()
        earned = (now - self._counted_at) * RATE
        self._counted_at = now
        self._allowance = min(BURST, self._allowance + earned)
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def _connect(self, taken: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, taken)
        except OSError:
            taken.close()  # it was reset meanwhile


def _listening(family: int, address: object) -> socket.socket:
    made = socket.create_server(
        cast(tuple[str, int], address), family=family, backlog=BACKLOG
    )
    made.setblocking(False)
    return made
