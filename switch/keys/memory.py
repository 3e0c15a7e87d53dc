"""Test keys: fixed, so that hashes in tests are the same in every run."""

from __future__ import annotations

from switch.keys.pan import MASTER_KEY_SIZE, MasterKeys


class TestKeys(MasterKeys):
    """See `switch.keys.port.PanKeys`. Another `number` is another key."""

    __slots__ = ()
    __test__ = False  # no test case, whatever its name begins with

    def __init__(self, number: int = 0) -> None:
        super().__init__(number.to_bytes(MASTER_KEY_SIZE, "big"))
