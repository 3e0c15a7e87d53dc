"""What the switch has to answer and to keep, told again in plain Python.

Written from docs/ledger.md and docs/administration.md; it shares no code with the
ledger. It reads the fields of a message as a scheme wrote them, keeps everything in
dictionaries, and never forgets: what is older than the window counts as forgotten.

What it did is a list of steps, so that after a crash it is what the first so many of
them make of an empty bank.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from tests.unit.link.in_memory import Fields

DEBITS, CREDITS, UNSERVED = {"00", "01", "09", "11"}, {"20"}, {"31"}
ADVICE_APPROVED = {"00", "08", "10", "11", "16", "85"}
CARD_REFUSALS = {"lost": "41", "stolen": "43", "restricted": "62"}

# Of a transaction, as field 90 names it: message type, scheme, fields 2, 7, 11, 32.
Name = tuple[str | int, ...]
Shard = int


class Account(msgspec.Struct):
    currency: int
    balance: int
    limit: int
    held: int = 0
    status: str = "active"

    @property
    def available(self) -> int:
        return self.balance + self.limit - self.held


class Card(msgspec.Struct):
    account: str
    expiry: int
    status: str


class Known(msgspec.Struct, eq=False):
    """A transaction that was decided."""

    at: int
    code: str
    approved: bool = False
    account: str = ""
    kind: str = ""  # hold, posting, or nothing that moved money
    remaining: int = 0
    is_credit: bool = False
    expires_at: int = 0
    is_kept: bool = False
    after: int = 0  # how many steps have to be durable before its answer may leave


class Limits(msgspec.Struct, frozen=True):
    window_ms: int
    hold_lifetime_ms: int
    pending_max: int


class Model:
    """`home(pan)` is the shard of a card number that is no card of ours."""

    def __init__(
        self, shard_count: int, limits: Limits, home: Callable[[str], Shard]
    ) -> None:
        self.shard_count = shard_count
        self.limits = limits
        self.home = home
        self.accounts: dict[str, Account] = {}
        self.cards: dict[str, Card] = {}
        self.last_at: defaultdict[Shard, int] = defaultdict(int)
        self.known: defaultdict[tuple[Shard, Name], dict[str, Known]] = defaultdict(
            dict
        )
        self.done: dict[str, int] = {}  # by an operator's key: when
        # Of reversals whose original was not seen: when.
        self.marks: dict[tuple[Shard, Name], int] = {}
        self.holds: defaultdict[Shard, list[Known]] = defaultdict(list)

    # -- operators

    def open_account(
        self, now: int, name: str, currency: int, balance: int, limit: int
    ) -> None:
        self.accounts[name] = Account(currency, balance, limit)
        self._advance(self._shard_of_account(name), now)

    def issue_card(
        self, now: int, pan: str, account: str, expiry: int, status: str
    ) -> None:
        self.cards[pan] = Card(account, expiry, status)
        self._advance(self.shard_of(pan), now)

    def change_limit(self, now: int, name: str, limit: int) -> None:
        self.accounts[name].limit = limit
        self._advance(self._shard_of_account(name), now)

    def change_status(self, now: int, name: str, status: str) -> None:
        self.accounts[name].status = status
        self._advance(self._shard_of_account(name), now)

    def adjust(self, now: int, name: str, amount: int, key: str) -> None:
        shard = self._shard_of_account(name)
        self.accounts[name].balance += amount
        self._advance(shard, now)
        self.done[key] = self.last_at[shard]

    def change_card(self, now: int, pan: str, what: str, value: Any) -> None:
        setattr(self.cards[pan], what, value)
        self._advance(self.shard_of(pan), now)

    # -- time

    def sweep(self, now: int, shard: Shard) -> int:
        """Ends the holds whose time is over; how many."""
        at = max(now, self.last_at[shard])
        count = 0
        while self.holds[shard] and self.holds[shard][0].expires_at <= at:
            self._release(shard, self.holds[shard][0])
            self.last_at[shard] = at
            count += 1
        return count

    def withdraw(self, now: int, scheme: int, fields: Fields) -> Known:
        """The approval of this request was late: it counts as declined."""
        shard, name = self.shard_of(fields[2]), self._name(scheme, fields)
        known = self.known[shard, name][fields[37]]
        assert known.approved
        known.approved, known.code = False, "91"
        self._release(shard, known)
        self._advance(shard, now)
        return known

    # -- messages

    def ask(
        self, now: int, scheme: int, fields: Fields, *, has_room: bool = True
    ) -> tuple[Known, bool]:
        """The transaction with its answer, and whether an entry was written for it.
        Without room for one, and for what cannot be read, nothing is kept."""
        refusal = self.malformed(fields)
        if refusal:
            return Known(now, refusal), False
        shard, name = self.shard_of(fields[2]), self._name(scheme, fields)
        at = max(now, self.last_at[shard])
        known = self.known[shard, name].get(fields[37])
        if known is not None and self._is_remembered(known, at):
            return known, False
        if not has_room:
            return Known(now, "91"), False
        came_late = self._take_mark(shard, name, at)
        mti = name[0]
        self.last_at[shard] = at
        if mti in ("0400", "0420"):
            decided = self._reverse(shard, scheme, fields, at)
        elif mti in ("0100", "0200"):
            decided = self._authorise(now, at, str(mti), fields, came_late)
        else:
            decided = self._advise(shard, scheme, at, fields, came_late)
        decided.is_kept = True
        self.known[shard, name][fields[37]] = decided
        if decided.kind == "hold":
            self.holds[shard].append(decided)
        return decided, True

    def find(self, now: int, scheme: int, fields: Fields) -> Known | None:
        """The transaction that this would repeat now."""
        if self.malformed(fields):
            return None
        shard = self.shard_of(fields[2])
        known = self.known.get((shard, self._name(scheme, fields)), {}).get(fields[37])
        at = max(now, self.last_at[shard])
        return known if known and self._is_remembered(known, at) else None

    def malformed(self, fields: Fields) -> str:
        """What is answered to what cannot be read."""
        mti = _without_repeat(fields["mti"])
        if mti not in ("0100", "0200", "0120", "0220", "0400", "0420"):
            return "12"
        if 3 not in fields and mti not in ("0400", "0420"):
            return "30"
        return ""

    def _authorise(
        self, now: int, at: int, mti: str, fields: Fields, came_late: bool
    ) -> Known:
        card = self.cards.get(fields[2])
        code = "05" if came_late else self._refusal(now, card, fields)
        if code:
            return Known(at, code, account=card.account if card else "")
        assert card is not None
        account, amount = self.accounts[card.account], int(fields[4])
        is_credit = fields[3][:2] in CREDITS
        if not is_credit and account.available < amount:
            return Known(at, "51", account=card.account)
        known = Known(at, "00", True, card.account, is_credit=is_credit)
        if mti == "0200":
            self._post(account, known, amount)
        elif not is_credit:
            self._hold(account, known, amount)
        return known

    def _refusal(self, now: int, card: Card | None, fields: Fields) -> str:
        processing = fields[3][:2]
        if processing in UNSERVED:
            return "57"
        if processing not in DEBITS | CREDITS:
            return "12"
        if card is None:
            return "14"
        account = self.accounts[card.account]
        if "closed" in (card.status, account.status):
            return "14"
        if card.status in CARD_REFUSALS:
            return CARD_REFUSALS[card.status]
        if account.status == "blocked":
            return "62"
        month = datetime.fromtimestamp(now / 1000, UTC).strftime("%y%m")
        if 14 in fields and int(fields[14]) != card.expiry:
            return "54"
        if card.expiry < int(month):
            return "54"
        if int(fields[49]) != account.currency:
            return "57"
        return "13" if int(fields[4]) == 0 else ""

    def _advise(
        self, shard: Shard, scheme: int, at: int, fields: Fields, came_late: bool
    ) -> Known:
        card = self.cards.get(fields[2])
        known = Known(at, "00", account=card.account if card else "")
        processing, amount = fields[3][:2], int(fields[4])
        if (
            came_late
            or card is None
            or fields[39] not in ADVICE_APPROVED
            or processing not in DEBITS | CREDITS
            or int(fields[49]) != self.accounts[card.account].currency
        ):
            return known
        account = self.accounts[card.account]
        known.is_credit = processing in CREDITS
        if fields["mti"][:3] == "012":
            if not known.is_credit and amount:
                self._hold(account, known, amount)
            return known
        if not known.is_credit and 90 in fields:
            held = self._original(shard, scheme, fields, at)
            if held and held.kind == "hold" and held.account == card.account:
                self._release(shard, held)
        self._post(account, known, amount)
        return known

    def _reverse(self, shard: Shard, scheme: int, fields: Fields, at: int) -> Known:
        known = Known(at, "00")
        name = self._original_name(scheme, fields)
        original = self._original(shard, scheme, fields, at)
        if original is None:
            if not self._remembered(shard, name, at) and not self._is_marked(
                shard, name, at
            ):
                self.marks[shard, name] = at
            return known
        if original.account and original.kind:
            self._give_back(shard, original, self._reversed_part(original, fields))
        return known

    def _reversed_part(self, original: Known, fields: Fields) -> int:
        kept = int(fields[95][:12]) if 95 in fields else 0
        if not kept:
            return original.remaining
        if int(fields[49]) != self.accounts[original.account].currency:
            return 0
        return max(original.remaining - kept, 0)

    # -- the parts

    def _post(self, account: Account, known: Known, amount: int) -> None:
        known.kind, known.remaining = "posting", amount
        account.balance += amount if known.is_credit else -amount

    def _hold(self, account: Account, known: Known, amount: int) -> None:
        known.kind, known.remaining = "hold", amount
        known.expires_at = known.at + self.limits.hold_lifetime_ms
        account.held += amount

    def _release(self, shard: Shard, known: Known) -> None:
        self._give_back(shard, known, known.remaining)

    def _give_back(self, shard: Shard, known: Known, part: int) -> None:
        if known.kind == "hold":
            self.accounts[known.account].held -= part
        elif known.kind == "posting":
            self.accounts[known.account].balance -= part if known.is_credit else -part
        known.remaining -= part
        if known.remaining == 0:
            if known.kind == "hold":
                self.holds[shard].remove(known)
            known.kind = ""

    def _is_remembered(self, known: Known, at: int) -> bool:
        return at - known.at <= self.limits.window_ms or known.kind == "hold"

    def _remembered(self, shard: Shard, name: Name, at: int) -> dict[str, Known]:
        several = self.known.get((shard, name), {})
        return {
            rrn: known
            for rrn, known in several.items()
            if self._is_remembered(known, at)
        }

    def _is_marked(self, shard: Shard, name: Name, at: int) -> bool:
        marked_at = self.marks.get((shard, name))
        return marked_at is not None and at - marked_at <= self.limits.window_ms

    def _take_mark(self, shard: Shard, name: Name, at: int) -> bool:
        """Whether the reversal of this came first."""
        if not self._is_marked(shard, name, at):
            return False
        del self.marks[shard, name]
        return True

    def _original(
        self, shard: Shard, scheme: int, fields: Fields, at: int
    ) -> Known | None:
        """Field 37 decides between several."""
        name = self._original_name(scheme, fields)
        several = self._remembered(shard, name, at)
        exact = several.get(fields[37])
        if exact is None and len(several) == 1:
            (exact,) = several.values()
        return exact

    def _name(self, scheme: int, fields: Fields) -> Name:
        mti = _without_repeat(fields["mti"])
        acquirer = int(fields[32])
        return (mti, scheme, fields[2], int(fields[7]), int(fields[11]), acquirer)

    def _original_name(self, scheme: int, fields: Fields) -> Name:
        text = fields[90]
        parts = int(text[10:20]), int(text[4:10]), int(text[20:31])
        return (_without_repeat(text[:4]), scheme, fields[2], *parts)

    def shard_of(self, pan: str) -> Shard:
        card = self.cards.get(pan)
        return self._shard_of_account(card.account) if card else self.home(pan)

    def _shard_of_account(self, name: str) -> Shard:
        return zlib.crc32(name.encode()) % self.shard_count

    def _advance(self, shard: Shard, now: int) -> None:
        self.last_at[shard] = max(now, self.last_at[shard])


def _without_repeat(mti: str) -> str:
    return mti[:3] + "0" if mti[3] == "1" else mti
