"""A link's server on a real loopback socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from iso8583 import Codec, Message, load_spec
from switch.flow._dispatch import Dispatcher
from switch.ledger import Limits
from switch.link._framing import FrameReader, Framing
from switch.link.errors import ListenError
from switch.link.server import LinkServer
from switch.link.settings import Address, LinkSettings
from switch.observe.metrics import SwitchCollector
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup
from tests.unit.link.in_memory import KEYS, NOW, bank, fields

ANY_PORT = Address("127.0.0.1", 0)
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


class Daemon:
    """A server, and what it needs."""

    def __init__(self, **settings):
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
        self.server = LinkServer(
            LinkSettings(**{"listen": ANY_PORT, **settings}),
            Dispatcher(self.codec, CardDirectory(states), self.group, KEYS.pan_hash),
            clock=lambda: NOW,
        )

    async def connect(self):
        address = self.server.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        return Peer(self, reader, writer)

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 -- nothing signals it
                await asyncio.sleep(0.001)


class Peer:
    def __init__(self, daemon, reader, writer):
        self._daemon = daemon
        self._frames = FrameReader(daemon.framing)
        self._reader = reader
        self.writer = writer

    def send(self, *messages):
        encode = self._daemon.codec.encode
        for message in messages:
            self.writer.write(self._daemon.framing.encode(encode(message)))

    async def replies(self, count):
        """So many; fewer when the connection ends before."""
        messages: list[Message] = []
        async with asyncio.timeout(WAIT_S):
            while len(messages) < count:
                data = await self._reader.read(65_536)
                if not data:
                    break
                messages += map(self._daemon.codec.decode, self._frames.feed(data))
        return messages

    async def is_closed(self):
        """Whether the switch closes without another word."""
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._reader.read(1) == b""
        except ConnectionResetError:
            return True


Scenario = Callable[[Daemon], Awaitable[None]]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request):
    """Runs a scenario beside a server, on both kinds of loop."""

    def run(scenario: Scenario, **settings):
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_beside_server(scenario, settings))

    return run


async def _beside_server(scenario, settings):
    daemon = Daemon(**settings)
    await daemon.server.start()
    try:
        await scenario(daemon)
    finally:
        await daemon.server.abort()
    assert not daemon.server.connections


def test_requests_of_several_connections_are_answered(run):
    async def scenario(daemon):
        peers = [await daemon.connect() for _ in range(3)]
        for first, peer in enumerate(peers):
            peer.send(*(fields("0100", 10 * first + n, amount=1) for n in range(5)))
        for first, peer in enumerate(peers):
            replies = await peer.replies(5)
            assert [reply[39] for reply in replies] == ["00"] * 5
            assert [int(reply[11]) for reply in replies] == [
                10 * first + n for n in range(5)
            ]
            peer.writer.close()

    run(scenario)


def test_above_connections_max_a_connection_is_refused_and_the_others_stay(run):
    async def scenario(daemon):
        peers = [await daemon.connect() for _ in range(2)]
        await daemon.until(lambda: len(daemon.server.connections) == 2)
        refused = await daemon.connect()
        assert await refused.is_closed()
        refused.writer.close()
        assert daemon.server.counters.refused == 1
        for stan, peer in enumerate(peers):
            peer.send(fields("0100", stan))
            assert [reply[39] for reply in await peer.replies(1)] == ["00"]
        peers[0].writer.close()
        await daemon.until(lambda: len(daemon.server.connections) == 1)
        again = await daemon.connect()
        again.send(fields("0100", 9))
        assert [reply[39] for reply in await again.replies(1)] == ["00"]
        for peer in (peers[1], again):
            peer.writer.close()

    run(scenario, connections_max=2)


def test_draining_answers_what_was_received_and_then_closes(run):
    async def scenario(daemon):
        address = daemon.server.address
        peer, idle = await daemon.connect(), await daemon.connect()
        daemon.journal.is_held_back = True
        peer.send(fields("0100", 1), fields("0100", 2))
        await daemon.until(lambda: daemon.server.counters.frames_received == 2)
        await daemon.until(lambda: len(daemon.server.connections) == 2)
        draining = asyncio.create_task(daemon.server.drain())
        assert await idle.is_closed()
        assert not draining.done()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address.host, address.port)
        daemon.journal.let_go()
        assert [reply[39] for reply in await peer.replies(3)] == ["00", "00"]
        await draining
        assert not daemon.server.connections
        assert daemon.server.counters.closed == {"drain": 2}
        for each in (peer, idle):
            each.writer.close()

    run(scenario)


def test_draining_cuts_off_what_takes_too_long(run):
    async def scenario(daemon):
        peer = await daemon.connect()
        daemon.journal.is_held_back = True
        peer.send(fields("0100", 1))
        await daemon.until(lambda: daemon.server.counters.frames_received == 1)
        await daemon.server.drain()
        assert await peer.is_closed()
        assert daemon.server.counters.closed == {"timeout": 1}
        peer.writer.close()

    run(scenario, drain_timeout_ms=50)


def test_draining_with_nobody_there_ends_at_once(run):
    async def scenario(daemon):
        await daemon.server.drain()

    run(scenario)


def test_aborting_sends_nothing_more(run):
    async def scenario(daemon):
        peer = await daemon.connect()
        daemon.journal.is_held_back = True
        peer.send(fields("0100", 1))
        await daemon.until(lambda: daemon.server.counters.frames_received == 1)
        daemon.group.stop(OSError("no disk"))
        await daemon.server.abort()
        assert await peer.is_closed()
        assert daemon.server.counters.closed == {"fault": 1}
        peer.writer.close()

    run(scenario)


def test_half_a_close_still_gets_its_answers(run):
    async def scenario(daemon):
        peer = await daemon.connect()
        daemon.journal.is_held_back = True
        peer.send(fields("0100", 1))
        peer.writer.write_eof()
        await daemon.until(
            lambda: any(each.ending for each in daemon.server.connections)
        )
        daemon.journal.let_go()
        assert [reply[39] for reply in await peer.replies(2)] == ["00"]
        await daemon.until(lambda: not daemon.server.connections)
        assert daemon.server.counters.closed == {"peer": 1}
        peer.writer.close()

    run(scenario)


def test_a_peer_that_does_not_read_its_replies_is_not_read_from(run):
    """And one that begins to read gets all of them."""

    async def scenario(daemon):
        peer = await daemon.connect()
        counters = daemon.server.counters
        sent = 0
        message = fields("0100", 1)
        while not counters.paused_by_peer:
            peer.send(*[message] * 200)
            sent += 200
            await asyncio.sleep(0)
        await daemon.until(lambda: counters.outstanding == 0)
        received = 0
        while received < sent:
            received += len(await peer.replies(1))
        assert received == sent
        assert counters.frames_received == sent
        peer.writer.close()

    run(scenario)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_taken_address_is_said_so(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(listen=Address(host, port))
        with pytest.raises(ListenError) as caught:
            asyncio.run(daemon.server.start())
    shown = f"[{host}]" if ":" in host else host
    assert str(caught.value) == (
        f"{shown}:{port}: already in use by another process; give a free address"
    )


def test_an_address_that_is_not_ours_is_said_so():
    daemon = Daemon(listen=Address("192.0.2.1", 8583))
    with pytest.raises(ListenError, match=r"^192\.0\.2\.1:8583: cannot be listened on"):
        asyncio.run(daemon.server.start())


def test_what_is_counted_are_metrics_that_there_are(run):
    async def scenario(daemon):
        peer = await daemon.connect()
        peer.send(fields("0100", 1), fields("0101", 1), fields("0800", 2))
        peer.send(fields("0800", 3, changes={70: "001"}))
        broken = daemon.codec.encode(fields("0100", 4))[:-2]
        peer.writer.write(daemon.framing.encode(broken))
        peer.writer.write(daemon.framing.encode(b"rubbish"))
        peer.writer.write(daemon.framing.encode(b""))
        assert len(await peer.replies(5)) == 5
        collector = SwitchCollector()
        collector.add(daemon.server.samples)
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in collector.collect()
            for sample in family.samples
        }
        expected = {
            ("switch_connections",): 1,
            ("switch_connections_signed_on",): 1,
            ("switch_connections_accepted_total",): 1,
            ("switch_frames_received_total",): 6,
            ("switch_heartbeats_received_total",): 1,
            ("switch_frames_malformed_total", "answered"): 1,
            ("switch_frames_malformed_total", "dropped"): 1,
            ("switch_requests_total", "0100", "00"): 2,
            ("switch_requests_total", "0800", "00"): 2,
            ("switch_requests_total", "0100", "30"): 1,
            ("switch_duplicates_total",): 1,
            ("switch_requests_in_flight",): 0,
            # the two that waited for a commit, and the malformed one
            ("switch_reply_seconds_count",): 3,
        }
        assert {key: values.get(key) for key in expected} == expected
        peer.writer.close()

    run(scenario)
