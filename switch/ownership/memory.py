"""Ownership in memory, for tests: a name that one object holds at a time."""

from __future__ import annotations

from switch.ownership.port import OwnershipError


class MemoryOwnership:
    """See `switch.ownership.port.Ownership`. Those made with one `holders` dict
    compete for `name` in it."""

    def __init__(self, name: str, holders: dict[str, MemoryOwnership]) -> None:
        self.name = name
        self._holders = holders

    @property
    def held(self) -> bool:
        return self._holders.get(self.name) is self

    def acquire(self) -> None:
        holder = self._holders.setdefault(self.name, self)
        if holder is not self:
            raise OwnershipError(
                f"{self.name} is held by another owner", owner=f"{id(holder):#x}"
            )

    def release(self) -> None:
        if self.held:
            del self._holders[self.name]
