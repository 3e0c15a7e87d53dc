"""A clock that is set far off is not followed, and said."""

import logging

from switch.clock import STEP_MS_MAX, WallClock


class Times:
    def __init__(self) -> None:
        self.wall = 1_764_000_000_000
        self.boot = 5_000

    def pass_ms(self, count: int) -> None:
        self.wall += count
        self.boot += count

    def clock(self) -> WallClock:
        return WallClock(lambda: self.wall, lambda: self.boot)


def test_it_follows_the_wall_clock_and_small_steps_of_it():
    times = Times()
    clock = times.clock()
    times.pass_ms(1_000)
    assert clock() == times.wall
    times.wall += STEP_MS_MAX
    assert clock() == times.wall
    times.wall -= STEP_MS_MAX
    assert clock() == times.wall


def test_a_large_step_is_not_followed_and_said_once(caplog):
    times = Times()
    clock = times.clock()
    right = times.wall
    for step in (30 * 365 * 86_400_000, -STEP_MS_MAX - 1):
        caplog.clear()
        times.wall = right + step
        times.boot = 5_000
        assert clock() == right
        times.pass_ms(250)
        assert clock() == right + 250
        assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
        times.wall, times.boot = right, 5_000
        assert clock() == right
        assert clock.is_trusted


def test_after_a_suspension_it_is_as_late_as_it_is():
    times = Times()
    clock = times.clock()
    times.pass_ms(10 * STEP_MS_MAX)
    assert clock() == times.wall
