"""What schemes send, from one seed: requests, advices, reversals, repeats, and some
that nobody can answer well."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from iso8583 import Message
from tests.unit.link.in_memory import ACCOUNTS, CARDS, PANS, Fields, fields, original

SCHEME_COUNT = 2
_REQUESTS = ("0100", "0200", "0120", "0220")
_ACQUIRERS = ("123456", "777")


class Sent(msgspec.Struct, frozen=True):
    scheme: int
    fields: Fields

    @property
    def identity(self) -> tuple[str, ...]:
        """Of the transaction, as its answer has it too."""
        return identity(self.fields)

    def repeat(self) -> Sent:
        mti: str = self.fields["mti"]
        return Sent(self.scheme, {**self.fields, "mti": mti[:3] + "1"})


def identity(message: Fields | Message) -> tuple[str, ...]:
    """Without the message type's last two digits: an answer has others."""
    rest = tuple(str(message[field]) for field in (2, 7, 11, 32, 37))
    mti = message.mti if isinstance(message, Message) else str(message["mti"])
    # 0100, 0101, 0110; 0120, 0121, 0130
    return (mti[:2], str(int(mti[2]) // 2), *rest)


class Traffic:
    """`is_remembered(sent)` says whether its repeat would be one: what is older may be
    forgotten or not, so nothing is asked that it matters for."""

    def __init__(
        self,
        chance: random.Random,
        is_remembered: Callable[[Sent], bool] = lambda sent: True,
    ) -> None:
        self.chance = chance
        self.is_remembered = is_remembered
        self.sent: list[Sent] = []
        self.held_back: list[Sent] = []  # reversed before they were sent
        self.count = 0

    def next(self) -> Sent:
        what = self.chance.random()
        if what < 0.15 and self.sent:
            first = self.chance.choice(self.sent)
            if 90 not in first.fields or self.is_remembered(first):
                return first.repeat()
        if what < 0.20 and self.held_back:
            sent = self.held_back.pop()
        elif what < 0.40 and self.sent:
            sent = self.about_another()
        elif what < 0.42:
            sent = self.malformed()
        else:
            sent = self.request(self.chance.choices(_REQUESTS, (5, 4, 1, 1))[0])
        self.sent.append(sent)
        return sent

    def request(self, mti: str) -> Sent:
        chance = self.chance
        card = chance.choice(["active", "other", "euro", "credit", *PANS])
        # Now and then all that an account has, or one more.
        whole = chance.choice([1, 5_000, 5_001, 10_000, 20_000, 0])
        amount = chance.choice([chance.randint(1, 1_500), 900, 900, whole])
        return self.message(mti, card, amount)

    def message(
        self, mti: str, card: str, amount: int, scheme: int | None = None
    ) -> Sent:
        chance = self.chance
        stan, acquirer = self.trace()
        account, expiry = CARDS[card][1:3] if card in CARDS else ("main", 3012)
        currency = ACCOUNTS[account][0] if chance.random() < 0.95 else 840
        changes: dict[int, str | None] = {
            3: chance.choices(["000000", "010000", "200000", "310000", "990000"],
                              (20, 2, 4, 1, 1))[0],
            14: chance.choices([f"{expiry:04d}", None, "2901"], (20, 4, 1))[0],
            32: acquirer,
            37: f"RRN{chance.randint(0, 10**9 - 1):09d}",
            49: str(currency),
        }  # fmt: skip
        if mti in ("0120", "0220"):
            changes[39] = chance.choices(["00", "10", "05"], (8, 1, 1))[0]
        if scheme is None:
            scheme = chance.randrange(SCHEME_COUNT)
        return Sent(
            scheme, fields(mti, stan, card=card, amount=amount, changes=changes)
        )

    def trace(self) -> tuple[int, str]:
        """Fields 11 and 32; now and then a number that another acquirer has used."""
        self.count += 1
        if self.sent and self.chance.random() < 0.1:
            return int(self.chance.choice(self.sent).fields[11]), f"{self.count:07d}"
        return self.count, self.chance.choice(_ACQUIRERS)

    def about_another(self) -> Sent:
        """A reversal, or a posting that ends a hold; now and then of what is still to
        come."""
        chance = self.chance
        if chance.random() < 0.15:
            first = self.request(chance.choice(_REQUESTS))
            self.held_back.append(first)
        else:
            first = chance.choice(self.sent)
            mti = str(first.fields["mti"])
            if mti[:3] not in ("010", "020", "012", "022") or not self.is_remembered(
                first
            ):
                return self.request("0100")
        card = next(name for name, pan in PANS.items() if pan == first.fields[2])
        mti = chance.choice(["0400", "0400", "0420", "0220"])
        amount = int(first.fields[4])
        sent = self.message(mti, card, amount, first.scheme)
        acquirer = str(first.fields[32])
        sent.fields[90] = original(
            str(first.fields["mti"]), int(first.fields[11]), acquirer
        )
        sent.fields[32] = acquirer
        sent.fields[37] = first.fields[37]
        if mti != "0220" and chance.random() < 0.3:
            sent.fields[95] = (
                f"{chance.choice([0, 1, amount // 2, amount]):012d}{0:030d}"
            )
        return sent

    def malformed(self) -> Sent:
        sent = self.request("0200")
        if self.chance.random() < 0.5:
            del sent.fields[3]
            return sent
        return Sent(sent.scheme, {**sent.fields, "mti": "0300"})
