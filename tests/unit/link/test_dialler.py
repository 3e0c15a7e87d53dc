"""A link that dials a scheme: one that answers, goes away, comes back, or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from switch.link import dialler as dialler_module
from switch.link.dialler import JITTER, LinkDialler, redial_delay_s
from switch.link.settings import Address, LinkSettings, SessionSettings
from tests.unit.link.in_memory import NOW, fields
from tests.unit.link.running import (
    KEEP_ALIVE_OPTIONS,
    WAIT_S,
    Node,
    Peer,
    keep_alive_options,
    until,
)

LASTING_MS = 20
SOON = {"redial_min_ms": 1, "redial_max_ms": 5}


class Scheme:
    """Listens, on the same port each time, and keeps those who connected."""

    def __init__(self, node: Node) -> None:
        self.accepted = 0
        self.closes_at_once = False
        self.port = 0
        self._node = node
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: asyncio.Server | None = None

    async def listen(self):
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def go_away(self):
        """Nobody listens any more; who is connected stays."""
        if self._server is not None:
            self._server.close()

    async def peer(self) -> Peer:
        async with asyncio.timeout(WAIT_S):
            return await self._peers.get()

    async def _accept(self, reader, writer):
        self.accepted += 1
        if self.closes_at_once:
            writer.close()
        else:
            self._peers.put_nowait(Peer(self._node, reader, writer))


Scenario = Callable[[Scheme, LinkDialler], Awaitable[None]]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request):
    """Runs a scenario with a scheme that listens and a link that dials it."""

    def run(scenario: Scenario, **settings):
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_with_scheme(scenario, settings))

    return run


async def _with_scheme(scenario, settings):
    node = Node()
    scheme = Scheme(node)
    await scheme.listen()
    address = Address("127.0.0.1", scheme.port)
    dialler = LinkDialler(
        "out",
        LinkSettings(**{"role": "dial", "address": address, **SOON, **settings}),
        node.dispatcher(node.codec),
        clock=lambda: NOW,
    )
    try:
        await scenario(scheme, dialler)
    finally:
        scheme.go_away()
        await dialler.abort()
    assert not dialler.connections


def test_a_scheme_that_is_gone_without_a_word_is_found_out_by_the_kernel(run):
    async def scenario(scheme, dialler):
        await dialler.start()
        peer = await scheme.peer()
        await until(lambda: dialler.connections)
        assert keep_alive_options(peer.writer) == KEEP_ALIVE_OPTIONS
        peer.writer.close()

    run(scenario)


def test_it_keeps_as_many_connections_as_it_is_told_and_answers_on_each(run):
    async def scenario(scheme, dialler):
        assert dialler.down() == "not dialled yet"
        await dialler.start()
        peers = [await scheme.peer() for _ in range(3)]
        assert dialler.down() == ""
        for stan, peer in enumerate(peers):
            peer.send(fields("0100", stan))
            assert [reply[39] for reply in await peer.replies(1)] == ["00"]
        assert (scheme.accepted, len(dialler.connections)) == (3, 3)
        for peer in peers:
            peer.writer.close()

    run(scenario, connections=3)


def test_it_signs_on_to_whoever_it_dials(run):
    async def scenario(scheme, dialler):
        await dialler.start()
        peer = await scheme.peer()
        (request,) = await peer.replies(1)
        assert (request.mti, request[70]) == ("0800", "001")
        answer = {"mti": "0810", 7: request[7], 11: request[11], 39: "00", 70: "001"}
        peer.send(answer)
        await until(lambda: all(each.signed_on for each in dialler.connections))
        # And off, when it ends.
        draining = asyncio.create_task(dialler.drain())
        (request,) = await peer.replies(1)
        assert (request.mti, request[70]) == ("0800", "002")
        assert await peer.is_closed()
        await draining
        assert dialler.counters.closed == {"drain": 1}
        peer.writer.close()

    run(scenario, session=SessionSettings(sign_on="send"))


def test_one_that_is_lost_is_dialled_again_and_the_others_stay(run):
    async def scenario(scheme, dialler):
        await dialler.start()
        first, second = await scheme.peer(), await scheme.peer()
        first.writer.close()
        third = await scheme.peer()
        assert scheme.accepted == 3
        for stan, peer in enumerate((second, third)):
            peer.send(fields("0100", stan))
            assert [reply[39] for reply in await peer.replies(1)] == ["00"]
            peer.writer.close()

    run(scenario, connections=2)


def test_a_scheme_that_goes_away_is_down_and_one_that_comes_back_is_up(run):
    async def scenario(scheme, dialler):
        await dialler.start()
        peer = await scheme.peer()
        scheme.go_away()
        peer.writer.close()
        await until(lambda: dialler.counters.dials_failed >= 3)
        assert "refused" in dialler.down() or "connect" in dialler.down()
        await scheme.listen()
        peer = await scheme.peer()
        assert dialler.down() == ""
        assert dialler.counters.opened == 2
        peer.writer.close()

    run(scenario)


def test_one_that_accepts_and_closes_at_once_is_dialled_until_it_does_not(run):
    async def scenario(scheme, dialler):
        scheme.closes_at_once = True
        await dialler.start()
        await until(lambda: scheme.accepted >= 4)
        scheme.closes_at_once = False
        peer = await scheme.peer()
        peer.send(fields("0100", 1))
        assert [reply[39] for reply in await peer.replies(1)] == ["00"]
        assert dialler.counters.dials_failed == 0
        peer.writer.close()

    run(scenario)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_a_name_that_nobody_has_is_a_failure_like_any_other(run, host):
    async def scenario(scheme, dialler):
        await dialler.start()
        await until(lambda: dialler.counters.dials_failed >= 2)
        assert dialler.down() not in ("", "not dialled yet")

    run(scenario, address=Address(host, 1))


def test_draining_answers_what_was_received_and_dials_no_more(run):
    async def scenario(scheme, dialler):
        await dialler.start()
        peer = await scheme.peer()
        group = dialler.dispatcher.group
        peer.send(fields("0100", 1), fields("0100", 2))
        await until(lambda: dialler.counters.frames_received == 2)
        await dialler.drain()
        assert [reply[39] for reply in await peer.replies(3)] == ["00", "00"]
        peer.writer.close()
        assert (group.pending, scheme.accepted) == (0, 1)

    run(scenario)


def test_it_ends_while_it_waits_to_dial_again(run):
    async def scenario(scheme, dialler):
        scheme.go_away()
        await dialler.start()
        await until(lambda: dialler.counters.dials_failed == 1)
        await dialler.drain()
        assert dialler.counters.dials_failed == 1

    run(scenario, redial_min_ms=86_400_000, redial_max_ms=86_400_000)


def test_a_connection_that_is_made_while_it_ends_is_closed_too(run):
    async def scenario(scheme, dialler):
        take = dialler._opened

        def take_and_end(connection):
            is_taken = take(connection)
            dialler.stop_opening()
            return is_taken

        dialler._opened = take_and_end
        await dialler.start()
        await until(lambda: dialler.counters.opened == 1)
        await dialler.drain()
        assert not dialler.connections
        assert sum(dialler.counters.closed.values()) == 1
        peer = await scheme.peer()
        assert await peer.is_closed()
        peer.writer.close()

    run(scenario)


@pytest.fixture
def failures(monkeypatch):
    """How many failures in a row each delay was asked for with; none is waited for."""
    asked: list[int] = []

    def no_delay(settings, failures, chance):
        asked.append(failures)
        return 0

    monkeypatch.setattr(dialler_module, "redial_delay_s", no_delay)
    return asked


@pytest.mark.parametrize("accepts", [False, True])
def test_each_attempt_that_comes_to_nothing_makes_the_next_wait_longer(
    run, failures, accepts
):
    async def scenario(scheme, dialler):
        scheme.closes_at_once = True
        if not accepts:
            scheme.go_away()
        await dialler.start()
        await until(lambda: len(failures) >= 5)
        assert failures[:5] == [0, 1, 2, 3, 4]

    run(scenario, redial_max_ms=86_400_000)


def test_a_connection_that_lasted_is_dialled_again_as_soon_as_the_first(run, failures):
    async def scenario(scheme, dialler):
        scheme.closes_at_once = True
        await dialler.start()
        await until(lambda: len(failures) >= 3)
        scheme.closes_at_once = False
        peer = await scheme.peer()
        lasted = asyncio.get_running_loop().time() + 2 * LASTING_MS / 1000
        await until(lambda: asyncio.get_running_loop().time() > lasted)
        before = len(failures)
        peer.writer.close()
        peer = await scheme.peer()
        assert failures[before] == 0
        peer.writer.close()

    run(scenario, redial_max_ms=LASTING_MS)


@given(
    low=st.integers(1, 86_400_000),
    more=st.integers(0, 86_400_000),
    failures=st.integers(0, 10_000),
    chance=st.floats(0, 1),
)
def test_delays_double_up_to_the_longest_and_chance_takes_a_part(
    low, more, failures, chance
):
    high = min(low + more, 86_400_000)
    settings = LinkSettings(redial_min_ms=low, redial_max_ms=high)
    delay = redial_delay_s(settings, failures, 0)
    assert delay == min(low * 2 ** min(failures, 64), high) / 1000
    assert redial_delay_s(settings, failures, 1) == pytest.approx(delay * (1 - JITTER))
    taken = redial_delay_s(settings, failures, chance)
    assert delay * (1 - JITTER) <= taken * (1 + 1e-9)
    assert taken <= delay
