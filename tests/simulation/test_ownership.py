"""Any number of seeds: see `tests.simulation.ownership`."""

import pytest

from tests.simulation.ownership import World
from tests.simulation.seeds import seeds


@pytest.mark.parametrize("seed", seeds(60))
def test_two_never_rely_on_the_same_and_all_is_well_in_the_end(seed):
    world = World(seed)
    world.run()
    assert world.auditor.relied > 1000
    assert world.locked > 0
