"""Which seeds a simulation runs with: a few by default, more where somebody asks.

SIMULATION_SEEDS=1-500 scripts/test tests/simulation    # looks further
SIMULATION_SEEDS=137 scripts/test tests/simulation      # one that failed, again
"""

import os
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

STORY_LINES_SHOWN = 60


class World(Protocol):
    """What a seed makes."""

    @property
    def story(self) -> Sequence[str]: ...

    def run(self) -> None:
        """Raises what is wrong."""


WorldT = TypeVar("WorldT", bound=World)


def seeds(count: int) -> list[int]:
    """`count` of them by default. A test that takes one has it in its name, so that
    what failed says how to see it again."""
    first, _, last = os.environ.get("SIMULATION_SEEDS", f"1-{count}").partition("-")
    return list(range(int(first), int(last or first) + 1))


def run_seed(make: Callable[[int], WorldT], seed: int) -> WorldT:
    """The world of that seed, which tells what happened if it fails."""
    world = make(seed)
    try:
        world.run()
    except BaseException:
        print(f"seed {seed}:", *world.story[-STORY_LINES_SHOWN:], sep="\n")
        raise
    return world


def first_fault(make: Callable[[int], World], seeds_max: int) -> int | None:
    """The first seed that finds one."""
    for seed in range(1, seeds_max + 1):
        try:
            make(seed).run()
        except Exception:  # noqa: BLE001 -- whatever it was, it was seen
            return seed
    return None
