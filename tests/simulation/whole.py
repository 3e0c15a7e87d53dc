"""One seed's life of an embedded switch: process after process over one directory.

Whatever can happen happens between any two steps, and a crash between any two
operations on the disk: requests of two schemes, repeats, operators, snapshots, time
that passes or is set, peers that go, commits that are late, errors of the disk, killed
processes and power losses. The model is told of everything; what it says is held
against every answer when it leaves, and against accounts, cards and holds.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import apsw

from switch import audit
from switch.admin.types import Adjustment
from switch.config import LedgerSettings
from switch.journal.errors import JournalError
from switch.keys.sealed_file import load
from tests.simulation.embedded import SHARD_COUNT, config_of
from tests.simulation.model import Limits, Model
from tests.simulation.power_loss import Disk, History, leave, simulated
from tests.simulation.process import Crashed, Process, Stopped
from tests.simulation.traffic import Sent, Traffic
from tests.unit.link.in_memory import NOW

PROCESSES = 8
CRASHES = ("all", "all", "synced", "random", "random")  # as power_loss.py has them

Step = tuple[str, tuple[Any, ...]]  # a method of the model, and its arguments


class Faults:
    """What befalls the disk: after so many operations a crash, or an error."""

    def __init__(self, disk: Disk, chance: random.Random, left: Path) -> None:
        self.disk = disk
        self.chance = chance
        self.left = left  # where a crash leaves what it leaves
        self.is_dead = False
        self.has_failed = False
        self.countdown = 0
        self.what = ""
        self.kinds: tuple[str, ...] = ()
        disk.fault = self

    def arm(self, what: str, operations_max: int) -> None:
        """A sync is what matters most, and one operation in twenty."""
        self.what = what
        self.kinds = self.chance.choice([(), ("sync",)])
        if self.kinds:
            operations_max = max(operations_max // 20, 1)
        self.countdown = self.chance.randint(1, operations_max)

    def crash(self) -> None:
        leave(self.disk, self.left, self.chance.choice(CRASHES), self.chance)
        self.is_dead = True

    def __call__(self, kind: str, name: str) -> None:
        if self.is_dead:
            raise apsw.IOError("no process does this any more")
        if self.countdown == 0 or (self.kinds and kind not in self.kinds):
            return
        self.countdown -= 1
        if self.countdown:
            return
        if self.what == "crash":
            self.crash()
            raise apsw.IOError("the process is gone")
        self.has_failed = True
        if self.what == "errors":
            self.countdown = 1  # and so on
        if kind == "write" and self.chance.random() < 0.5:
            raise apsw.FullError("scripted")
        raise apsw.IOError("scripted")


class World:
    """What outlives a process: the directory, the time, what the model was told, and
    what peers were told."""

    def __init__(self, seed: int, path: Path) -> None:
        self.chance = random.Random(seed)
        self.path = path
        self.directory = path / "0"
        self.story: list[str] = []
        hours = self.chance.choice([(1, 2), (2, 1)])
        self.ledger = LedgerSettings(
            duplicate_window_s=hours[0] * 3600, hold_lifetime_s=hours[1] * 3600
        )
        self.limits = Limits(
            hours[0] * 3_600_000, hours[1] * 3_600_000, self.chance.choice([16, 64])
        )
        self.now = NOW
        self.traffic = Traffic(self.chance, self.is_remembered)
        self.told: dict[tuple[object, ...], tuple[int, Sent, object]] = {}
        self.approval_codes: set[str] = set()
        # Adjustments by their key: what was asked, and what was answered.
        self.adjustments: dict[str, tuple[str, int]] = {}
        self.adjusted: dict[str, Adjustment] = {}
        # steps of the commits that are durable, of the one in flight, of the next one
        self.durable: list[Step] = []
        self.in_flight: list[Step] = []
        self.gathering: list[Step] = []
        self.unanswered: list[Sent] = []  # asked of the process before
        self.history: History | None = None  # of the directory, since a crash made it
        self.is_in_doubt = False  # its disk failed
        self.head = 0  # the last commit that was said to be durable
        self.appended = 0  # the last one whose append returned
        self.keys = load(config_of(self.directory).keys.pan_key_file)
        self.model = self.model_of([])

    def model_of(self, steps: list[Step]) -> Model:
        model = Model(SHARD_COUNT, self.limits, self.home)
        for name, arguments in steps:
            getattr(model, name)(*arguments)
        return model

    def home(self, pan: str) -> int:
        """Of a card number that is no card: docs/ledger.md, "Shards"."""
        pan_hash = self.keys.pan_hash(pan.encode())
        return int.from_bytes(pan_hash[:8], "little") % SHARD_COUNT

    def is_remembered(self, sent: Sent) -> bool:
        return self.model.find(self.now, sent.scheme, sent.fields) is not None

    def settle_doubt(self, head: int) -> None:
        """Whether the commit in flight is there is known now, and for ever."""
        possible = {self.head, self.head + bool(self.in_flight)}
        assert head in possible, f"head {head}, expected one of {possible}"
        assert head >= self.appended, f"commit {self.appended} was written"
        self.unanswered = [
            Sent(*arguments[1:3])
            for name, arguments in self.in_flight + self.gathering
            if name == "ask"
        ]
        if head > self.head:
            self.durable += self.in_flight
        self.in_flight, self.gathering = [], []
        self.head = self.appended = head
        self.model = self.model_of(self.durable)

    def tell(self, text: str) -> None:
        self.story.append(text)

    def run(self) -> None:
        for number in range(1, PROCESSES + 1):
            self.live(self.path / str(number), number == PROCESSES)
        verdict = audit.verify(self.directory)
        assert verdict.ok, verdict.problems

    def live(self, left: Path, is_last: bool) -> None:
        with simulated(
            self.directory, outside=("released",), history=self.history
        ) as disk:
            faults = Faults(disk, self.chance, left)
            if not is_last and self.chance.random() < 0.3:
                faults.arm(self.chance.choice(["crash", "error"]), 60)
            try:
                asyncio.run(Process(self, disk, faults).live(is_last))
            except (Crashed, Stopped) as end:
                self.tell(f"{type(end).__name__}")
                self.is_in_doubt = isinstance(end, Stopped)
            except (JournalError, apsw.Error) as error:
                # The latter when a file is closed: a VFS in C would not be heard there.
                if not (faults.has_failed or faults.is_dead):
                    raise
                self.tell(f"did not open: {error}")
            finally:
                disk.fault = None
        self.history = disk.history
        if faults.is_dead:
            self.directory, self.history = left, None
