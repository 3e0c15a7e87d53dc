"""Every seed, and every input that a fuzzer once failed on, goes through its target."""

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_what_was_found_hold(target):
    known = seeds(target)
    assert known
    for seed in known:
        TARGETS[target](seed)
        # Cut and flipped, too: what a fuzzer does first.
        for at in range(0, len(seed), 7):
            TARGETS[target](seed[:at])
            TARGETS[target](seed[:at] + bytes([seed[at] ^ 0x81]) + seed[at + 1 :])
