"""Shards over a journal in memory: the test says when a commit is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from switch.journal.memory import MemoryJournal, MemorySnapshots
from switch.journal.port import ShardRecord
from switch.ledger import Decision, Limits, Request, State, shard_of_account
from switch.shard._group import CommitGroup, Shard
from switch.shard.recovery import recover
from tests.unit.link.in_memory import CARDS, KEYS, NOW, PANS, STERLING, opening

SHARD_COUNT = 4
AUTHORISATION, FINANCIAL, AUTHORISATION_ADVICE, FINANCIAL_ADVICE, REVERSAL = range(1, 6)
MTIS = {1: "0100", 2: "0200", 3: "0120", 4: "0220", 5: "0400"}


def new_journal(**faults: Any) -> MemoryJournal:
    """One with the accounts and cards of `in_memory` in its first commit."""
    journal = MemoryJournal(SHARD_COUNT, **faults)
    payloads: dict[int, list[bytes]] = defaultdict(list)
    for shard, entry in opening(SHARD_COUNT):
        payloads[shard].append(entry.encode())
    journal.append(
        NOW,
        [
            ShardRecord(shard, 1, len(packed), b"".join(packed))
            for shard, packed in payloads.items()
        ],
    )
    return journal


def request(
    kind: int = AUTHORISATION, stan: int = 1, *, card: str = "active", **values: Any
) -> Request:
    values.setdefault("amount", 100)
    return Request(
        kind,
        pan_hash=KEYS.pan_hash(PANS[card].encode()),
        mti=MTIS[kind],
        stan=f"{stan:06d}",
        currency=STERLING,
        **values,
    )


def view(state: State) -> tuple[object, ...]:
    """All of a state that can be told from outside."""
    return (
        state.shard,
        state.sequence,
        state.last_at,
        list(state.accounts()),
        sorted(state.card_hashes()),
        sorted((hold.sequence, hold.remaining) for hold in state.holds()),
        state.transaction_count,
    )


class Node:
    """One run of a process over what its journal and its snapshots hold."""

    def __init__(
        self,
        journal: MemoryJournal,
        snapshots: MemorySnapshots | None = None,
        *,
        limits: Limits | None = None,
        submit: Callable[[int, list[ShardRecord]], object] | None = None,
        schedule: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        self.journal = journal
        self.snapshots = MemorySnapshots(journal) if snapshots is None else snapshots
        self.recovered = recover(journal, self.snapshots, limits or Limits())
        self.states = self.recovered.states
        self.ready: list[Callable[[], object]] = []
        self.submitted: list[tuple[int, list[ShardRecord]]] = []
        self.released: list[int] = []
        self.now = NOW
        self.group = CommitGroup(
            self.states,
            submit=submit or (lambda at, records: self.submitted.append((at, records))),
            schedule=schedule or self.ready.append,
            released=self.released.append,
            clock=lambda: self.now,
            head=journal.head,
        )

    def held(self, card: str = "active") -> int:
        view = self.shard(card).state.account(CARDS[card][1])
        assert view is not None
        return view.held

    def shard(self, card: str = "active") -> Shard:
        account = CARDS[card][1] if card in CARDS else "main"
        return self.group.shards[shard_of_account(account.encode(), SHARD_COUNT)]

    def ask(
        self,
        kind: int = AUTHORISATION,
        stan: int = 1,
        card: str = "active",
        **more: Any,
    ) -> Decision:
        asked = request(kind, stan, card=card, **more)
        decision = self.shard(card).decide(asked, self.now)
        self.group.flush()
        return decision

    def turn(self) -> None:
        while self.ready:
            self.ready.pop(0)()

    def write(self) -> None:
        """The commit in flight gets durable."""
        at, records = self.submitted.pop(0)
        self.group.committed(self.journal.append(at, records))

    def commit(self) -> None:
        """All that is pending gets durable."""
        self.turn()
        while self.submitted:
            self.write()
            self.turn()

    def restart(self, limits: Limits | None = None) -> Node:
        return Node(self.journal.reopen(), self.snapshots, limits=limits)
