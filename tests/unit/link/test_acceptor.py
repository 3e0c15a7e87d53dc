"""How fast connections are taken from the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvloop

from switch.link import acceptor
from switch.link.acceptor import Acceptor
from tests.unit.link.running import until

HOST = "127.0.0.1"


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request):
    def run(scenario):
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scenario())

    return run


class Taken:
    """Listens, and keeps the protocols of what was taken."""

    def __init__(self):
        self.protocols = []

    def make(self):
        self.protocols.append(asyncio.Protocol())
        return self.protocols[-1]

    @contextlib.asynccontextmanager
    async def listening(self, host=HOST):
        made = await Acceptor.listen(host, 0, self.make)
        try:
            yield made, made.sockets[0].getsockname()
        finally:
            made.close()


def connect(address):
    return socket.create_connection(address[:2])


def test_more_than_a_burst_waits_in_the_kernel_until_there_is_an_allowance(
    run, monkeypatch
):
    monkeypatch.setattr(acceptor, "BURST", 2)
    monkeypatch.setattr(acceptor, "RATE", 0)

    async def scenario():
        taken = Taken()
        async with taken.listening() as (_, address):
            with contextlib.ExitStack() as stack:
                for _ in range(4):
                    stack.enter_context(connect(address))
                await until(lambda: len(taken.protocols) == 2)
                await asyncio.sleep(5 * acceptor.PAUSE_S)
                assert len(taken.protocols) == 2
                monkeypatch.setattr(acceptor, "RATE", 1000)
                await until(lambda: len(taken.protocols) == 4)

    run(scenario)


@pytest.mark.parametrize("rate", [0, 1000])
def test_a_closed_one_takes_nothing_any_more(run, monkeypatch, rate):
    """Whether it was watching or pausing."""
    monkeypatch.setattr(acceptor, "BURST", 1)
    monkeypatch.setattr(acceptor, "RATE", rate)

    async def scenario():
        taken = Taken()
        async with taken.listening() as (made, address):
            with connect(address), connect(address):
                await until(lambda: taken.protocols)
                await asyncio.sleep(acceptor.PAUSE_S / 2)
                made.close()
                count = len(taken.protocols)
                with pytest.raises(ConnectionRefusedError):
                    connect(address)
                await asyncio.sleep(2 * acceptor.PAUSE_S)
                assert len(taken.protocols) == count

    run(scenario)


def test_whoever_is_gone_before_it_is_taken_harms_nobody(run):
    async def scenario():
        taken = Taken()
        async with taken.listening() as (_, address):
            gone = connect(address)
            # With a reset, not an orderly end.
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            gone.close()
            with connect(address) as there:
                there.sendall(b"x")
                await until(lambda: len(taken.protocols) == 2)

    run(scenario)


def test_all_addresses_of_a_name_are_listened_on(run):
    async def scenario():
        taken = Taken()
        async with taken.listening("localhost") as (made, _):
            for each in made.sockets:
                with connect(each.getsockname()):
                    pass
            await until(lambda: len(taken.protocols) == len(made.sockets))

    run(scenario)


def test_when_one_address_cannot_be_had_none_is_kept(run):
    async def scenario():
        taken = Taken()
        async with taken.listening() as (_, address):
            with pytest.raises(OSError, match="in use"):
                await Acceptor.listen(HOST, address[1], taken.make)

    run(scenario)
