import random

import pytest

from switch.replay._traffic import Histogram


def test_quantiles_are_within_one_percent():
    draw = random.Random(4)
    values = sorted(int(draw.lognormvariate(12, 2)) for _ in range(20_000))
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for quantile in (0.01, 0.5, 0.9, 0.99, 0.999):
        exact = values[max(0, round(quantile * len(values)) - 1)]
        assert histogram.at_quantile(quantile) == pytest.approx(exact, rel=0.01)
    assert histogram.count == len(values)
    assert histogram.value_max == values[-1]
    assert histogram.at_quantile(1) <= values[-1]


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, 257, 10**9, 2**62])
def test_a_single_value_is_its_own_quantile(value):
    histogram = Histogram()
    histogram.add(value)
    assert histogram.at_quantile(0.5) == pytest.approx(value, rel=0.01)


def test_an_empty_histogram_says_zero():
    assert Histogram().at_quantile(0.99) == 0
