"""Invariant: whatever happens to the embedded switch, in whatever order, every answer
is the one that the model gives and leaves when all before it is durable, a repeat gets
the first answer, accounts, cards and holds are the model's, and what a crash leaves is
what was durable, and perhaps the commit in flight, whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from switch.journal import sqlite
from tests.simulation.seeds import run_seed, seeds
from tests.simulation.whole import World


@pytest.mark.parametrize("seed", seeds(12))
def test_the_switch_and_a_model_agree(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqlite, "LOG_PAGES_MAX", 12)
    run_seed(lambda each: World(each, tmp_path), seed)
