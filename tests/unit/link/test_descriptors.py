"""How many descriptors a daemon gives itself."""

from __future__ import annotations

import resource

import pytest

from switch.link.descriptors import KEPT, OTHERS, is_scarce, raise_limit
from switch.link.settings import LinkSettings

LINKS = (
    LinkSettings(connections_max=5_000),
    LinkSettings(connections_max=3_000),
    LinkSettings(role="dial", connections=64, connections_max=1_000_000),
)
NEEDED = OTHERS + 5_000 + 3_000 + 64


@pytest.fixture
def limits(monkeypatch):
    """Soft and hard, as the process has them."""
    limits = [1_024, 1_000_000]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: tuple(limits))

    def set_limits(_which, new):
        limits[:] = new

    monkeypatch.setattr(resource, "setrlimit", set_limits)
    return limits


@pytest.mark.parametrize("hard", [NEEDED, 1_000_000, resource.RLIM_INFINITY])
def test_the_limit_is_raised_to_what_the_links_allow(limits, caplog, hard):
    limits[1] = hard
    raise_limit(LINKS)
    assert limits == [NEEDED, hard]
    assert not caplog.records


def test_a_limit_that_is_enough_is_left_alone(limits):
    limits[:] = [NEEDED + 1, NEEDED + 1]
    raise_limit(LINKS)
    assert limits == [NEEDED + 1, NEEDED + 1]


def test_a_hard_limit_that_is_not_enough_is_said(limits, caplog):
    limits[:] = [64, 4_096]
    raise_limit(LINKS)
    assert limits == [4_096, 4_096]
    (record,) = caplog.records
    assert record.switch_fields == {"has": 4_096, "needed": NEEDED}


def test_the_last_descriptors_are_not_for_connections(limits):
    assert not is_scarce(1_024 - KEPT - 1)
    assert is_scarce(1_024 - KEPT)
    limits[:] = [resource.RLIM_INFINITY] * 2
    assert not is_scarce(1_000_000)
