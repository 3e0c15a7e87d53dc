"""Several whole nodes in one process, and the schemes that ask them.

All that is between a link's bytes and the journal's port is what production runs:
connections, dispatchers, shards, group commits, the nodes' own protocol, sessions.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from typing import Any, NamedTuple

from iso8583 import Codec, load_dialect, load_spec
from switch.cluster.lines import Lines
from switch.cluster.node import Node
from switch.flow._dispatch import Dispatcher
from switch.journal.port import ShardRecord
from switch.ledger import CardIssued, Limits, Transaction, decode_entries
from switch.link._connection import Connection
from switch.link._counters import LinkCounters
from switch.link._endpoint import Endpoint
from switch.link._framing import FrameReader, Framing
from switch.link.management import Management, NetworkMessages
from switch.link.settings import LinkSettings
from switch.peer.answering import Answering
from switch.peer.asking import PeerLine
from switch.peer.forwarder import Forwarder
from switch.peer.hello import Identity, fingerprint
from switch.peer.memory import MemoryCards
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup
from tests.simulation.cluster.fakes import MemorySession, MemoryShards, Registry, Store
from tests.simulation.cluster.virtual import End, Network, until
from tests.unit.link.in_memory import KEYS, NOW, STERLING, fields, opening

SHARD_COUNT = 6
DEADLINE_MS = 4_000
BALANCE = 1_000_000
ACCOUNTS = {f"account{number}": (STERLING, BALANCE, 0) for number in range(12)}
PANS = [f"99999900000001{number:02d}" for number in range(len(ACCOUNTS))]
CARDS = tuple(
    (pan, account, 3012, 0) for pan, account in zip(PANS, ACCOUNTS, strict=True)
)
UNKNOWN_PAN = "9999990000009999"
CODEC = Codec(load_spec("iso87-ascii"))
DIALECT = load_dialect("iso87-ascii", CODEC.spec)
FRAMING = Framing("binary2")
SETTINGS = LinkSettings(answer_deadline_ms=DEADLINE_MS)


def opening_records() -> list[ShardRecord]:
    payloads: dict[int, list[bytes]] = defaultdict(list)
    for shard, entry in opening(SHARD_COUNT, ACCOUNTS, CARDS):
        payloads[shard].append(entry.encode())
    return [
        ShardRecord(shard, 1, len(packed), b"".join(packed))
        for shard, packed in payloads.items()
    ]


def wall_clock() -> int:
    return NOW + int(asyncio.get_running_loop().time() * 1000)


class SimulatedNode:
    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.counters = LinkCounters()
        self.directory = CardDirectory([], shard_count=SHARD_COUNT)
        loop = asyncio.get_running_loop()
        self.group = CommitGroup(
            [],
            submit=lambda at, records: self.node.submit(at, records),
            schedule=loop.call_soon,
            released=lambda number: None,
            clock=wall_clock,
            monotonic=loop.time,
            shard_count=SHARD_COUNT,
            confirms=True,
            deadline_ms=DEADLINE_MS,
        )
        self.node = Node(
            name, self.group, self.directory, Limits(), self._session, every_entries=20
        )
        peers = {"main": self._dispatcher()}
        self.identity = Identity("test", name, SHARD_COUNT, "key")
        self.forwarder = Forwarder(
            name, SHARD_COUNT, peers, world.cards, self.node, clock=wall_clock
        )
        self.answering = Answering(
            self.identity, {"main": self._dispatcher()}, self.node, clock=wall_clock
        )
        lines = Lines(self.forwarder.lines, self._line)
        self.node.attach(self.forwarder, self.answering, lines)
        world.network.listening[name] = self.answering.accept
        self._messages = NetworkMessages(CODEC, wall_clock, DIALECT)
        self.endpoint = Endpoint(
            "main",
            FRAMING,
            self._dispatcher(),
            self.counters,
            settings=SETTINGS,
            loop=loop,
            clock=wall_clock,
            open_management=self._management,
            opened=lambda connection: True,
            closed=lambda connection: None,
            look=lambda data: "",
            turn_ns=3_600_000_000_000,
            forward=self.forwarder.forward,
        )
        self.task = asyncio.create_task(self.node.run())

    def _session(self) -> tuple[MemoryShards, MemorySession]:
        name = f"{self.name}{next(self.world.session_numbers)}"
        return (
            MemoryShards(self.world.registry, self.name, name),
            MemorySession(self.world.store, self.name, name),
        )

    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(
            CODEC, self.directory, self.group, KEYS.pan_hash, dialect=DIALECT
        )

    def _line(self, node: str, address: str) -> PeerLine:
        prints = {"main": fingerprint(CODEC, DIALECT, 0)}
        return PeerLine(node, self.forwarder, self.identity, prints, self._dial)

    async def _dial(self, node: str, connection: Any) -> None:
        await self.world.network.connect(self.name, node, connection)

    def _management(self, connection: Connection) -> Management:
        loop = asyncio.get_running_loop()
        return Management(
            connection, self._messages, SETTINGS.session, loop.time, self.counters
        )


class Reply(NamedTuple):
    code: str
    at: float


class Scheme(asyncio.Protocol):
    """A scheme's connection to one node: asks, and keeps every answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.transport: End | None = None
        self._reader = FrameReader(FRAMING)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for frame in self._reader.feed(data):
            reply = CODEC.decode(frame)
            if reply.mti[1] != "8":
                self.world.replies[int(reply[11])].append(Reply(reply[39], loop.time()))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.network = Network(self.chance)
        self.registry = Registry()
        self.store = Store(self.chance, SHARD_COUNT, opening_records())
        self.cards = MemoryCards(
            {
                KEYS.pan_hash(pan.encode()): record_shard
                for pan, record_shard in self._card_shards()
            }
        )
        self.session_numbers = itertools.count(1)
        self.nodes: dict[str, SimulatedNode] = {}
        self.lines: dict[str, Scheme] = {}
        # What the schemes asked, and what they were answered, by field 11.
        self.asked: dict[int, tuple[str, str, int, float]] = {}
        self.replies: dict[int, list[Reply]] = defaultdict(list)
        self._stans = itertools.count(1)

    @staticmethod
    def _card_shards() -> list[tuple[str, int]]:
        accounts = dict(zip(ACCOUNTS, PANS, strict=True))
        return [
            (accounts[entry.account], shard)
            for shard, entry in opening(SHARD_COUNT, ACCOUNTS, CARDS)
            if isinstance(entry, CardIssued)
        ]

    async def start(self, *names: str) -> None:
        for name in names:
            self.nodes[name] = SimulatedNode(name, self)
            await self._connect(name)

    async def _connect(self, name: str) -> None:
        node, scheme = self.nodes[name], Scheme(self)
        near = End(self.network, f"scheme-{name}", scheme)
        connection = Connection(node.endpoint)
        far = End(self.network, name, connection)
        near.other, far.other = far, near
        scheme.connection_made(near)
        connection.connection_made(far)
        self.lines[name] = scheme

    async def until_settled(self) -> None:
        """Until every shard is owned and open, by a node that lives."""
        await until(self.is_settled)

    def is_settled(self) -> bool:
        living = [node for name, node in self.nodes.items() if self.lives(name)]
        opened = [shard for node in living for shard in node.node.opened]
        return sorted(opened) == list(range(SHARD_COUNT)) and all(
            node.node.owner_of(shard) is not None
            for node in living
            for shard in range(SHARD_COUNT)
        )

    def lives(self, name: str) -> bool:
        return self.network.is_alive(name) and not self.nodes[name].task.done()

    # -- what befalls them

    def vanish(self, name: str) -> None:
        """Its process is killed: nobody hears of it, but for its connections' ends."""
        self.store.frozen.add(name)
        self.registry.unreachable.add(name)
        self.network.remove(name)

    def cut_off(self, name: str) -> None:
        """It lives, and reaches neither etcd nor Cassandra nor the others."""
        self.store.frozen.add(name)
        self.registry.unreachable.add(name)
        for other in self.nodes:
            self.network.cut(name, other)

    def mend(self, name: str) -> None:
        self.store.frozen.discard(name)
        self.registry.unreachable.discard(name)
        for other in self.nodes:
            self.network.mend(name, other)

    async def leave(self, name: str) -> None:
        """Stopped as planned: its schemes are gone first."""
        node = self.nodes[name]
        node.node.stop()
        await node.task
        node.answering.close("stopped")
        self.network.listening.pop(name, None)

    # -- what schemes do

    def ask(self, name: str, pan: str, amount: int = 100, mti: str = "0100") -> int:
        stan = next(self._stans)
        self.asked[stan] = (mti, pan, amount, asyncio.get_running_loop().time())
        self._send(name, stan, mti)
        return stan

    def repeat(self, name: str, stan: int) -> None:
        self._send(name, stan, self.asked[stan][0][:3] + "1")

    def _send(self, name: str, stan: int, mti: str) -> None:
        _, pan, amount, _ = self.asked[stan]
        message = fields(mti, stan, amount=amount)
        message[2] = pan
        transport = self.lines[name].transport
        if transport is not None:
            transport.write(FRAMING.encode(CODEC.encode(message)))

    # -- what became of it

    def entries(self) -> dict[int, list[Transaction]]:
        """Those of each request, by field 11, in the journal as it counts now."""
        found: dict[int, list[Transaction]] = defaultdict(list)
        for records in self.store.entries.values():
            for record in records:
                for entry in decode_entries(record.payload, record.first_sequence):
                    if isinstance(entry, Transaction):
                        found[int(entry.stan)].append(entry)
        return found

    async def stop(self) -> None:
        for node in self.nodes.values():
            node.task.cancel()
        await asyncio.gather(
            *(node.task for node in self.nodes.values()), return_exceptions=True
        )
        for node in self.nodes.values():
            await node.forwarder.close()
            for line in node.forwarder.lines.values():
                await line.close()
