"""A small bank whose entries go to a journal: at least one of every kind."""

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

from switch.journal.port import Commit, Journal, ShardRecord
from switch.journal.sqlite import SqliteJournal
from switch.keys.memory import TestKeys
from switch.ledger import (
    AccountOpened,
    CardIssued,
    Decision,
    Entry,
    Limits,
    Request,
    State,
    adjust,
    apply,
    change_account_status,
    change_card_expiry,
    change_card_status,
    change_limit,
    decide,
    decide_expiries,
    decide_withdrawal,
    shard_of_account,
)

NOW = 1_764_000_000_123  # 2025-11-24T16:00:00.123Z
STERLING = 826
SHARD_COUNT = 4
# in shards 0 and 3
MAIN, JOINT = "main", "joint"
AUTHORISATION, FINANCIAL, AUTHORISATION_ADVICE, FINANCIAL_ADVICE, REVERSAL = range(1, 6)
MTI = {1: "0100", 2: "0200", 3: "0120", 4: "0220", 5: "0400"}
MAIN_PAN = "4000001234567899"
OTHER_PAN = "9999990000000010"
UNKNOWN_PAN = "9999990000000028"
SPARE_PAN = "9999990000000036"
PANS = (MAIN_PAN, OTHER_PAN, UNKNOWN_PAN, SPARE_PAN)
KEYS = TestKeys()
# PAN hash and sealed PAN of each: a seal is another one each time it is made
SEALED = dict(zip(PANS, KEYS.seal_many(pan.encode() for pan in PANS), strict=True))


class SmallBank:
    """The shards, and what they have decided since the last commit."""

    def __init__(self, shard_count: int = SHARD_COUNT) -> None:
        limits = Limits()
        self.states = [State(shard, limits) for shard in range(shard_count)]
        self.entries: list[tuple[int, Entry]] = []
        self._pending: dict[int, list[Entry]] = defaultdict(list)
        self._stans = itertools.count(1)

    def shard(self, account: str) -> State:
        return self.states[shard_of_account(account.encode(), len(self.states))]

    def open_account(self, name: str, balance: int = 10_000, limit: int = 0) -> None:
        state = self.shard(name)
        self.take(
            state,
            AccountOpened(
                name, STERLING, balance, limit, at=NOW, sequence=state.sequence + 1
            ),
        )

    def issue_card(self, pan: str, account: str) -> None:
        state = self.shard(account)
        pan_hash, sealed = SEALED[pan]
        self.take(
            state,
            CardIssued(
                pan_hash, sealed, account, state.account_index(account.encode()),
                4912, 0, pan[-4:], at=NOW, sequence=state.sequence + 1,
            ),
        )  # fmt: skip

    def ask(
        self, kind: int = AUTHORISATION, *, account: str = MAIN, pan: str = MAIN_PAN,
        now: int = NOW, **fields,
    ) -> Decision:  # fmt: skip
        """Decides in the shard of `account`, and applies, as the shard does."""
        state = self.shard(account)
        fields.setdefault("mti", MTI[kind])
        fields.setdefault("stan", f"{next(self._stans):06d}")
        fields.setdefault("last_four", pan[-4:])
        fields.setdefault("currency", STERLING)
        request = Request(kind, pan_hash=KEYS.pan_hash(pan.encode()), **fields)
        decision = decide(state, request, now)
        for entry in decision.entries:
            self.take(state, entry)
        return decision

    def end_holds(self, now: int) -> None:
        for state in self.states:
            for entry in decide_expiries(state, now):
                self.take(state, entry)

    def withdraw(self, decision: Decision, account: str, now: int = NOW) -> None:
        state = self.shard(account)
        assert decision.entry is not None
        entry = decide_withdrawal(state, decision.entry, now)
        assert entry is not None
        self.take(state, entry)

    def administer(self, account: str, pan: str, now: int = NOW) -> None:
        """A change of each kind; card and account can be used again when it is over."""
        state = self.shard(account)
        pan_hash = SEALED[pan][0]
        why: dict[str, Any] = {"operator": "maria", "reason": "asked for", "now": now}
        for change in (
            lambda: change_limit(state, account, 2_500, **why),
            lambda: adjust(state, account, -125, operation_key=bytes(32), **why),
            lambda: change_card_status(state, pan_hash, "lost", **why),
            lambda: change_card_expiry(state, pan_hash, 5_012, **why),
            lambda: change_card_status(state, pan_hash, "active", **why),
            lambda: change_account_status(state, account, "blocked", **why),
            lambda: change_account_status(state, account, "active", **why),
        ):
            entry = change()
            assert entry is not None
            self.take(state, entry)

    def block(self, account: str) -> None:
        state = self.shard(account)
        entry = change_account_status(
            state, account, "blocked", operator="maria", reason="asked for", now=NOW
        )
        assert entry is not None
        self.take(state, entry)

    def take(self, state: State, entry: Entry) -> None:
        apply(state, entry)
        self._pending[state.shard].append(entry)
        self.entries.append((state.shard, entry))

    def records(self) -> list[ShardRecord]:
        """What has gathered, as a commit takes it."""
        pending, self._pending = self._pending, defaultdict(list)
        return [record(shard, *entries) for shard, entries in pending.items()]

    def commit(self, journal: Journal, at: int = NOW) -> int:
        return journal.append(at, self.records())


