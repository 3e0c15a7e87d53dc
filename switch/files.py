"""Files that are there after a power loss, with their names."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: str | os.PathLike[str], data: bytes) -> None:
    """A new file for its owner alone, its content durable; not yet its name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            # A full disk may take a part without an error.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_private(path: Path, data: bytes) -> None:
    """The same in place of a file that there may be, and durable with its name. Whoever
    is killed when, there is the old content or the new."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    write_private(draft, data)
    draft.rename(path)
    sync_directory(path.parent)
