"""The ownership port: who may write."""

from __future__ import annotations

import os
from typing import Protocol


class OwnershipError(Exception):
    """Raised when another owner is there, or when it cannot be found out."""

    def __init__(
        self,
        what: str,
        *,
        path: str | os.PathLike[str] | None = None,
        owner: str | None = None,
    ) -> None:
        self.path = None if path is None else os.fspath(path)
        self.owner = owner
        super().__init__(what)


class Ownership(Protocol):
    """Held from `acquire` to `release`, or to the end of the process."""

    @property
    def held(self) -> bool: ...

    def acquire(self) -> None:
        """Returns as the only owner, or raises OwnershipError at once."""

    def release(self) -> None: ...
