"""Faults on purpose: what a bad network or a bad peer does to messages.

    late        goes out some time later
    lost        does not go out
    doubled     goes out twice
    reordered   goes out after the next one, or after HELD_S if none comes
    malformed   goes out cut short, or with bytes that no message has

Rule 1: one message has one fault at most, drawn before it goes out; the same seed and
        the same messages in the same order have the same faults.
Rule 2: sign-on, echo tests and their answers are left alone: the line stays up.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal, get_args

import msgspec

import iso8583

Fault = Literal["late", "lost", "doubled", "reordered", "malformed"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
# faults after which nobody can expect an answer, or expect none
EXCUSED: Final = frozenset({"lost", "malformed"})
HELD_S: Final = 1.0
# how often bytes are changed in search of a message that is none
CHANGES_MAX: Final = 16

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Write = Callable[[bytes], None]
Later = Callable[[float, Callable[[], None]], object]


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of the messages have each fault, 0 to 1."""

    late: Share = 0.0
    lost: Share = 0.0
    doubled: Share = 0.0
    reordered: Share = 0.0
    malformed: Share = 0.0
    #: how late, at least and at most
    late_ms: tuple[int, int] = (100, 1000)

    def __post_init__(self) -> None:
        total = sum(getattr(self, fault) for fault in FAULTS)
        if total > 1:
            raise ValueError(f"faults: expected shares of 1 in all, got {total:g}")
        low, high = self.late_ms
        if not 0 <= low <= high:
            raise ValueError("faults: expected late_ms to be [LEAST, MOST]")


class Injector:
    """Sends messages of one connection, some of them with faults."""

    def __init__(
        self,
        plan: FaultPlan,
        draw: random.Random,
        codec: iso8583.Codec,
        write: Write,
        later: Later,
    ) -> None:
        self._plan = plan
        self._draw = draw
        self._codec = codec
        self._write = write
        self._later = later
        self._held: list[bytes] = []
        self.counts: Counter[Fault] = Counter()

    def choose(self) -> Fault | None:
        """The fault of the next message."""
        left = self._draw.random()
        for fault in FAULTS:
            share: float = getattr(self._plan, fault)
            if left < share:
                return fault
            left -= share
        return None

    def send(self, body: bytes, fault: Fault | None) -> None:
        if fault is not None:
            self.counts[fault] += 1
        if fault == "reordered":
            self._held.append(body)
            self._later(HELD_S, self._release)
            return
        if fault == "late":
            low, high = self._plan.late_ms
            seconds = self._draw.uniform(low, high) / 1000
            self._later(seconds, lambda: self._write(body))
        elif fault == "malformed":
            self._write(malform(body, self._codec, self._draw))
        elif fault != "lost":
            self._write(body)
            if fault == "doubled":
                self._write(body)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for body in held:
            self._write(body)


def malform(body: bytes, codec: iso8583.Codec, draw: random.Random) -> bytes:
    """Bytes that are nearly this message, and no message."""
    for _ in range(CHANGES_MAX):
        changed = draw.choice(_CHANGES)(body, draw)
        if changed and not _is_message(changed, codec):
            return changed
    # a message that ends early never is one
    return body[: draw.randrange(1, len(body))]


def _cut(body: bytes, draw: random.Random) -> bytes:
    return body[: draw.randrange(1, len(body))]


def _overwrite(body: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(body)), draw.randrange(1, 9)
    return body[:at] + draw.randbytes(size) + body[at + size :]


def _lengthen(body: bytes, draw: random.Random) -> bytes:
    return body + draw.randbytes(draw.randrange(1, 9))


_CHANGES: Final[Sequence[Callable[[bytes, random.Random], bytes]]] = (
    _cut,
    _overwrite,
    _lengthen,
)


def _is_message(body: bytes, codec: iso8583.Codec) -> bool:
    try:
        codec.decode(body)
    except iso8583.DecodeError:
        return False
    return True
