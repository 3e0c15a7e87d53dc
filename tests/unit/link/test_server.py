"""A link's server on a real loopback socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from switch.link import descriptors
from switch.link.errors import ListenError
from switch.link.server import LinkServer
from switch.link.settings import Address, LinkSettings
from switch.observe.metrics import SwitchCollector
from tests.unit.link.in_memory import NOW, fields
from tests.unit.link.running import (
    KEEP_ALIVE_OPTIONS,
    Node,
    keep_alive_options,
    until,
)

ANY_PORT = Address("127.0.0.1", 0)


class Daemon(Node):
    """A server, and what it needs."""

    def __init__(self, **settings):
        super().__init__()
        self.server = LinkServer(
            "main",
            LinkSettings(**{"address": ANY_PORT, **settings}),
            self.dispatcher(self.codec),
            clock=lambda: NOW,
        )

    async def connect(self):
        return await self.connect_to(self.server.address)


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


def test_a_peer_that_is_gone_without_a_word_is_found_out_by_the_kernel(run):
    async def scenario(daemon):
        peer = await daemon.connect()
        await until(lambda: daemon.server.connections)
        assert keep_alive_options(peer.writer) == KEEP_ALIVE_OPTIONS
        peer.writer.close()

    run(scenario)


def test_above_connections_max_a_connection_is_refused_and_the_others_stay(run):
    async def scenario(daemon):
        peers = [await daemon.connect() for _ in range(2)]
        await until(lambda: len(daemon.server.connections) == 2)
        refused = await daemon.connect()
        assert await refused.is_closed()
        refused.writer.close()
        assert daemon.server.counters.refused == 1
        for stan, peer in enumerate(peers):
            peer.send(fields("0100", stan))
            assert [reply[39] for reply in await peer.replies(1)] == ["00"]
        peers[0].writer.close()
        await until(lambda: len(daemon.server.connections) == 1)
        again = await daemon.connect()
        again.send(fields("0100", 9))
        assert [reply[39] for reply in await again.replies(1)] == ["00"]
        for peer in (peers[1], again):
            peer.writer.close()

    run(scenario, connections_max=2)


def test_one_address_may_not_take_every_connection(run, caplog):
    caplog.set_level("WARNING", "switch.link")

    async def scenario(daemon):
        greedy = [await daemon.connect() for _ in range(2)]
        await until(lambda: len(daemon.server.connections) == 2)
        refused = await daemon.connect()
        assert await refused.is_closed()
        other = await daemon.connect_to(daemon.server.address, "127.0.0.2")
        other.send(fields("0100", 1))
        assert [reply[39] for reply in await other.replies(1)] == ["00"]
        greedy[0].writer.close()
        await until(lambda: len(daemon.server.connections) == 2)
        again = await daemon.connect()
        again.send(fields("0100", 2))
        assert [reply[39] for reply in await again.replies(1)] == ["00"]
        for peer in (*greedy, refused, other, again):
            peer.writer.close()

    run(scenario, connections_per_address_max=2)
    reasons = [record.switch_fields["reason"] for record in caplog.records]
    assert reasons == ["connections_per_address_max is reached"]


def test_when_descriptors_run_out_a_connection_is_refused(run, monkeypatch, caplog):
    caplog.set_level("WARNING", "switch.link")

    async def scenario(daemon):
        peer = await daemon.connect()
        await until(lambda: len(daemon.server.connections) == 1)
        monkeypatch.setattr(descriptors, "is_scarce", lambda number: number > 0)
        refused = await daemon.connect()
        assert await refused.is_closed()
        peer.send(fields("0100", 1))
        assert [reply[39] for reply in await peer.replies(1)] == ["00"]
        for each in (peer, refused):
            each.writer.close()

    run(scenario)
    reasons = [record.switch_fields["reason"] for record in caplog.records]
    assert reasons == ["descriptors run out"]


def test_draining_answers_what_was_received_and_then_closes(run):
    async def scenario(daemon):
        address = daemon.server.address
        peer, idle = await daemon.connect(), await daemon.connect()
        daemon.journal.is_held_back = True
        peer.send(fields("0100", 1), fields("0100", 2))
        await until(lambda: daemon.server.counters.frames_received == 2)
        await until(lambda: len(daemon.server.connections) == 2)
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
        await until(lambda: daemon.server.counters.frames_received == 1)
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
        await until(lambda: daemon.server.counters.frames_received == 1)
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
        await until(lambda: any(each.ending for each in daemon.server.connections))
        daemon.journal.let_go()
        assert [reply[39] for reply in await peer.replies(2)] == ["00"]
        await until(lambda: not daemon.server.connections)
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
        await until(lambda: counters.outstanding == 0)
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
        daemon = Daemon(address=Address(host, port))
        with pytest.raises(ListenError) as caught:
            asyncio.run(daemon.server.start())
    shown = f"[{host}]" if ":" in host else host
    assert str(caught.value) == (
        f"{shown}:{port}: already in use by another process; give a free address"
    )


def test_an_address_that_is_not_ours_is_said_so():
    daemon = Daemon(address=Address("192.0.2.1", 8583))
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
            (sample.name, *list(sample.labels.values())[1:]): sample.value
            for family in collector.collect()
            for sample in family.samples
        }
        expected = {
            ("switch_connections",): 1,
            ("switch_connections_signed_on",): 1,
            ("switch_connections_opened_total",): 1,
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
