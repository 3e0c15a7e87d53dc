"""The end of a client's connection; what it asks is seen in the tests of those who use
it."""

import asyncio
import contextlib

import pytest

import iso8583
from switch.link._framing import Framing
from switch.replay.client import Client

CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
FRAMING = Framing("binary2")
# more than the kernel takes of it
UNREAD = bytes(60_000)
UNREAD_COUNT = 500


class Peer:
    """Takes one connection; reads nothing of it before it is told to."""

    async def __aenter__(self):
        self._connected = asyncio.Event()
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _take(self, reader, writer):
        self._reader, self._writer = reader, writer
        self._connected.set()

    async def read_to_the_end(self):
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    async def __aexit__(self, *_):
        await self._connected.wait()
        self._writer.transport.abort()
        self._server.close()
        await self._server.wait_closed()


async def leave_and_be_cancelled(client, turns):
    """`turns` of the loop after it began to leave."""
    leaving = asyncio.create_task(client.__aexit__(None, None, None))
    for _ in range(turns):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)


@pytest.mark.parametrize("turns", range(1, 5))
def test_whoever_is_cancelled_while_it_leaves_has_closed_the_connection(turns):
    async def script():
        async with Peer() as peer:
            client = Client("127.0.0.1", peer.port, CODEC, FRAMING)
            await client.__aenter__()
            await leave_and_be_cancelled(client, turns)
            await asyncio.wait_for(peer.read_to_the_end(), 60)

    asyncio.run(script())


def test_what_a_peer_does_not_take_keeps_nothing_open():
    async def script():
        async with Peer() as peer:
            client = Client("127.0.0.1", peer.port, CODEC, FRAMING)
            await client.__aenter__()
            for _ in range(UNREAD_COUNT):
                client.write(UNREAD)
            transport = client._writer.transport
            assert transport.get_write_buffer_size() > 0
            await leave_and_be_cancelled(client, 4)
            assert transport.get_write_buffer_size() == 0

    asyncio.run(script())
