"""A simulated card scheme: people buying, at a calm rate, on a real socket.

Mostly purchases; now and then what schemes also send: a repeat of a request whose
answer got lost, a reversal, an advice of what was decided without us, an echo test.
"""

import asyncio
import datetime
import itertools
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from iso8583.describe import masked
from iso8583.dialect import Function
from switch.replay.bank import Bank, BankCard
from switch.replay.client import Client, answer_mti
from switch.replay.request import (
    ACQUIRER,
    APPROVED_CODE,
    STANDARD_STATION,
    encode,
    network_fields,
)

CURRENCY_NUMBERS: Final = {"EUR": "978", "USD": "840", "GBP": "826", "CHF": "756"}
# what a foreign shop charges in
FOREIGN_CURRENCY: Final = CURRENCY_NUMBERS["CHF"]
SHOPS: Final = (
    ("5411", "Mercado Central", "Lisboa", "PT"),
    ("5812", "Trattoria Ponte", "Bologna", "IT"),
    ("5541", "Rasthof Nord", "Hamburg", "DE"),
    ("5732", "Fjord Elektronikk", "Bergen", "NO"),
    ("5912", "Apotheke am Markt", "Wien", "AT"),
    ("4111", "Tramways", "Lyon", "FR"),
    ("5942", "Bookshop Quay", "Cork", "IE"),
)
# remembered, for repeats, reversals and completions
REMEMBERED_COUNT_MAX: Final = 200
OUTSTANDING_COUNT_MAX: Final = 64
ECHO_INTERVAL_S: Final = 10.0
# how often a shop's till names a currency that the issuer cannot convert, of 100
UNKNOWN_CURRENCY_OF_100: Final = 1
FOREIGN_OF_100: Final = 6


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came of it, card data masked."""

    at: float
    mti: str
    what: str
    account: str = ""
    pan: str = ""
    amount: str = ""
    #: "": no answer
    response_code: str = ""
    approval_code: str = ""
    elapsed_ms: float = 0.0
    #: of a repeat: whether the answer was the first one again
    same_answer: bool | None = None

    @property
    def answered(self) -> bool:
        return bool(self.response_code)


class _Sent(msgspec.Struct, frozen=True):
    mti: str
    fields: dict[int, str]
    card: BankCard
    response_code: str
    approval_code: str


class Scheme:
    """Plays until told to stop; every exchange goes to `on_exchange`."""

    def __init__(
        self,
        client: Client,
        bank: Bank,
        *,
        per_second: float,
        seed: int,
        on_exchange: Callable[[Exchange], None],
        rrn_first: int | None = None,
    ) -> None:
        """`rrn_first` tells this scheme's messages from those of others that play at
        the same time; without it, the time does."""
        self._client = client
        self._bank = bank
        self._per_second = per_second
        self._draw = random.Random(seed)
        self._on_exchange = on_exchange
        first = int(time.time() * 1000) if rrn_first is None else rrn_first
        self._stans = itertools.cycle(range(1, 1_000_000))
        self._rrns = itertools.count(first % 10**12)
        self._remembered: deque[_Sent] = deque(maxlen=REMEMBERED_COUNT_MAX)
        self._acts: tuple[tuple[int, Callable[[], _Step]], ...] = (
            (8, self._repeat),
            (6, self._reverse),
            (8, self._complete),
            (6, self._advise),
            (22, lambda: self._buy("0200")),
            (50, lambda: self._buy("0100")),
        )

    async def play(self) -> None:
        """Until it is cancelled, or the connection is lost."""
        room = asyncio.Semaphore(OUTSTANDING_COUNT_MAX)
        async with asyncio.TaskGroup() as group:
            await self._manage("sign_on", "sign-on")
            echo_at = time.monotonic() + ECHO_INTERVAL_S
            while self._client.lost is None:
                if time.monotonic() >= echo_at:
                    echo_at += ECHO_INTERVAL_S
                    group.create_task(self._manage("echo", "echo test"))
                await room.acquire()
                task = group.create_task(self._send(self._choose()))
                task.add_done_callback(lambda _: room.release())
                await asyncio.sleep(self._draw.expovariate(self._per_second))

    async def sign_off(self) -> None:
        await self._manage("sign_off", "sign-off")

    async def _manage(self, function: Function, what: str) -> None:
        fields = network_fields(STANDARD_STATION, next(self._stans), function)
        await self._ask(_Step("0800", what, fields))

    def _choose(self) -> "_Step":
        left = self._draw.randrange(100)
        for share, act in self._acts:
            if left < share:
                return act()
            left -= share
        raise AssertionError("the shares of the acts add up to 100")

    async def _send(self, step: "_Step") -> None:
        exchange = await self._ask(step)
        if exchange.answered and step.repeatable:
            assert step.card is not None
            self._remembered.append(
                _Sent(
                    step.mti,
                    step.fields,
                    step.card,
                    exchange.response_code,
                    exchange.approval_code,
                )
            )

    async def _ask(self, step: "_Step") -> Exchange:
        at = time.time()
        body = encode(self._client.codec, step.mti, step.fields)
        message = self._client.codec.decode(body)
        answer = await self._client.ask(body, message)
        reply = None if answer is None else answer.message
        code = "" if reply is None else reply.get(39, "")
        approval = "" if reply is None else reply.get(38, "")
        same = None
        if step.repeated is not None and reply is not None:
            first = step.repeated
            same = (reply.mti, code, approval) == (
                answer_mti(first.mti),
                first.response_code,
                first.approval_code,
            )
        exchange = Exchange(
            at=at,
            mti=step.mti,
            what=step.what,
            account="" if step.card is None else step.card.account.account,
            pan=masked(message).get(2, ""),
            amount=_amount_text(step.fields),
            response_code=code,
            approval_code=approval,
            elapsed_ms=0.0 if answer is None else answer.elapsed_ms,
            same_answer=same,
        )
        self._on_exchange(exchange)
        return exchange

    def _buy(self, mti: str) -> "_Step":
        fields, card = self._purchase()
        return _Step(
            mti, "authorisation" if mti == "0100" else "purchase", fields, card
        )

    def _advise(self) -> "_Step":
        """The scheme stood in for us, and tells."""
        fields, card = self._purchase()
        approved = self._draw.randrange(4) > 0
        fields[39] = APPROVED_CODE if approved else "05"
        if approved:
            fields[38] = f"{self._draw.randrange(10**6):06d}"
        return _Step("0120", "advice", dict(sorted(fields.items())), card)

    def _repeat(self) -> "_Step":
        """As if the first answer had got lost."""
        sent = self._find(lambda s: True)
        if sent is None:
            return self._buy("0100")
        return _Step(f"{sent.mti[:3]}1", "repeat", sent.fields, sent.card, sent)

    def _reverse(self) -> "_Step":
        sent = self._find(_approved)
        if sent is None:
            return self._buy("0200")
        self._remembered.remove(sent)
        mti = self._draw.choice(("0400", "0420"))
        fields = self._about(sent)
        if mti == "0420":
            fields[39] = APPROVED_CODE
        return _Step(mti, "reversal", dict(sorted(fields.items())), sent.card)

    def _complete(self) -> "_Step":
        """The shop ships, and what was held is posted."""
        sent = self._find(lambda s: s.mti == "0100" and _approved(s))
        if sent is None:
            return self._buy("0100")
        self._remembered.remove(sent)
        fields = self._about(sent) | {38: sent.approval_code, 39: APPROVED_CODE}
        return _Step("0220", "completion", dict(sorted(fields.items())), sent.card)

    def _find(self, wanted: Callable[[_Sent], bool]) -> _Sent | None:
        found = [sent for sent in self._remembered if wanted(sent)]
        return self._draw.choice(found) if found else None

    def _about(self, sent: _Sent) -> dict[int, str]:
        """A message of its own that names an earlier one in field 90."""
        original = (
            f"{sent.mti}{sent.fields[11]}{sent.fields[7]}"
            f"{ACQUIRER.rjust(11, '0')}{'0' * 11}"
        )
        fields = {n: v for n, v in sent.fields.items() if n not in (12, 13, 14)}
        fields[90] = original
        return fields | self._traces()

    def _purchase(self) -> tuple[dict[int, str], BankCard]:
        card = self._draw.choice(self._bank.cards)
        code, name, city, country = self._draw.choice(SHOPS)
        currency = CURRENCY_NUMBERS[card.account.currency]
        amount = int(self._draw.lognormvariate(7.5, 0.9)) + 50
        fields = {
            2: card.pan,
            3: "000000",
            4: f"{amount:012d}",
            14: card.expiry,
            18: code,
            22: self._draw.choice(("051", "071", "812")),
            25: "00",
            32: ACQUIRER,
            41: f"TERM{self._draw.randrange(10_000):04d}",
            42: f"MERCHANT{code:0>7}",
            43: f"{name:<25}{city:<13}{country}",
            49: currency,
        }
        left = self._draw.randrange(100)
        if left < FOREIGN_OF_100:
            # the scheme converts: fields 6 and 51 are what the cardholder is billed
            fields |= {4: f"{amount * 11 // 10:012d}", 6: f"{amount:012d}"}
            fields |= {10: "61100000", 49: FOREIGN_CURRENCY, 51: currency}
        elif left < FOREIGN_OF_100 + UNKNOWN_CURRENCY_OF_100:
            fields[49] = FOREIGN_CURRENCY
        now = datetime.datetime.now().astimezone()
        fields |= {12: now.strftime("%H%M%S"), 13: now.strftime("%m%d")}
        return dict(sorted((fields | self._traces()).items())), card

    def _traces(self) -> dict[int, str]:
        now = datetime.datetime.now(datetime.UTC)
        return {
            7: now.strftime("%m%d%H%M%S"),
            11: f"{next(self._stans):06d}",
            37: f"{next(self._rrns):012d}",
        }


class _Step(msgspec.Struct, frozen=True):
    mti: str
    what: str
    fields: dict[int, str]
    card: BankCard | None = None
    repeated: _Sent | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it may be repeated, completed or reversed later."""
        return self.mti in ("0100", "0200")


def _approved(sent: _Sent) -> bool:
    return sent.response_code == APPROVED_CODE


def _amount_text(fields: dict[int, str]) -> str:
    if 4 not in fields:
        return ""
    letters = {number: name for name, number in CURRENCY_NUMBERS.items()}
    minor = int(fields[4])
    return f"{minor // 100}.{minor % 100:02d} {letters.get(fields[49], fields[49])}"
