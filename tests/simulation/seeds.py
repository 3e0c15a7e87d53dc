"""Which seeds a simulation runs with: a few by default, more where somebody asks.

SIMULATION_SEEDS=1-500 scripts/test tests/simulation    # looks further
SIMULATION_SEEDS=137 scripts/test tests/simulation      # one that failed, again
"""

import os


def seeds(count: int) -> list[int]:
    """`count` of them by default. A test that takes one has it in its name, so that
    what failed says how to see it again."""
    first, _, last = os.environ.get("SIMULATION_SEEDS", f"1-{count}").partition("-")
    return list(range(int(first), int(last or first) + 1))
