"""Whether a journal is whole: everything in it read, every figure derived again.

Rule 1: it trusts nothing that was computed before. What accounts and holds are is
        summed up here from the entries, by other code than the ledger's.
Rule 2: what it is compared with is what the switch would answer from: the states that
        a replay of the whole journal gives, and those of the snapshots.
Rule 3: it changes nothing but the lock, which keeps a daemon away meanwhile.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from switch.journal.directory import DataDirectory
from switch.journal.errors import (
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalMismatch,
    JournalMissing,
    JournalReadOnly,
    JournalVersion,
)
from switch.journal.port import Commit, Journal, ShardRecord
from switch.journal.snapshots import SqliteSnapshots
from switch.journal.sqlite import SqliteJournal
from switch.ledger import (
    AccountOpened,
    AccountView,
    CardIssued,
    CardView,
    Change,
    Entry,
    EntryError,
    Limits,
    State,
    StateError,
    Transaction,
    apply_payload,
    decode_entries,
    shard_of_account,
)
from switch.observe.log import mask_digits
from switch.ownership.process import ProcessLock
from switch.publish.events import events_of
from switch.shard.recovery import recover

# Above it the rest is counted: the first ones say what has happened.
PROBLEMS_MAX = 1000
# Of the remembered transactions nothing is compared, so none needs to be forgotten.
TRANSACTIONS_MAX = 1 << 40

# These say that there is no journal that can be looked at, not that it is damaged.
_NO_JOURNAL = (
    *(JournalMissing, JournalMismatch, JournalReadOnly, JournalBusy, JournalVersion),
)

Advance = Callable[[float, str], None]


class Verdict(msgspec.Struct, frozen=True):
    ok: bool
    entries: int
    accounts: int
    problems: tuple[str, ...]
    # Entries that are not there any more: what they came to was taken from checkpoints.
    taken_over: int = 0


def verify(
    directory: str | os.PathLike[str], advance: Advance = lambda done, words: None
) -> Verdict:
    """Reads all of the journal. Raises JournalError if there is none to be read, and
    OwnershipError if a daemon runs on it; damage is in the verdict."""
    data = DataDirectory.open(directory, create=False)
    lock = ProcessLock(data.lock)
    lock.acquire()
    audit = Audit()
    try:
        journal = SqliteJournal.open(data.path, read_only=True)
        try:
            audit.read(journal, advance)
            if data.snapshots.exists():
                audit.compare_snapshots(data, journal)
        except JournalError as error:
            audit.report(str(error))
        finally:
            journal.close()
    except _NO_JOURNAL:
        raise
    except JournalError as error:
        audit.report(str(error))
    finally:
        lock.release()
    return audit.verdict()


def dump(directory: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Every entry, oldest first, as it is published. Raises JournalError."""
    data = DataDirectory.open(directory, create=False)
    journal = SqliteJournal.open(data.path, read_only=True)
    try:
        for commit in journal.read(0):
            for event in events_of(commit):
                yield msgspec.to_builtins(event)
    except EntryError as error:
        raise JournalDamaged(str(error), path=journal.path) from error
    finally:
        journal.close()


class _Account(msgspec.Struct, gc=False):
    shard: int
    balance: int
    credit_limit: int
    held: int = 0
    status: int = 0


class _Hold(msgspec.Struct, gc=False):
    account: str
    remaining: int


# Kinds that leave the balance alone, and those that post their amount.
_NO_MONEY = frozenset({"declined", "advice_recorded", "reversal_remembered", "held"})
_POSTINGS = frozenset({"posted", "advised_posting"})


