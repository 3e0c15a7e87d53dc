"""Nodes that talk over real sockets, with certificates and without."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from switch.link.settings import Address
from switch.peer.answering import Answering
from switch.peer.asking import PeerLine
from switch.peer.errors import PeerError
from switch.peer.framing import Frame, Kind, pack
from switch.peer.hello import Identity, fingerprint
from switch.peer.memory import MemoryOwners
from switch.peer.sockets import Certificates, contexts, dial_to, listen
from tests.servers.certificates import Authority
from tests.simulation.cluster.virtual import until
from tests.unit.link.in_memory import KEYS, Switch, fields

LOCAL = Address("127.0.0.1", 0)


class Asker:
    """Keeps what lines tell."""

    def __init__(self):
        self.up = asyncio.Event()
        self.lost = asyncio.Event()
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.unknown = []

    def line_up(self, line):
        self.up.set()

    def line_said(self, line, frame):
        self.frames.put_nowait(frame)

    def line_lost(self, line, numbers):
        self.unknown += numbers
        self.lost.set()


class Pair:
    """A node that asks, and one that answers with a switch in memory."""

    def __init__(self, *, theirs=None, owners=None, **options):
        self.switch = Switch(shard_count=4, **options)
        dispatcher = self.switch._dispatcher(0)
        self.prints = {"main": fingerprint(dispatcher.codec, dispatcher.dialect, 0)}
        self.answering = Answering(
            theirs or Identity("bank", "b", 4, "key"),
            {"main": dispatcher},
            MemoryOwners(owners),
            clock=lambda: self.switch.now,
        )
        self.asker = Asker()

    async def open(self, server_context=None, client_context=None, prints=None):
        self.server = await listen(self.answering, LOCAL, server_context)
        host, port = self.server.sockets[0].getsockname()[:2]
        self.line = PeerLine(
            "b", self.asker, Identity("bank", "a", 4, "key"), prints or self.prints,
            dial_to(f"{host}:{port}", client_context),
        )  # fmt: skip

    async def close(self):
        await self.line.close()
        self.server.close()
        self.answering.close("test")
        await asyncio.sleep(0.01)

    async def ask(self, message, number=1, *, shard, kind=Kind.REQUEST, left_ms=5000):
        body = message if isinstance(message, bytes) else self.encode(message)
        frame = pack(kind, body, link=0, shard=shard, number=number, left_ms=left_ms)
        self.line.send(number, frame)
        while self.asker.frames.empty():
            await asyncio.sleep(0.001)
            self.switch.settle()
        return self.asker.frames.get_nowait()

    def encode(self, message):
        return self.switch.codec.encode(message)

    def shard(self, pan="9999990000000001"):
        return self.switch.directory.shard(KEYS.pan_hash(pan.encode()))


async def up(pair):
    await asyncio.wait_for(pair.asker.up.wait(), 10)


def running(scenario, **options):
    async def main():
        pair = Pair(**options)
        await pair.open()
        try:
            await up(pair)
            await scenario(pair)
        finally:
            await pair.close()

    asyncio.run(main())


def test_a_request_is_decided_and_answered_when_it_is_durable():
    async def scenario(pair):
        shard = pair.shard()
        pair.line.send(7, pack(
            Kind.REQUEST, pair.encode(fields("0100", 1)), shard=shard, number=7,
            left_ms=5000,
        ))  # fmt: skip
        async with asyncio.timeout(10):
            while pair.switch.in_flight is None:
                await asyncio.sleep(0.001)
                pair.switch.turn()
        assert pair.asker.frames.empty()
        pair.switch.settle()
        frame = await asyncio.wait_for(pair.asker.frames.get(), 10)
        assert (frame.kind, frame.number) == (Kind.ANSWER, 7)
        reply = pair.switch.codec.decode(frame.body)
        assert (reply.mti, reply[39]) == ("0110", "00")
        assert pair.switch.account().held == 1_000
        assert pair.line.in_flight == {}

    running(scenario)


def test_an_approval_that_is_late_there_is_declined():
    async def scenario(pair):
        frame = pack(
            Kind.REQUEST, pair.encode(fields("0100", 1)), shard=pair.shard(), number=7,
            left_ms=200,
        )  # fmt: skip
        pair.line.send(7, frame)
        async with asyncio.timeout(10):
            while pair.switch.in_flight is None:
                await asyncio.sleep(0.001)
                pair.switch.turn()
        # Of the clock by which it was read: that of the running loop.
        pair.switch.loop.now = asyncio.get_running_loop().time() + 1.0
        pair.switch.settle()
        answer = await asyncio.wait_for(pair.asker.frames.get(), 10)
        reply = pair.switch.codec.decode(answer.body)
        assert (answer.number, reply[39], 38 in reply) == (7, "91", False)
        assert pair.switch.account().held == 0

    running(scenario)


def test_a_void_takes_back_and_says_so():
    async def scenario(pair):
        shard = pair.shard()
        await pair.ask(fields("0100", 1), shard=shard)
        assert pair.switch.account().held == 1_000
        frame = await pair.ask(fields("0100", 1), 2, shard=shard, kind=Kind.VOID)
        assert (frame.kind, frame.number) == (Kind.ANSWER, 2)
        assert pair.switch.account().held == 0
        again = await pair.ask(fields("0101", 1), 3, shard=shard)
        assert pair.switch.codec.decode(again.body)[39] == "91"

    running(scenario)


def test_without_room_a_void_is_refused_for_now():
    async def scenario(pair):
        frame = await pair.ask(fields("0100", 1), shard=pair.shard(), kind=Kind.VOID)
        assert (frame.kind, frame.body[:2]) == (Kind.REFUSED, b"91")
        assert pair.switch.committed == []

    running(scenario, pending_max=0)


def test_a_shard_that_is_elsewhere_is_said_to_be():
    async def scenario(pair):
        shard = pair.shard()
        pair.switch.group.close_shard(shard)
        for kind in (Kind.REQUEST, Kind.VOID):
            frame = await pair.ask(fields("0100", 1), shard=shard, kind=kind)
            assert (frame.kind, frame.body) == (Kind.NOT_MINE, b"c")
        assert pair.answering.not_mine == 2

    running(scenario, owners=dict.fromkeys(range(4), "c"))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"no message", Kind.REQUEST),
        (fields("0800", 1), Kind.REQUEST),
        (fields("0110", 1, changes={39: "00"}), Kind.REQUEST),
        (fields("0120", 1, changes={39: "00"}), Kind.VOID),
    ],
)
def test_what_cannot_be_decided_is_refused(message, kind):
    async def scenario(pair):
        frame = await pair.ask(message, shard=pair.shard(), kind=kind)
        assert (frame.kind, frame.body[:2]) == (Kind.REFUSED, b"96")
        assert pair.switch.committed == []

    running(scenario)


def test_a_link_that_is_not_the_same_there_is_refused():
    async def main():
        pair = Pair()
        await pair.open(prints={"main": "another"})
        try:
            await up(pair)
            frame = await pair.ask(fields("0100", 1), shard=pair.shard())
            assert (frame.kind, frame.body[:2]) == (Kind.REFUSED, b"96")
            assert pair.switch.committed == []
        finally:
            await pair.close()

    asyncio.run(main())


def test_a_node_of_another_cluster_is_never_up():
    async def main():
        pair = Pair(theirs=Identity("other", "b", 4, "key"))
        await pair.open()
        try:
            await asyncio.wait_for(pair.asker.lost.wait(), 10)
            assert not pair.line.is_up
            assert "cluster of a node" in pair.line.failure
        finally:
            await pair.close()

    asyncio.run(main())


def test_what_is_in_flight_when_the_line_breaks_is_not_known_and_it_is_dialled_again():
    async def scenario(pair):
        pair.line.send(9, pack(
            Kind.REQUEST, pair.encode(fields("0100", 1)), shard=pair.shard(), number=9,
            left_ms=5000,
        ))  # fmt: skip
        pair.asker.up.clear()
        pair.answering.close("test")
        await asyncio.wait_for(pair.asker.lost.wait(), 10)
        assert pair.asker.unknown == [9]
        await up(pair)
        assert pair.line.has_room

    running(scenario)


# --- certificates


def issued(authority, name):
    path = authority.issue(name)
    return Certificates(str(path), str(path), str(authority.ca))


def test_with_certificates_both_sides_have_to_show_one(tmp_path):
    authority = Authority(tmp_path)
    ours, theirs = issued(authority, "a"), issued(authority, "b")

    async def main():
        pair = Pair()
        await pair.open(contexts(theirs)[0], contexts(ours)[1])
        try:
            await up(pair)
            frame = await pair.ask(fields("0100", 1), shard=pair.shard())
            assert frame.kind == Kind.ANSWER
        finally:
            await pair.close()

    asyncio.run(main())


@pytest.mark.parametrize("who", ["nobody", "a stranger", "without TLS"])
def test_without_one_of_this_authority_a_node_is_never_up(tmp_path, who):
    authority = Authority(tmp_path)
    theirs = issued(authority, "b")
    client = None
    if who == "a stranger":
        stranger = issued(Authority(tmp_path, "other"), "s")
        client = contexts(Certificates(stranger.cert, stranger.key, theirs.ca))[1]
    elif who == "nobody":
        client = ssl.create_default_context(cafile=theirs.ca)

    async def main():
        pair = Pair()
        await pair.open(contexts(theirs)[0], client)
        try:
            await until(lambda: pair.line.failure != "not connected yet")
            assert not pair.asker.up.is_set()
            assert pair.answering.sessions == {}
        finally:
            await pair.close()

    asyncio.run(main())


def test_certificates_that_cannot_be_read_are_named(tmp_path):
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(PeerError, match=r"missing\.pem"):
        contexts(Certificates(missing, missing, missing))


def test_an_address_that_is_taken_is_named():
    async def main():
        pair = Pair()
        await pair.open()
        try:
            host, port = pair.server.sockets[0].getsockname()[:2]
            with pytest.raises(PeerError, match=f"{host}:{port}"):
                await listen(pair.answering, Address(host, port), None)
        finally:
            await pair.close()

    asyncio.run(main())
