"""Invariant: whatever write a power loss cuts off, the switch that is opened on what
it left answers everything that was answered before with the same fields 39 and 38 and
decides none of it again, and `switch journal verify` finds nothing.

That is for the switch as `open_store` composes it. Opened with less than
`synchronous = FULL`, or answering before it has written, the same run must lose
something: that is the test of this test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from iso8583 import Message
from switch import audit
from switch.embedded import Store, open_store
from switch.journal import sqlite
from switch.journal.errors import JournalError
from switch.ledger import State, dump
from tests.simulation.embedded import (
    DEADLINES_MS,
    EmbeddedSwitch,
    answer_of,
    config_of,
    synchronous,
)
from tests.simulation.power_loss import Crash, Disk, crash_points, record
from tests.simulation.seeds import seeds
from tests.simulation.traffic import Sent, Traffic, identity
from tests.unit.link.in_memory import CARDS, NOW, Line

RUNS = 2
BURSTS = 14

# What was asked and what was answered; None: the bank that the first run opens.
Answered = tuple[Sent, tuple[str, str | None]] | None


@pytest.fixture(autouse=True)
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a short run copies the log into the file several times.
    monkeypatch.setattr(sqlite, "LOG_PAGES_MAX", 12)


class Bursts:
    """One process: bursts of messages, some of them while a commit is written."""

    def __init__(
        self,
        disk: Disk,
        store: Store,
        traffic: Traffic,
        make: Callable[..., EmbeddedSwitch],
    ) -> None:
        self.disk = disk
        self.traffic = traffic
        self.chance = traffic.chance
        self.asked = {sent.identity: sent for sent in traffic.sent}
        self.switch = make(store, heard=self.heard, now=NOW)
        self.lines = [
            self.switch.open_line(scheme) for scheme in range(len(DEADLINES_MS))
        ]

    def heard(self, line: Line, reply: Message) -> None:
        self.disk.answered((self.asked[identity(reply)], answer_of(reply)))

    def run(self) -> None:
        if self.switch.group.head == 0:
            self.switch.open_bank(lambda: self.disk.answered(None))
            self.switch.settle()
        for number in range(BURSTS):
            self.send()
            self.switch.turn()
            if self.switch.in_flight is None:
                continue
            self.send()
            # Now and then so late that approvals are taken back.
            self.switch.now += self.chance.choice([1, 1, 1, 1, 1, 1_500, 6_000])
            self.switch.make_durable()
            if number % 5 == 4:
                self.switch.settle()
                self.take_snapshots()
        self.switch.settle()

    def send(self) -> None:
        for _ in range(self.chance.randint(1, 4)):
            sent = self.traffic.next()
            self.asked[sent.identity] = sent
            self.lines[sent.scheme].send(sent.fields)

    def take_snapshots(self) -> None:
        head = self.switch.group.head
        for state in self.switch.states:
            self.switch.store.snapshots.write(
                state.shard, state.sequence, head, dump(state)
            )
        self.switch.store.snapshots.mark_complete(head)


def script(
    seed: int, make: Callable[..., EmbeddedSwitch] = EmbeddedSwitch
) -> Callable[[Disk], None]:
    def run(disk: Disk) -> None:
        traffic = Traffic(random.Random(seed))
        for _ in range(RUNS):
            with open_store(config_of(disk.directory), vfs=disk.vfs) as store:
                Bursts(disk, store, traffic, make).run()

    return run


def check(crash: Crash) -> None:
    """Opens what the crash left, and asks for every answer again. (No second crash
    follows here, so the real disk need not be waited for.)"""
    answered: list[Answered] = list(crash.answered)  # type: ignore[arg-type]
    with synchronous("OFF"):
        with open_store(config_of(crash.directory)) as store:
            if None in answered:
                assert sum(map(card_count, store.recovered.states)) == len(CARDS)
            told = {one[0].identity: one for one in answered if one is not None}
            ask_again(EmbeddedSwitch(store, now=NOW + 60_000), told, crash)
        verdict = audit.verify(crash.directory)
        assert verdict.ok, f"{crash}: {verdict.problems}"


def ask_again(
    switch: EmbeddedSwitch,
    told: dict[tuple[str, ...], tuple[Sent, tuple[str, str | None]]],
    crash: Crash,
) -> None:
    lines = [switch.open_line(scheme) for scheme in range(len(DEADLINES_MS))]
    for sent, _ in told.values():
        lines[sent.scheme].send(sent.repeat().fields)
    switch.settle()
    replies = {identity(reply): reply for line in lines for reply in line.replies}
    assert replies.keys() == told.keys(), str(crash)
    for sent, answer in told.values():
        assert answer_of(replies[sent.identity]) == answer, f"{crash}: {sent.fields}"
    # A decline that was decided anew may look like the first one.
    assert switch.group.commits == 0, str(crash)


def card_count(state: State) -> int:
    return state.card_count


def crashes(
    seed: int, path: Path, make: Callable[..., EmbeddedSwitch] = EmbeddedSwitch
) -> Iterator[Crash]:
    """Every fourth one that there could be: each takes a few milliseconds."""
    history = record(script(seed, make), path / "run", outside=("released",))
    return crash_points(history, path / "crash", seed=seed, every=4)


def loses(crashes: Iterable[Crash]) -> bool:
    """Whether after one of them an answer is gone, or nothing opens any more."""
    for crash in crashes:
        try:
            check(crash)
        except (AssertionError, JournalError):
            return True
    return False


@pytest.mark.parametrize("seed", seeds(2))
def test_the_switch_loses_nothing_that_it_answered(seed: int, tmp_path: Path):
    count = 0
    for crash in crashes(seed, tmp_path):
        check(crash)
        count += 1
    assert count > 200


@pytest.mark.parametrize("mode", ["OFF", "NORMAL"])
def test_opened_with_fewer_syncs_it_loses_answers(mode: str, tmp_path: Path):
    with synchronous(mode):
        assert loses(crashes(1, tmp_path))


class TooEarly(EmbeddedSwitch):
    """Answers first, and writes then."""

    def make_durable(self) -> None:
        at, records, self.in_flight = self.at, self.in_flight, None
        assert records is not None
        self.hear_of(self.store.journal.head + 1)
        self.store.journal.append(at, records)


def test_answering_before_it_has_written_it_loses_answers(tmp_path: Path):
    assert loses(crashes(1, tmp_path, TooEarly))


def test_a_seed_repeats_the_run(tmp_path: Path):
    def operations(name: str) -> list[str]:
        history = record(script(7), tmp_path / name, outside=("released",))
        return [str(operation) for operation in history.operations]

    assert operations("first") == operations("second")
