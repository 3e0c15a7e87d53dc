"""An event loop whose time passes when nothing is left to do, and a network in it."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, cast

STARTS_AT = 1_000.0
# No run takes so long in its own time: something waits for what never comes.
LASTS_S_MAX = 100_000.0


class _Selector(selectors.DefaultSelector):
    """Nothing ever happens on a descriptor; waiting is what makes time pass."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits for something that never comes"
        self.loop.now += max(timeout, 0.0)
        assert self.loop.now < STARTS_AT + LASTS_S_MAX, "it never ends"
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = STARTS_AT
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 -- of whatever the test looks at
            await asyncio.sleep(0.01)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


class End(asyncio.Transport):
    """One end of a connection. What is written arrives at the other, in order."""

    def __init__(self, network: Network, host: str, protocol: Any) -> None:
        super().__init__()
        self.other: End
        self.host = host
        self.protocol = protocol
        self._network = network
        self._is_closing = False
        self._is_reading = True
        self._kept: list[bytes] = []
        self._busy_until = 0.0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 40_000) if name == "peername" else default

    def write(self, data: Any) -> None:
        if not self._is_closing:
            self._later(self.other._arrive, bytes(data))

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        kept, self._kept = self._kept, []
        for data in kept:
            asyncio.get_running_loop().call_soon(self._arrive, data)

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._later(self.other._ended)
            asyncio.get_running_loop().call_soon(self._tell_lost)

    def abort(self) -> None:
        self.close()

    def _later(self, callback: Callable[..., None], *arguments: Any) -> None:
        loop = asyncio.get_running_loop()
        at = max(self._busy_until, loop.time() + self._network.delay_s())
        self._busy_until = at
        if self._network.reaches(self.host, self.other.host):
            loop.call_at(at, callback, *arguments)

    def _arrive(self, data: bytes) -> None:
        if self._is_closing or not self._network.is_alive(self.host):
            return
        if self._is_reading:
            self.protocol.data_received(data)
        else:
            self._kept.append(data)

    def _ended(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._tell_lost()

    def _tell_lost(self) -> None:
        if self._network.is_alive(self.host):
            self.protocol.connection_lost(None)


class Network:
    """Hosts that reach each other, until one of them is gone or cut off."""

    def __init__(self, chance: random.Random) -> None:
        self.listening: dict[str, Callable[[], Any]] = {}
        self._chance = chance
        self._gone: set[str] = set()
        self._cut: set[frozenset[str]] = set()
        self._ends: list[End] = []

    def delay_s(self) -> float:
        return self._chance.uniform(0.000_05, 0.002)

    def is_alive(self, host: str) -> bool:
        return host not in self._gone

    def reaches(self, one: str, other: str) -> bool:
        return (
            not {one, other} & self._gone and frozenset((one, other)) not in self._cut
        )

    def remove(self, host: str) -> None:
        """Without a word: it says and hears nothing any more."""
        self._gone.add(host)
        self.listening.pop(host, None)

    def cut(self, one: str, other: str) -> None:
        self._cut.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        """What was lost meanwhile is lost with its connection."""
        self._cut.discard(frozenset((one, other)))
        self.break_connections(one, other)
        self.break_connections(other, one)

    def break_connections(self, one: str, other: str) -> None:
        """Those that there are; new ones can be made."""
        for end in self._ends:
            if (end.host, end.other.host) == (one, other):
                end.close()

    async def connect(self, host: str, to: str, protocol: Any) -> None:
        await asyncio.sleep(self.delay_s())
        if not self.reaches(host, to) or to not in self.listening:
            await asyncio.sleep(0.01)
            raise ConnectionRefusedError(f"{to} is not there")
        theirs = self.listening[to]()
        near, far = End(self, host, protocol), End(self, to, theirs)
        near.other, far.other = far, near
        self._ends += [near, far]
        theirs.connection_made(cast(asyncio.BaseTransport, far))
        protocol.connection_made(near)
