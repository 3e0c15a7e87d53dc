"""What came of a replay: counts, latencies, and some of the exchanges, masked."""

import bisect
from typing import Final, Literal

import msgspec

import iso8583
from iso8583.describe import masked
from switch.replay._traffic import Histogram
from switch.replay.client import Answer
from switch.replay.comparing import Difference
from switch.replay.load import Latencies
from switch.replay.matching import text_of

#: matched and different: of those whose answer was captured too
Outcome = Literal["matched", "different", "answered", "unanswered"]
GOOD: Final[tuple[Outcome, ...]] = ("matched", "answered")

# Of the histogram that is shown; finer below, where answers should be.
BUCKETS_MS: Final = (
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    *(10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0, 200.0, 500.0, 1000.0, 5000.0),
)


class ReplayedFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request of the capture and what came of it; card data masked."""

    place: str
    outcome: Outcome
    mti: str
    stan: str = ""
    pan: str = ""
    amount: str = ""
    response_mti: str = ""
    response_code: str = ""
    approval_code: str = ""
    time_ms: float = 0.0
    differences: list[Difference] = []


class Bucket(msgspec.Struct, frozen=True):
    #: None: the last one has no end
    up_to_ms: float | None
    count: int


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    sent: int
    answered: int
    matched: int
    different: int
    not_compared: int
    unanswered: int
    unexpected: int
    #: messages of the capture that are not the switch's to answer
    skipped: int
    #: not sent: their card is in no row of the map
    unmapped: int
    #: not sent: no message of the specification
    unreadable: int
    different_fields: dict[int, int]
    response_codes: dict[str, int]
    latency_ms: Latencies
    latency_buckets: list[Bucket]
    #: by how much a request left after its time, at most
    late_ms_max: float
    seconds: float
    connections: int
    faults: list[str]
    notes: dict[str, int]
    #: the first of all, and the first of those that did not go as captured
    frames: list[ReplayedFrame]

    @property
    def complete(self) -> bool:
        """All that was captured was sent, answered, and answered alike."""
        failures = self.different, self.unanswered, self.unexpected
        not_sent = self.unmapped, self.unreadable
        return not (any(failures) or any(not_sent) or self.faults)


class Tally:
    """Counts exchanges as they end; keeps at most twice `shown_max` of them."""

    def __init__(self, shown_max: int) -> None:
        self.counts: dict[Outcome, int] = dict.fromkeys(
            ("matched", "different", "answered", "unanswered"), 0
        )
        self.different_fields: dict[int, int] = {}
        self.response_codes: dict[str, int] = {}
        self.latencies_ns = Histogram()
        self._buckets = [0] * (len(BUCKETS_MS) + 1)
        self._shown_max = shown_max
        self._shown: list[tuple[int, ReplayedFrame]] = []
        self._faulty: list[tuple[int, ReplayedFrame]] = []

    def add(
        self,
        index: int,
        place: str,
        message: iso8583.Message,
        answer: Answer | None,
        differences: list[Difference] | None,
    ) -> None:
        """`differences` None: the capture has no answer to compare with."""
        outcome = _outcome(answer, differences)
        self.counts[outcome] += 1
        code = ""
        if answer is not None:
            code = text_of(answer.message, 39)
            self.response_codes[code] = self.response_codes.get(code, 0) + 1
            self.latencies_ns.add(int(answer.elapsed_ms * 1e6))
            self._buckets[bisect.bisect_left(BUCKETS_MS, answer.elapsed_ms)] += 1
        for each in differences or ():
            count = self.different_fields.get(each.field, 0)
            self.different_fields[each.field] = count + 1
        is_good = outcome in GOOD
        for kept, wanted in ((self._shown, True), (self._faulty, not is_good)):
            # the first by their place in the capture, not by when they ended
            is_room = len(kept) < self._shown_max
            if wanted and (is_room or (kept and index < kept[-1][0])):
                frame = _frame(place, outcome, message, answer, differences or [])
                bisect.insort(kept, (index, frame), key=lambda each: each[0])
                del kept[self._shown_max :]

    def frames(self) -> list[ReplayedFrame]:
        both = dict(self._shown) | dict(self._faulty)
        return [both[index] for index in sorted(both)]

    def latencies(self) -> Latencies:
        at = self.latencies_ns.at_quantile
        values = (at(quantile) / 1e6 for quantile in (0.5, 0.99, 0.999, 1.0))
        return Latencies(*(round(value, 4) for value in values))

    def buckets(self) -> list[Bucket]:
        """From the first that has any to the last."""
        used = [index for index, count in enumerate(self._buckets) if count]
        if not used:
            return []
        ends = (*BUCKETS_MS, None)
        return [
            Bucket(ends[index], self._buckets[index])
            for index in range(used[0], used[-1] + 1)
        ]


def _outcome(answer: Answer | None, differences: list[Difference] | None) -> Outcome:
    if answer is None:
        return "unanswered"
    if differences is None:
        return "answered"
    return "different" if differences else "matched"


def _frame(
    place: str,
    outcome: Outcome,
    message: iso8583.Message,
    answer: Answer | None,
    differences: list[Difference],
) -> ReplayedFrame:
    shown = masked(message)
    reply = {} if answer is None else masked(answer.message)
    return ReplayedFrame(
        place=place,
        outcome=outcome,
        mti=message.mti,
        stan=shown.get(11, ""),
        pan=shown.get(2, ""),
        amount=shown.get(4, ""),
        response_mti=reply.get("mti", ""),
        response_code=reply.get(39, ""),
        approval_code=reply.get(38, ""),
        time_ms=0.0 if answer is None else round(answer.elapsed_ms, 3),
        differences=differences,
    )
