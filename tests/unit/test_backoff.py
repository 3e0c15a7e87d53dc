"""The rule by which whatever is tried again waits."""

from hypothesis import given
from hypothesis import strategies as st

from switch.backoff import Backoff, delay


@given(st.integers(0, 10_000), st.floats(0.001, 10), st.floats(0, 1000))
def test_a_delay_doubles_up_to_the_longest(failures, shortest, more):
    longest = shortest + more
    assert delay(0, shortest, longest) == shortest
    assert delay(failures, shortest, longest) == min(
        shortest * 2 ** min(failures, 32), longest
    )


def test_each_failure_waits_longer_and_success_begins_anew():
    backoff = Backoff(0.5, 3.0)
    assert [backoff.seconds() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.seconds() == 0.5


def test_chance_takes_away_a_part_of_a_wait():
    backoff = Backoff(1.0, 1.0, jitter=0.25)
    waits = [backoff.seconds() for _ in range(200)]
    assert 0.75 <= min(waits) <= max(waits) <= 1.0
    assert len(set(waits)) > 1
