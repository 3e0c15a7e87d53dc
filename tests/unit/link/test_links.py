"""Several links at once, and the change from those to others."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
import uvloop

from iso8583 import Codec, load_spec
from iso8583.dialect import STANDARD
from switch.link.errors import ListenError
from switch.link.links import Links
from switch.link.server import LinkServer
from switch.link.settings import Address, LinkSettings, SessionSettings
from switch.observe.metrics import Totals
from tests.unit.link.in_memory import NOW, fields
from tests.unit.link.running import Node, until

HOST = "127.0.0.1"


class Switch(Node):
    def __init__(self):
        super().__init__()
        self.links = Links(
            self.group,
            lambda language, scheme: self.dispatcher(language[0], scheme),
            clock=lambda: NOW,
        )

    async def change(self, **settings):
        languages = {
            name: (Codec(load_spec(each.spec)), STANDARD)
            for name, each in settings.items()
        }
        return await self.links.change(settings, languages)

    async def to(self, name):
        return await self.connect_to(self.address_of(name))

    def address_of(self, name) -> Address:
        link = self.links.by_name[name]
        assert isinstance(link, LinkServer)
        return link.address

    def counts(self):
        """Every series that is not zero."""
        totals = Totals()
        for sample in self.links.samples():
            totals.add(sample)
        return {
            (sample.name, *sample.labels): sample.value
            for sample in totals.samples()
            if sample.value
        }


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request):
    def run(scenario):
        async def beside_links():
            switch = Switch()
            try:
                await scenario(switch)
            finally:
                await switch.links.abort()

        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(beside_links())

    return run


def listens(port=0, **settings):
    return LinkSettings(address=Address(HOST, port), **settings)


@pytest.fixture
def free_port():
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


async def answers(peer, stan, mti="0100"):
    peer.send(fields(mti, stan))
    (reply,) = await peer.replies(1)
    return reply[39], reply.get(38)


def test_a_repeat_is_found_on_links_of_its_scheme_and_on_no_other(run):
    async def scenario(switch):
        await switch.change(
            a=listens(scheme=1), b=listens(scheme=1), c=listens(scheme=2)
        )
        a, b, c = [await switch.to(name) for name in "abc"]
        first = await answers(a, 1)
        assert await answers(b, 1, "0101") == first
        assert (await answers(c, 1))[1] != first[1]
        counts = switch.counts()
        assert counts["duplicates", "b"] == 1
        assert ("duplicates", "c") not in counts
        for peer in (a, b, c):
            peer.writer.close()

    run(scenario)


def test_a_link_that_does_not_change_keeps_its_connections(run):
    async def scenario(switch):
        kept, gone = listens(), listens()
        await switch.change(kept=kept, gone=gone, other=listens())
        peers = {name: await switch.to(name) for name in ("kept", "gone", "other")}
        for stan, peer in enumerate(peers.values()):
            await answers(peer, stan)
        address = switch.address_of("kept")
        change = await switch.change(
            kept=kept, other=listens(undecodable_max=1), new=listens()
        )
        assert msgspec.to_builtins(change) == {
            "started": ["new"],
            "replaced": ["other"],
            "ended": ["gone"],
            "kept": ["kept"],
        }
        assert await peers["gone"].is_closed()
        assert await peers["other"].is_closed()
        assert (await answers(peers["kept"], 7))[0] == "00"
        assert switch.address_of("kept") == address
        for name in ("other", "new"):
            peers[name + "'s next"] = peer = await switch.to(name)
            assert (await answers(peer, 8))[0] == "00"
        for peer in peers.values():
            peer.writer.close()

    run(scenario)


def test_what_a_link_has_counted_stays_when_it_is_gone(run):
    async def scenario(switch):
        await switch.change(a=listens(), b=listens())
        peer = await switch.to("a")
        await answers(peer, 1)
        peer.writer.close()
        await switch.change(b=listens())
        await until(lambda: not switch.links._draining)
        counts = switch.counts()
        assert counts["requests", "a", "0100", "00"] == 1
        assert counts["frames_received", "a"] == 1
        assert ("link_up", "a") not in counts
        await switch.change(a=listens(), b=listens())
        peer = await switch.to("a")
        await answers(peer, 2)
        assert switch.counts()["requests", "a", "0100", "00"] == 2
        assert switch.counts()["link_up", "a"] == 1
        peer.writer.close()

    run(scenario)


def test_a_link_that_changes_on_its_address_answers_what_the_old_one_owes(
    run, free_port
):
    async def scenario(switch):
        await switch.change(a=listens(free_port))
        old = await switch.to("a")
        switch.journal.is_held_back = True
        old.send(fields("0100", 1))
        await until(lambda: switch.group.in_flight)
        await switch.change(a=listens(free_port, inclusive=False, outstanding_max=9))
        new = await switch.to("a")
        switch.journal.let_go()
        assert [reply[39] for reply in await old.replies(2)] == ["00"]
        assert (await answers(new, 2))[0] == "00"
        for peer in (old, new):
            peer.writer.close()

    run(scenario)


def test_an_address_passes_from_one_link_to_another(run):
    # Free on every address: others may listen on another loopback address.
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]

    async def scenario(switch):
        await switch.change(a=listens(port))
        anywhere = LinkSettings(address=Address("0.0.0.0", port))
        await switch.change(b=anywhere)
        assert switch.links.down() == {}
        peer = await switch.to("b")
        assert (await answers(peer, 1))[0] == "00"
        peer.writer.close()

    run(scenario)


def test_a_change_to_an_address_that_is_taken_changes_nothing(run, free_port):
    async def scenario(switch):
        await switch.change(a=listens())
        peer = await switch.to("a")
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ListenError, match="already in use"):
                await switch.change(b=listens(free_port), c=listens(port))
        assert list(switch.links.by_name) == ["a"]
        assert (await answers(peer, 1))[0] == "00"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, free_port)
        peer.writer.close()

    run(scenario)


def test_a_specification_that_changed_under_its_name_is_a_change(run, tmp_path):
    async def scenario(switch):
        spec = tmp_path / "own.json"
        text = msgspec.json.encode(load_spec("iso87-ascii"))
        spec.write_bytes(text)
        settings = listens(spec=str(spec))
        await switch.change(a=settings)
        assert (await switch.change(a=settings)).kept == ["a"]
        spec.write_bytes(text.replace(b'"iso87-ascii"', b'"another"', 1))
        assert (await switch.change(a=settings)).replaced == ["a"]

    run(scenario)


def test_the_strictest_link_says_when_late_approvals_are_looked_for(run):
    async def scenario(switch):
        await switch.change(
            a=listens(answer_deadline_ms=900), b=listens(answer_deadline_ms=100)
        )
        assert switch.group.deadline_ms == 100
        await switch.change(a=listens(answer_deadline_ms=900))
        await until(lambda: switch.group.deadline_ms == 900)

    run(scenario)


def test_a_dialled_link_that_is_down_is_told_and_the_others_are_up(run, free_port):
    async def scenario(switch):
        out = LinkSettings(role="dial", address=Address(HOST, free_port))
        await switch.change(a=listens(), out=out)
        await until(lambda: switch.links.down().get("out") != "not dialled yet")
        assert list(switch.links.down()) == ["out"]
        counts = switch.counts()
        assert counts["link_up", "a"] == 1
        assert ("link_up", "out") not in counts
        assert counts["dials_failed", "out"] == 1

    run(scenario)


def test_after_the_end_has_begun_nothing_is_changed_any_more(run):
    async def scenario(switch):
        await switch.change(a=listens())
        await switch.links.drain()
        assert (await switch.change(b=listens())).kept == ["a"]

    run(scenario)


def test_a_removed_link_signs_off(run):
    async def scenario(switch):
        session = SessionSettings(sign_on="wait")
        await switch.change(a=listens(session=session), b=listens())
        peer = await switch.to("a")
        peer.send(fields("0800", 1, changes={70: "001"}))
        await peer.replies(1)
        await switch.change(b=listens())
        (told,) = await peer.replies(1)
        assert (told.mti, told[70]) == ("0800", "002")
        peer.writer.close()

    run(scenario)
