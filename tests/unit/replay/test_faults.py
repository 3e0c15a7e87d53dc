import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iso8583
from switch.replay.faults import FAULTS, FaultPlan, Injector, malform
from tests.messages import specs_of_1987

CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
BODIES = [CODEC.encode({"mti": "0100", 11: f"{n:06d}"}) for n in range(3)]


class Line:
    """What goes out, and what waits to; `later` is carried out by hand."""

    def __init__(self, plan: FaultPlan, seed: int = 1) -> None:
        self.out: list[bytes] = []
        self.waiting: list[tuple[float, Callable[[], None]]] = []
        self.injector = Injector(
            plan,
            random.Random(seed),
            CODEC,
            self.out.append,
            lambda seconds, call: self.waiting.append((seconds, call)),
        )


def all_of(fault: str) -> FaultPlan:
    return msgspec.convert({fault: 1.0}, FaultPlan)


def test_without_a_fault_it_goes_out_as_it_is():
    line = Line(FaultPlan())
    assert line.injector.choose() is None
    line.injector.send(BODIES[0], None)
    assert line.out == BODIES[:1]
    assert not line.injector.counts


@pytest.mark.parametrize("fault", FAULTS)
def test_a_share_of_one_is_all(fault):
    line = Line(all_of(fault))
    assert {line.injector.choose() for _ in range(50)} == {fault}


def test_lost_and_doubled():
    line = Line(FaultPlan())
    line.injector.send(BODIES[0], "lost")
    line.injector.send(BODIES[1], "doubled")
    assert line.out == [BODIES[1], BODIES[1]]
    assert line.injector.counts == {"lost": 1, "doubled": 1}


def test_late_is_sent_later_within_its_bounds():
    line = Line(FaultPlan(late=1, late_ms=(100, 200)))
    line.injector.send(BODIES[0], "late")
    assert line.out == []
    ((seconds, call),) = line.waiting
    assert 0.1 <= seconds <= 0.2
    call()
    assert line.out == BODIES[:1]


def test_reordered_goes_out_behind_the_next_or_after_a_while():
    line = Line(FaultPlan())
    line.injector.send(BODIES[0], "reordered")
    assert line.out == []
    line.injector.send(BODIES[1], None)
    assert line.out == [BODIES[1], BODIES[0]]
    line.injector.send(BODIES[2], "reordered")
    for _, call in line.waiting:
        call()
    assert line.out == [BODIES[1], BODIES[0], BODIES[2]]


@given(st.integers(0, 2**32), st.sampled_from(specs_of_1987()))
def test_malformed_is_no_message(seed, spec):
    codec = iso8583.Codec(iso8583.load_spec(spec))
    body = codec.encode({"mti": "0100", 2: "9999990000000014", 11: "000001"})
    changed = malform(body, codec, random.Random(seed))
    assert changed
    with pytest.raises(iso8583.DecodeError):
        codec.decode(changed)


def test_the_same_seed_has_the_same_faults():
    plan = FaultPlan(late=0.2, lost=0.2, doubled=0.2, reordered=0.2, malformed=0.1)
    drawn = []
    for seed in (1, 1, 2):
        injector = Line(plan, seed).injector
        drawn.append([injector.choose() for _ in range(200)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == {*FAULTS, None}


@pytest.mark.parametrize(
    "shares",
    [{"late": 0.6, "lost": 0.6}, {"late_ms": (5, 4)}, {"late_ms": (-1, 4)}],
)
def test_shares_and_times_that_cannot_be_are_refused(shares):
    with pytest.raises(ValueError, match="faults: expected"):
        FaultPlan(**shares)
