"""A line to each other node that is there: made when it comes, closed when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from switch.peer.asking import PeerLine

# A line to a node, at an address.
MakeLine = Callable[[str, str], PeerLine]


class Lines:
    """`lines` is what somebody asks by, who keeps nothing of it."""

    def __init__(self, lines: dict[str, PeerLine], make_line: MakeLine) -> None:
        self._lines = lines
        self._make_line = make_line
        self._addresses: Mapping[str, str] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def change(self, addresses: Mapping[str, str]) -> None:
        """Of the other nodes, by name."""
        for node in tuple(self._lines):
            if addresses.get(node) != self._addresses.get(node):
                task = asyncio.create_task(self._lines.pop(node).close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        for node, address in addresses.items():
            if node not in self._lines:
                self._lines[node] = self._make_line(node, address)
        self._addresses = dict(addresses)

    async def close(self) -> None:
        lines = tuple(self._lines.values())
        self._lines.clear()
        await asyncio.gather(*(line.close() for line in lines), *self._closing)
