"""How old the oldest commit is that a sink does not have, from a few marks."""

from hypothesis import given
from hypothesis import strategies as st

from switch.companion import lag
from switch.companion.lag import ReleaseTimes


def test_with_nothing_missing_there_is_no_lag():
    times = ReleaseTimes(100.0)
    assert times.age(0, 0, 150.0) == 0
    times.mark(1, 110.0)
    assert times.age(1, 1, 150.0) == 0
    assert times.age(0, 1, 150.0) == 40


def test_what_was_answered_before_the_start_counts_from_the_start():
    times = ReleaseTimes(100.0)
    assert times.age(3, 9, 107.0) == 7
    times.mark(10, 120.0)
    assert times.age(3, 10, 121.0) == 21
    assert times.age(9, 10, 121.0) == 1


def test_the_oldest_counts_not_the_newest():
    times = ReleaseTimes(0.0)
    for number in range(1, 11):
        times.mark(number, float(number))
    assert [times.age(position, 10, 20.0) for position in range(11)] == [
        *range(19, 9, -1),
        0,
    ]


def test_what_is_forgotten_is_what_nobody_asks_for():
    times = ReleaseTimes(0.0)
    for number in range(1, 11):
        times.mark(number, float(number))
    times.forget(6)
    assert times.age(6, 10, 20.0) == 13
    # Events were lost, and the sink is further back than it said: as old as is known.
    assert times.age(2, 10, 20.0) == 13


def test_a_sink_that_never_gets_on_costs_bounded_memory(monkeypatch):
    monkeypatch.setattr(lag, "MARKS_MAX", 16)
    times = ReleaseTimes(0.0)
    for number in range(1, 10_000):
        times.mark(number, float(number))
        assert len(times._numbers) <= 16
        assert times.age(0, number, number + 5.0) >= 5
    assert times.age(0, 9_999, 10_000.0) == 10_000


commits = st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=60)


@given(commits, st.data())
def test_it_is_never_younger_than_the_truth_and_older_by_an_interval_at_most(
    pauses, data
):
    """The marks are made as the supervisor makes them: at most one an interval."""
    interval = 1.0
    times = ReleaseTimes(0.0)
    now = marked_at = 0.0
    answered = [0.0]
    position = 0
    for number, pause in enumerate(pauses, 1):
        now += pause
        answered.append(now)
        if now - marked_at >= interval or number == 1:
            times.mark(number, now)
            marked_at = now
        position = data.draw(st.integers(position, number))
        times.forget(position)
        age = times.age(position, number, now)
        if position == number:
            assert age == 0
        else:
            truth = now - answered[position + 1]
            assert truth - 1e-9 <= age <= truth + interval + 1e-9
