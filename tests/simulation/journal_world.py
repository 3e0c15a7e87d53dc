"""One seed's life of a few nodes over three replicas of Cassandra.

There is no etcd: any node may take any shard from anybody at any time, also from one
that lives and answers. Nodes hang for longer than anybody waits, and die between any
two awaits; their shards move as planned, are checkpointed, published, and their logs
are dropped. At the end, one more node takes everything, and an auditor compares what
was answered and published with what the replicas hold.
"""

from __future__ import annotations

import asyncio
import random

from switch.journal.cassandra.chains import Moved
from tests.simulation.cassandra import FAIR, Cassandra, Weather
from tests.simulation.journal_auditor import Auditor
from tests.simulation.journal_node import EXPECTED, SHARD_COUNT, Node
from tests.simulation.scripted_loop import ScriptedLoop

NODE_COUNT = 3
EVENT_COUNT = 70
WEATHERS = [
    Weather(),
    Weather(lost=0.05, slow=0.1, very_slow=0.04),
    Weather(lost=0.01, slow=0.25, very_slow=0.06),
    FAIR,
]
# What happens next, and how often.
EVENTS = {"ask": 80, "take": 3, "duel": 3, "give": 4, "hang": 4, "die": 2, "cut": 4,
          "checkpoint": 5, "publish": 6, "tidy": 2, "retire": 2}  # fmt: skip


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        # Moved: of one reading of several at once, which all are begun again.
        self.loop = ScriptedLoop((*EXPECTED, Moved))  # type: ignore[abstract]
        weather = self.chance.choice(WEATHERS)
        self.cassandra = Cassandra(self.loop, seed, weather)
        self.auditor = Auditor()
        self.story: list[str] = []
        self.nodes: list[Node] = []
        self.node_count = 0
        self.asked: list[tuple[int, int, int]] = []
        self.is_ending = False
        self.revision = 0

    def next_revision(self) -> int:
        """Of a lock's key in etcd, had there been one: it only grows."""
        self.revision += self.chance.randint(1, 3)
        return self.revision

    def reads_ahead(self) -> bool:
        """Whether who takes shards begins to read before it may have them."""
        return self.chance.random() < 0.7

    def wait_for_keys(self) -> float:
        return self.chance.choice([0.0, 0.002, 0.02, 0.1])

    def tell(self, text: str) -> None:
        self.story.append(f"{self.loop.time():8.4f} {text}")

    def run(self) -> None:
        self.loop.run(self._live())

    # -- nodes

    def add(self) -> Node:
        self.node_count += 1
        node = Node(self, f"n{self.node_count}")
        self.nodes.append(node)
        return node

    def replace(self, node: Node) -> None:
        """It is gone, or begins again under a new name."""
        if node in self.nodes and not self.is_ending:
            self.nodes.remove(node)
            self.loop.in_the_world(self.chance.uniform(0.001, 0.1), self._add_if_living)

    def _add_if_living(self) -> None:
        if not self.is_ending:
            self.add()

    def hand_over(self, shard: int) -> None:
        if self.nodes:
            node = self.chance.choice(self.nodes)
            node.process.start(node.take([shard]))

    # -- events

    async def _live(self) -> None:
        for _ in range(NODE_COUNT):
            self.add()
        await asyncio.sleep(0.02)
        self._take(list(range(SHARD_COUNT)))
        await asyncio.sleep(0.05)
        for _ in range(EVENT_COUNT):
            await asyncio.sleep(self.chance.choice([0.0, 0.001, 0.005, 0.02, 0.1]))
            if self.nodes:
                (kind,) = self.chance.choices(list(EVENTS), list(EVENTS.values()))
                self._happen(kind)
        await asyncio.sleep(0.2)
        await self._end()

    def _happen(self, kind: str) -> None:
        chance = self.chance
        node = chance.choice(self.nodes)
        shard = chance.randrange(SHARD_COUNT)
        if kind == "ask":
            self._ask(shard)
        elif kind == "take":
            self._take(chance.choice([[0], [1], [0, 1]]))
        elif kind == "give":
            for node in self._having(shard):
                node.process.start(node.give_up(shard))
        elif kind == "hang":
            seconds = chance.choice([0.01, 0.1, 0.5])
            self._at_some_step(node, lambda: node.process.hang(seconds))
        elif kind == "die":
            self._at_some_step(node, lambda: self._die(node))
        elif kind == "cut":
            self._cut(chance.choice(self._having(shard) or [node]))
        elif kind == "duel":
            self._duel(shard)
        elif kind == "retire":
            self.loop.create_task(self._retire())
        elif kind == "tidy":
            node.process.start(node.tidy())
        else:
            for node in self._having(shard):
                node.process.start(getattr(node, kind)(shard))

    def _having(self, shard: int) -> list[Node]:
        """All that believe it is theirs."""
        return [node for node in self.nodes if shard in node.owned]

    def _at_some_step(self, node: Node, happens: object) -> None:
        step = node.process.steps + self.chance.randint(1, 40)
        node.process.at_step[step] = happens  # type: ignore[assignment]

    def _die(self, node: Node) -> None:
        self.tell(f"{node.name} dies")
        node.process.die()
        self.replace(node)

    def _cut(self, node: Node) -> None:
        """In the middle of its next write."""
        seconds = self.chance.choice([0.0, 0.05, 0.2, 0.8])
        if seconds:
            node.store.cut = lambda: node.process.hang(seconds)
        else:
            node.store.cut = lambda: self._die(node)

    def _duel(self, shard: int) -> None:
        """Two take it at once, while its owner may be cut, or one of them."""
        for owner in self._having(shard)[:1]:
            if self.chance.random() < 0.6:
                self._cut(owner)
                self._ask(shard)
        for node in self.chance.sample(self.nodes, min(2, len(self.nodes))):
            if self.chance.random() < 0.2:
                self._cut(node)
            delay = self.chance.choice([0.0, 0.002, 0.02])
            self.loop.in_the_world(
                delay, lambda node=node: node.process.start(node.take([shard]))
            )

    async def _retire(self) -> None:
        """Checkpoints and publishers go ahead, the log is dropped behind them, and then
        somebody has to read it; one of the writes is cut."""
        pause = self.chance.choice([0.005, 0.01, 0.03])
        cut = self.chance.choice(["publish", "checkpoint", "tidy"])
        for kind in ("publish", "checkpoint", "take", "tidy", "take"):
            for shard in range(SHARD_COUNT):
                node = self.chance.choice(self._having(shard) or self.nodes or [None])
                if node is None:
                    continue
                if kind == cut:
                    self._cut(node)
                if kind == "take":
                    if self.chance.random() < 0.3:
                        self._take([shard])
                elif kind == "tidy":
                    node.process.start(node.tidy())
                else:
                    node.process.start(getattr(node, kind)(shard))
            await asyncio.sleep(pause)

    def before_giving(self, node: Node, shard: int) -> bool:
        """Whether another shard's append, which only one replica gets, is under way
        when `shard` is given up."""
        others = node.owned - {shard}
        if others and self.chance.random() < 0.5:
            node.store.cut = lambda: None
            self._ask(*others)
            return True
        return False

    def _take(self, shards: list[int]) -> None:
        node = self.chance.choice(self.nodes)
        node.process.start(node.take(shards))

    def _ask(self, shard: int) -> None:
        """A new request, or one that was asked before; of one who has the shard, or of
        all that believe it."""
        if self.asked and self.chance.random() < 0.2:
            shard, number, amount = self.chance.choice(self.asked)
        else:
            number, amount = len(self.asked) + 1, self.chance.randint(1, 200)
            self.asked.append((shard, number, amount))
        having = self._having(shard)
        if not having and not any(node.is_busy for node in self.nodes):
            self._take([shard])
        if having and self.chance.random() < 0.7:
            having = [self.chance.choice(having)]
        for node in having:
            node.process.start(node.ask(shard, number, amount))

    # -- the end

    async def _end(self) -> None:
        self.is_ending = True
        self.cassandra.weather = FAIR
        for node in self.nodes:
            node.process.die()
        last = self.add()
        await asyncio.sleep(0.1)
        last.process.start(last.take(list(range(SHARD_COUNT))))
        await asyncio.sleep(3.0)
        assert last.owned == set(range(SHARD_COUNT)), "the last node took nothing"
        found = self.auditor.check(self.cassandra, SHARD_COUNT)
        for shard, (sequence, held) in found.items():
            state = last.group.shard(shard).state
            views = list(state.accounts())
            got = (state.sequence, sum(view.held for view in views))
            assert got == (sequence, held), f"shard {shard}: {(sequence, held)}, {got}"
