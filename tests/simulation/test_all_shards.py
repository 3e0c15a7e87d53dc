"""Invariant: whatever nodes, replicas, messages and it itself do, who follows all
shards takes what counts and nothing else, each entry once, and in the end has all of it
or a state that has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from switch.journal.cassandra import all_shards, takeover
from switch.journal.cassandra.all_shards import AllShardsReader
from tests.simulation.followed_world import FollowedWorld
from tests.simulation.seeds import first_fault, run_seed, seeds

SEEDS_MAX = 300


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_shards, "LOOK_SECONDS", 0.1)


def test_what_counts_is_taken_once_and_nothing_else():
    begun = 0
    for seed in seeds(60):
        begun += run_seed(FollowedWorld, seed).kept.begun
    assert begun, "nothing was ever dropped before it was read"


async def _nothing(*_: object) -> None:
    pass


def believes_the_last_commit(patch: pytest.MonkeyPatch) -> None:
    async def other(*_: object) -> bool:
        return True

    patch.setattr(all_shards, "counts", other)


def does_not_look_at_the_fence(patch: pytest.MonkeyPatch) -> None:
    async def other(store: Any, session: str, last: Any, patience: Any) -> bool:
        await takeover.write_back(store, session, last, patience)
        return True

    patch.setattr(all_shards, "counts", other)


def takes_no_notice_of_moves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AllShardsReader, "_note_moves", lambda *_: None)
    patch.setattr(AllShardsReader, "_end", lambda *_: None)


BREAKS = [
    believes_the_last_commit,
    does_not_look_at_the_fence,
    takes_no_notice_of_moves,
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_a_mistake_in_following_is_found(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    broken(monkeypatch)
    assert first_fault(FollowedWorld, SEEDS_MAX) is not None
