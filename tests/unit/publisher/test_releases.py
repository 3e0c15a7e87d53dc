"""How old a commit is, whatever wall clocks say."""

from math import inf

import pytest

from switch.publisher import releases
from switch.publisher.releases import Releases


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_before_the_first_look_nothing_is_known(clock):
    assert Releases(clock).age(5) == (0.0, inf)


def test_it_is_between_the_looks_that_did_not_and_did_show_it(clock):
    seen = Releases(clock)
    for head, now in ((10, 1000), (10, 1003), (12, 1005), (20, 1006)):
        clock.now = now
        seen.saw(head)
    clock.now = 1010
    # Answered before we looked first: how long before, nobody knows.
    assert seen.age(10) == (10, inf)
    assert seen.age(11) == seen.age(12) == (5, 7)
    assert seen.age(13) == seen.age(20) == (4, 5)
    # Not answered when we looked last.
    assert seen.age(21) == (0.0, 4)


def test_what_is_remembered_is_bounded_and_stays_true(clock, monkeypatch):
    monkeypatch.setattr(releases, "LOOKS_MAX", 8)
    seen = Releases(clock)
    for head in range(1, 100):
        clock.now = 1000.0 + head  # commit N was answered at 1000 + N - 0.5
        seen.saw(head)
    assert len(seen._heads) <= 8
    for commit in range(1, 100):
        at_least, at_most = seen.age(commit)
        assert at_least <= clock.now - (1000 + commit - 0.5) <= at_most
    assert seen.age(99) == (0, 1)
