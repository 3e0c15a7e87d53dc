"""Invariant: whatever nodes, replicas and messages do, what was answered or published
is in the journal that the last owner reads, once, at its place, and nothing else is
ever answered."""

from __future__ import annotations

import pytest

from tests.simulation.journal_world import World
from tests.simulation.seeds import run_seed, seeds

SEEDS_EACH = 50


def pieces(count: int) -> list[list[int]]:
    numbers = seeds(count)
    return [numbers[at : at + SEEDS_EACH] for at in range(0, len(numbers), SEEDS_EACH)]


@pytest.mark.parametrize("some", pieces(1000), ids=lambda some: f"{some[0]}-{some[-1]}")
def test_what_was_answered_is_in_the_journal(some: list[int]):
    for seed in some:
        run_seed(World, seed)


def test_a_seed_is_the_same_run_again():
    assert run_seed(World, 3).story == run_seed(World, 3).story
