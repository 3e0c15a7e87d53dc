"""What a link on a real loopback socket needs around it: a bank, a journal in memory,
and peers."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing
from pathlib import Path

from iso8583 import Codec, Message, load_spec
from switch.flow._dispatch import Dispatcher
from switch.ledger import Limits
from switch.link._framing import FrameReader, Framing
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup
from tests.unit.link.in_memory import KEYS, NOW, bank

WAIT_S = 30  # for what comes at once; never reached


class Journal:
    """Commits are durable at the loop's next turn, or while held back: never."""

    group: CommitGroup

    def __init__(self):
        self.is_held_back = False
        self.number = 0

    def submit(self, at, records):
        if not self.is_held_back:
            self.let_go()

    def let_go(self):
        self.is_held_back = False
        self.number += 1
        asyncio.get_running_loop().call_soon(self.group.committed, self.number)


class Node:
    """All that is behind a link."""

    def __init__(self):
        states = bank(4, Limits())
        self.codec = Codec(load_spec("iso87-ascii"))
        self.framing = Framing("binary2")
        self.journal = Journal()
        self.group = self.journal.group = CommitGroup(
            states,
            submit=self.journal.submit,
            schedule=lambda callback: asyncio.get_running_loop().call_soon(callback),
            released=lambda number: None,
            clock=lambda: NOW,
        )
        self._directory = CardDirectory(states)

    def dispatcher(self, codec: Codec, scheme: int = 0) -> Dispatcher:
        return Dispatcher(
            codec, self._directory, self.group, KEYS.pan_hash, scheme=scheme
        )

    async def connect_to(self, address, ours="127.0.0.1"):
        reader, writer = await asyncio.open_connection(
            address.host, address.port, local_addr=(ours, 0)
        )
        return Peer(self, reader, writer)


KEEP_ALIVE_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 60,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 6,
}


def keep_alive_options(writer):
    """Of our socket whose other end is a peer's. A loop hides it from a connection's
    owner, so that it is looked for among all that this process has open."""
    wanted = writer.get_extra_info("sockname")
    for path in Path("/proc/self/fd").iterdir():
        try:
            descriptor = os.dup(int(path.name))
        except OSError:
            continue  # it was of this listing itself
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:
            os.close(descriptor)
            continue  # no socket
        with closing(found):
            try:
                if found.getpeername() != wanted:
                    continue
            except OSError:
                continue  # it has no peer
            return {each: found.getsockopt(*each) for each in KEEP_ALIVE_OPTIONS}
    raise AssertionError(f"no socket with the peer {wanted}")


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 -- nothing signals it
            await asyncio.sleep(0.001)


class Peer:
    def __init__(self, node, reader, writer):
        self._node = node
        self._frames = FrameReader(node.framing)
        self._reader = reader
        self.writer = writer

    def send(self, *messages):
        for message in messages:
            self.send_body(self._node.codec.encode(message))

    def send_body(self, body):
        self.writer.write(self._node.framing.encode(body))

    async def replies(self, count):
        """So many; fewer when the connection ends before."""
        messages: list[Message] = []
        async with asyncio.timeout(WAIT_S):
            while len(messages) < count:
                data = await self._reader.read(65_536)
                if not data:
                    break
                messages += map(self._node.codec.decode, self._frames.feed(data))
        return messages

    async def is_closed(self):
        """Whether the switch closes without another word."""
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._reader.read(1) == b""
        except ConnectionResetError:
            return True
