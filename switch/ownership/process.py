"""Ownership of a data directory by one process: an exclusive lock on DIR/lock.

Rule 1: the kernel's lock decides, and ends with the process however that ends. The
        pid in the file is for people only: a file with a pid and no lock is free.
Rule 2: the file is never removed. A second process could otherwise lock a new file
        of the same name while the first still holds the old one.
Rule 3: a forked child does not inherit ownership: it would hold the lock for as long
        as it lives. (A child that execs loses it by O_CLOEXEC.)
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from switch.ownership.port import OwnershipError

_OWNER_BYTES_MAX = 64
_held: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


class ProcessLock:
    """See `switch.ownership.port.Ownership`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        assert not self.held, "acquired twice"
        directory = self.path.parent
        try:
            descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise OwnershipError(
                f"data directory {directory} cannot be locked: expected a directory "
                f"that this user may write, got {error.strerror} ({self.path})",
                path=self.path,
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(descriptor)
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise OwnershipError(
                    f"data directory {directory} cannot be locked: expected a file "
                    f"system with locks, got {error.strerror} ({self.path})",
                    path=self.path,
                ) from error
            raise OwnershipError(
                f"data directory {directory} is in use by process {owner}: expected "
                f"it to be free, got a lock on {self.path}",
                path=self.path,
                owner=owner,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        if self._descriptor is not None:
            # Not by closing alone: a child forked a moment ago has a copy still.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._abandon()

    def _abandon(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)


def _owner(descriptor: int) -> str:
    text = os.pread(descriptor, _OWNER_BYTES_MAX, 0).decode("ascii", "replace").strip()
    return text if text.isdigit() else "unknown"


def _forked() -> None:
    for lock in list(_held):
        lock._abandon()  # this child's copy; the parent's stays locked


os.register_at_fork(after_in_child=_forked)