def record(shard: int, *entries: Entry) -> ShardRecord:
    return ShardRecord(
        shard,
        entries[0].sequence,
        len(entries),
        b"".join(entry.encode() for entry in entries),
    )


def ask_everything(bank: SmallBank, account: str = MAIN) -> None:
    """A request for each kind of entry, but for the two of an import."""

    def original(stan: str, mti: str = "0100") -> tuple[str, int, str, str, str]:
        return (mti, 0, "0101000000", stan, "")

    shop: dict[str, Any] = {
        "scheme": 1,
        "terminal": "T0000001",
        "merchant": "M1",
        "merchant_name": "SHOP      LONDON GB",
        "merchant_category": 5411,
        "rrn": "000000000042",
        "acquirer": "123456",
    }
    common: dict[str, Any] = {"account": account}
    bank.ask(AUTHORISATION, amount=1_000, **common, **shop)
    bank.ask(FINANCIAL, amount=700, **common)
    bank.ask(AUTHORISATION, amount=999_999, **common)
    bank.ask(AUTHORISATION, amount=300, stan="000104", **common)
    bank.ask(
        AUTHORISATION_ADVICE, amount=12_000, advice_approved=True, stan="000105",
        **common,
    )  # fmt: skip
    bank.ask(
        FINANCIAL_ADVICE, amount=250, advice_approved=True, original=original("000104"),
        **common,
    )  # fmt: skip
    bank.ask(FINANCIAL_ADVICE, amount=250, advice_approved=False, **common)
    bank.ask(REVERSAL, original=original("000105", "0120"), **common)
    bank.ask(REVERSAL, original=original("000999"), **common)
    bank.ask(AUTHORISATION, amount=40, stan="000999", **common)
    bank.ask(FINANCIAL, amount=60, processing_code=200_000, **common)
    bank.ask(AUTHORISATION, amount=1, pan=UNKNOWN_PAN, **common)
    too_late = bank.ask(FINANCIAL, amount=90, **common)
    bank.withdraw(too_late, account)
    bank.end_holds(NOW + 8 * 86_400_000)
    bank.administer(account, MAIN_PAN, NOW + 8 * 86_400_000)


def opened_bank(shard_count: int = SHARD_COUNT) -> SmallBank:
    """Two accounts in different shards with a card each."""
    bank = SmallBank(shard_count)
    for name, pan in ((MAIN, MAIN_PAN), (JOINT, OTHER_PAN)):
        bank.open_account(name)
        bank.issue_card(pan, name)
    return bank


def full_journal(directory: Path) -> tuple[SmallBank, SqliteJournal]:
    """An open journal with entries of every kind in four commits. The caller
    closes it."""
    journal = SqliteJournal.open(
        directory, shard_count=SHARD_COUNT, key_fingerprint=KEYS.fingerprint
    )
    bank = opened_bank()
    bank.commit(journal)
    bank.ask(amount=100, account=JOINT, pan=OTHER_PAN)
    bank.commit(journal)
    ask_everything(bank)
    bank.commit(journal)
    bank.ask(amount=200, account=JOINT, pan=OTHER_PAN)
    bank.ask(amount=5)
    bank.commit(journal)
    return bank, journal


def commits_of(bank: SmallBank, journal: Journal) -> list[Commit]:
    bank.commit(journal)
    return list(journal.read(0))
