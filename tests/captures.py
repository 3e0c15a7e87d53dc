"""Captured frames and what they are answered: tests/vectors/captures.json."""

import datetime
from pathlib import Path

import msgspec

import iso8583
from switch.link._framing import FrameReader, Framing
from tests.messages import content

VECTORS = Path(__file__).parent / "vectors"

Account = tuple[str, str, int, int]  # name, currency, balance, credit limit
Card = tuple[str, str, str, str]  # number, account, expiry, status


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer at one time; None is any time at which the cards are as they are."""

    clock: datetime.datetime | None
    code: str
    approval_code: bool = False
    held: int = 0


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mti: str
    # Fields that the answer has from the request; beside them 39, and 38 if approved.
    echoed: frozenset[int]
    cases: tuple[Case, ...]
    accounts: tuple[Account, ...] = ()
    cards: tuple[Card, ...] = ()
    # Of the answer's message header.
    destination: str | None = None
    source: str | None = None

    @property
    def now(self) -> Case:
        (case,) = (case for case in self.cases if case.clock is None)
        return case

    def check(
        self, case: Case, request: iso8583.Message, reply: iso8583.Message
    ) -> None:
        answer = content(reply)
        if case.approval_code:
            assert len(answer.pop(38)) == 6
        echoed = {field: request[field] for field in self.echoed}
        assert answer == echoed | {"mti": self.mti, 39: case.code}
        if request.header is None:
            assert reply.header is None
            assert self.destination is None
            return
        assert reply.header == request.header | {
            "destination": self.destination,
            "source": self.source,
            "total_length": f"{len(bytes(reply)):04X}",
        }
        assert request.header["source"] == self.destination
        assert request.header["destination"] == self.source


class Capture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    spec: str
    framing: str
    frames: tuple[Frame, ...]

    @property
    def path(self) -> Path:
        return VECTORS / self.file

    @property
    def accounts(self) -> list[Account]:
        return list(
            dict.fromkeys(row for frame in self.frames for row in frame.accounts)
        )

    @property
    def cards(self) -> list[Card]:
        return list(dict.fromkeys(row for frame in self.frames for row in frame.cards))

    def bodies(self) -> list[bytes]:
        reader = FrameReader(Framing(self.framing))
        bodies = reader.feed(bytes.fromhex(self.path.read_text()))
        assert reader.pending_size == 0
        return list(bodies)


_ALL = msgspec.json.decode((VECTORS / "captures.json").read_bytes(), type=list[Capture])
CAPTURES = {capture.spec: capture for capture in _ALL}