class Audit:
    def __init__(self) -> None:
        self.entries = 0
        self._problems: list[str] = []
        self._problem_count = 0
        self._accounts: dict[str, _Account] = {}
        # by shard, then by the sequence of the entry that opened it
        self._holds: defaultdict[int, dict[int, _Hold]] = defaultdict(dict)
        # by shard: how many, and the sum of a hash of each
        self._cards: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        # Shards that cannot be replayed: one fault of theirs is told, not all that
        # follow from it.
        self._broken: set[int] = set()
        self._shard_count = 0
        self._replayed: list[State] = []
        self._begun_behind: defaultdict[int, int] = defaultdict(int)
        self.limits = Limits(transactions_max=TRANSACTIONS_MAX)

    def report(self, problem: str) -> None:
        self._problem_count += 1
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(mask_digits(problem))

    def verdict(self) -> Verdict:
        problems = list(self._problems)
        if self._problem_count > len(problems):
            problems.append(f"and {self._problem_count - len(problems):,} more")
        return Verdict(
            not problems,
            self.entries,
            len(self._accounts),
            tuple(problems),
            sum(self._begun_behind.values()),
        )

    def read(self, journal: Journal, advance: Advance) -> None:
        self.begin(journal.shard_count)
        head = journal.head
        for commit in journal.read(0):
            self.take(commit)
            advance(commit.number / max(head, 1), f"{self.entries:,} entries")
        self.compare_replay()

    def begin(self, shard_count: int) -> None:
        self._shard_count = shard_count
        self._replayed = [State(shard, self.limits) for shard in range(shard_count)]

    def begin_behind(self, state: State) -> None:
        """The shard's entries up to here are not there any more: what they came to is
        taken as it is. `state` is replayed from here on."""
        shard = state.shard
        self._begun_behind[shard] = state.sequence
        self._replayed[shard] = state
        names = []
        for view in state.accounts():
            names.append(view.account)
            self._accounts[view.account] = _Account(
                *(shard, view.balance, view.credit_limit, view.held, view.status)
            )
        for hold in state.holds():
            name = names[hold.account_index]
            self._holds[shard][hold.sequence] = _Hold(name, hold.remaining)
        self._cards[shard] = _cards_of(state)

    def compare_replay(self) -> None:
        self.compare("replay", self._replayed)

    def compare_snapshots(self, data: DataDirectory, journal: Journal) -> None:
        """The states that a start would come to: newest snapshots, then replay."""
        snapshots = SqliteSnapshots.open(data.path, journal=journal, read_only=True)
        try:
            recovered = recover(journal, snapshots, self.limits)
            for problem in snapshots.problems:
                self.report(str(problem))
        finally:
            snapshots.close()
        self.compare("snapshots and replay", recovered.states)

    # -- adding up

    def take(self, commit: Commit) -> None:
        """The next one. Those of different shards may come in any order."""
        for record in commit.records:
            place = f"commit {commit.number}, shard {record.shard}"
            try:
                entries = decode_entries(record.payload, record.first_sequence)
            except EntryError as error:
                self.report(f"{place}: {error}")
                self._broken.add(record.shard)
                continue
            if len(entries) != record.count:
                self.report(
                    f"{place}: expected {record.count} entries, got {len(entries)}"
                )
            for entry in entries:
                if entry.sequence > self._begun_behind[record.shard]:
                    self.entries += 1
                    self._add(record.shard, entry)
            self._replay(self._replayed[record.shard], record, place)

    def _replay(self, state: State, record: ShardRecord, place: str) -> None:
        if state.shard in self._broken:
            return
        try:
            apply_payload(state, record.payload, record.first_sequence)
        except StateError as error:
            self.report(f"{place}: {error}")
            self._broken.add(state.shard)

    def _add(self, shard: int, entry: Entry) -> None:
        if isinstance(entry, AccountOpened):
            self._open(shard, entry)
        elif isinstance(entry, CardIssued):
            count, total = self._cards[shard]
            self._cards[shard] = count + 1, total + _card_hash(entry.pan_hash, entry)
        elif isinstance(entry, Change):
            self._change(shard, entry)
        elif isinstance(entry, Transaction) and entry.account:
            self._add_transaction(shard, entry)

    def _open(self, shard: int, entry: AccountOpened) -> None:
        home = shard_of_account(entry.account.encode(), self._shard_count)
        if shard != home:
            self.report(
                f"entry {shard}-{entry.sequence}: account {entry.account}: expected in "
                f"shard {home}"
            )
        if entry.account not in self._accounts:
            self._accounts[entry.account] = _Account(
                shard, entry.balance, entry.credit_limit
            )

    def _change(self, shard: int, entry: Change) -> None:
        where = f"entry {shard}-{entry.sequence}"
        account = self._accounts.get(entry.account)
        if account is None:
            self.report(f"{where}: account {entry.account} was never opened")
        elif entry.name == "limit_changed":
            self._compare_previous(where, entry, account.credit_limit)
            account.credit_limit = entry.value
        elif entry.name == "account_status_changed":
            self._compare_previous(where, entry, account.status)
            account.status = entry.value
        elif entry.name == "adjusted":
            self._compare_previous(where, entry, account.balance)
            account.balance += entry.balance_change
            if entry.value != account.balance:
                self.report(
                    f"{where}: adjusted: expected {account.balance}, the sum of the "
                    f"account's entries, got {entry.value}"
                )
        else:
            # What it was before is held against the cards at the end.
            count, total = self._cards[shard]
            total -= _value_hash(entry.pan_hash, entry.name, entry.previous)
            total += _value_hash(entry.pan_hash, entry.name, entry.value)
            self._cards[shard] = count, total

    def _compare_previous(self, where: str, entry: Change, expected: int) -> None:
        if entry.previous != expected:
            self.report(
                f"{where}: {entry.name}: expected {expected} before it, got "
                f"{entry.previous}"
            )

    def _add_transaction(self, shard: int, entry: Transaction) -> None:
        where = f"entry {shard}-{entry.sequence}"
        account = self._accounts.get(entry.account)
        if account is None:
            self.report(f"{where}: account {entry.account} was never opened")
            return
        account.balance += entry.balance_change
        change = entry.held_change
        account.held += change
        if change > 0:
            self._holds[shard][entry.sequence] = _Hold(entry.account, change)
        elif change < 0:
            self._release(shard, entry, where)
        self._check_amount(entry, where)
        available = account.balance + account.credit_limit - account.held
        takes = entry.balance_change < 0 or change > 0
        if entry.approved and takes and available < 0:
            self.report(f"{where}: an approval left {available} available")

    def _check_amount(self, entry: Transaction, where: str) -> None:
        """No entry moves more on the balance than its kind and its amount say."""
        moved, amount = entry.balance_change, entry.amount
        if entry.name in _NO_MONEY:
            amount = 0
        elif entry.name in _POSTINGS:
            amount = amount if entry.credit else -amount
        elif moved:
            amount = -amount if entry.credit else amount  # goes back
        else:
            return
        if moved != amount:
            self.report(f"{where}: expected {entry.name} to post {amount}, got {moved}")

    def _release(self, shard: int, entry: Transaction, where: str) -> None:
        original = entry.original_sequence
        hold = self._holds[shard].get(original)
        if hold is None or hold.account != entry.account:
            self.report(
                f"{where}: releases a hold that entry {shard}-{original} is not"
            )
            return
        hold.remaining += entry.held_change
        if hold.remaining < 0:
            self.report(f"{where}: releases {-hold.remaining} more than was held")
        if hold.remaining <= 0:
            del self._holds[shard][original]

    # -- comparing

    def compare(self, what: str, states: list[State]) -> None:
        seen = 0
        for state in states:
            if state.shard in self._broken:
                continue
            names = []
            for view in state.accounts():
                seen += 1
                names.append(view.account)
                self._compare_account(what, view)
            self._compare_holds(what, state, names)
            self._compare_cards(what, state)
        expected = sum(
            account.shard not in self._broken for account in self._accounts.values()
        )
        if seen != expected:
            self.report(f"{what}: expected {expected} accounts, got {seen}")

    def _compare_account(self, what: str, view: AccountView) -> None:
        summed = self._accounts.get(view.account)
        if summed is None:
            self.report(f"{what}: account {view.account} has no entry")
            return
        for name in ("balance", "held", "credit_limit", "status"):
            expected, got = getattr(summed, name), getattr(view, name)
            if expected != got:
                self.report(
                    f"{what}: account {view.account}: {name}: expected {expected}, "
                    f"the sum of its entries, got {got}"
                )

    def _compare_cards(self, what: str, state: State) -> None:
        expected, got = self._cards[state.shard], _cards_of(state)
        if expected != got:
            self.report(
                f"{what}: shard {state.shard}: expected the {expected[0]} cards that "
                f"were issued, got {got[0]}, not the same"
            )

    def _compare_holds(self, what: str, state: State, names: list[str]) -> None:
        expected = self._holds[state.shard].copy()
        for view in state.holds():
            hold = expected.pop(view.sequence, None)
            summed = None if hold is None else (hold.account, hold.remaining)
            got = names[view.account_index], view.remaining
            if summed != got:
                self.report(
                    f"{what}: hold {state.shard}-{view.sequence}: expected {summed}, "
                    f"got {got}"
                )
        for sequence, hold in expected.items():
            self.report(
                f"{what}: hold {state.shard}-{sequence}: expected {hold.remaining} "
                f"on account {hold.account}, got none"
            )


def _cards_of(state: State) -> tuple[int, int]:
    count, total = 0, 0
    for pan_hash in state.card_hashes():
        card = state.card(pan_hash)
        assert card is not None
        count, total = count + 1, total + _card_hash(pan_hash, card)
    return count, total


def _card_hash(pan_hash: bytes, card: CardIssued | CardView) -> int:
    """The same for the same card, in this process; what can be changed apart."""
    return (
        hash((pan_hash, card.account, card.last_four, card.sealed_pan))
        + _value_hash(pan_hash, "card_status_changed", card.status)
        + _value_hash(pan_hash, "card_expiry_changed", card.expiry)
    )


def _value_hash(pan_hash: bytes, kind: str, value: int) -> int:
    return hash((pan_hash, kind, value))
