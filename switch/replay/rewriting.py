"""What is changed in a captured request on its way: numbers made fresh, cards mapped.

Rule 1: what was the same in the capture stays the same. A repeat gets the numbers that
        its first got, a reversal's field 90 those that its original got, and an RRN is
        replaced by the same one wherever it comes.
Rule 2: nothing else changes: not the local date and time, and not chip data.
Rule 3: with a map of cards, a card that is not in it does not leave.
"""

import datetime
import re
import secrets
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

import iso8583
from switch.replay.cards import CardMap
from switch.replay.matching import text_of

Key = TypeVar("Key")
Kept = TypeVar("Kept")

TRANSMITTED, STAN, ACQUIRER, RRN, ORIGINAL = 7, 11, 32, 37, 90
STAN_COUNT: Final = 999_999
RRN_COUNT: Final = 10**12
# of a pass, for repeats and reversals: some 100 bytes each
REMEMBERED_MAX: Final = 131_072

PAN_FIELDS: Final = (2, 34)
# -- ISO/IEC 7813 for tracks 1 and 2, ISO/IEC 4909 for track 3
TRACK_FIELDS: Final = (
    (35, re.compile(r"(;?)(\d{8,19})([=D].*)", re.DOTALL)),
    (36, re.compile(r"(;?\d\d)(\d{8,19})([=D].*)", re.DOTALL)),
    (45, re.compile(r"(%?[A-Z])(\d{8,19})(\^.*)", re.DOTALL)),
)


class UnmappedCardError(Exception):
    """A message with a card that is not in the map, or in a track that hides it."""


class Rewritten(msgspec.Struct, frozen=True):
    body: bytes
    message: iso8583.Message
    #: what became of each changed field: captured, sent
    replaced: dict[int, tuple[str, str]]

    def __repr__(self) -> str:
        return f"Rewritten({len(self.body)} bytes)"


class Rewriter:
    def __init__(
        self,
        *,
        fresh: bool = False,
        cards: CardMap | None = None,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(
            datetime.UTC
        ),
    ) -> None:
        self._fresh = _Numbers(now) if fresh else None
        self._cards = cards

    def begin_pass(self) -> None:
        """The capture again: other transactions, when they are made fresh."""
        if self._fresh is not None:
            self._fresh.forget()

    def rewrite(
        self, body: bytes, message: iso8583.Message, *, is_whole: bool = True
    ) -> Rewritten:
        """`is_whole` False: a malformed message, of which only a part is known."""
        if not is_whole:
            if self._cards is not None:
                raise UnmappedCardError
            return Rewritten(body, message, {})
        changes: dict[int, str] = {}
        if self._cards is not None:
            changes |= _mapped(message, self._cards)
        if self._fresh is not None:
            changes |= self._fresh.of(message)
        if not changes:
            return Rewritten(body, message, {})
        changed = message.copy()
        replaced = {}
        for field, value in changes.items():
            replaced[field] = text_of(message, field), value
            changed[field] = value
        return Rewritten(changed.encode(), changed, replaced)


def _mapped(message: iso8583.Message, cards: CardMap) -> dict[int, str]:
    changes = {}
    for field in PAN_FIELDS:
        if field in message:
            changes[field] = _card(cards, text_of(message, field))
    for field, layout in TRACK_FIELDS:
        if field in message:
            track = layout.fullmatch(text_of(message, field))
            if track is None:
                raise UnmappedCardError
            before, pan, behind = track.groups()
            changes[field] = before + _card(cards, pan) + behind
    return changes


def _card(cards: CardMap, pan: str) -> str:
    try:
        return cards[pan]
    except KeyError:
        # which one is not said: it is a card that must not be seen
        raise UnmappedCardError from None


class _Numbers:
    """Numbers that no message had before, and what they stand for."""

    def __init__(self, now: Callable[[], datetime.datetime]) -> None:
        self._now = now
        self._stan = secrets.randbelow(STAN_COUNT)
        self._rrn = secrets.randbelow(RRN_COUNT)
        self.forget()

    def forget(self) -> None:
        self._messages: dict[tuple[str, ...], tuple[str, str]] = {}
        self._originals: dict[tuple[str, str, str], tuple[str, str]] = {}
        self._rrns: dict[str, str] = {}

    def of(self, message: iso8583.Message) -> dict[int, str]:
        found = {field: text_of(message, field) for field in message}
        transmitted, stan = found.get(TRANSMITTED, ""), found.get(STAN, "")
        acquirer, rrn = found.get(ACQUIRER, ""), found.get(RRN, "")
        # the function without its repeat digit
        key = message.mti[:3], transmitted, stan, acquirer, rrn
        numbers = self._messages.get(key)
        if numbers is None:
            self._stan = self._stan % STAN_COUNT + 1
            numbers = f"{self._now():%m%d%H%M%S}", f"{self._stan:06d}"
            _keep(self._messages, key, numbers)
            _keep(self._originals, (message.mti[:2], stan, transmitted), numbers)
        fresh = {TRANSMITTED: numbers[0], STAN: numbers[1]}
        if RRN in found:
            fresh[RRN] = self._rrn_for(rrn)
        if ORIGINAL in found:
            fresh[ORIGINAL] = self._original_for(found[ORIGINAL])
        return {field: value for field, value in fresh.items() if field in found}

    def _rrn_for(self, rrn: str) -> str:
        fresh = self._rrns.get(rrn)
        if fresh is None:
            self._rrn = (self._rrn + 1) % RRN_COUNT
            fresh = f"{self._rrn:012d}"
            _keep(self._rrns, rrn, fresh)
        return fresh

    def _original_for(self, original: str) -> str:
        # -- ISO 8583:1987, field 90: type, STAN, transmission date and time, ...
        key = original[:2], original[4:10], original[10:20]
        if key not in self._originals:
            return original
        transmitted, stan = self._originals[key]
        return original[:4] + stan + transmitted + original[20:]


def _keep(kept: dict[Key, Kept], key: Key, value: Kept) -> None:
    kept[key] = value
    if len(kept) > REMEMBERED_MAX:
        del kept[next(iter(kept))]
