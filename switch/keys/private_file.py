"""Small files that hold keys.

Rule 1: they are read by their owner alone; any wider mode is refused.
Rule 2: they are replaced as a whole (`switch.files.replace_private`), by one process at
        a time.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from switch.keys.port import KeysError

_GROUP_AND_OTHERS = 0o077


def read(file: Path, what: str, size_max: int) -> bytes:
    """At most `size_max` bytes; none of what is no plain file."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KeysError(f"{what} {file} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        data = b""
        if stat.S_ISREG(status.st_mode):
            data = os.read(descriptor, size_max)
    finally:
        os.close(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    if mode & _GROUP_AND_OTHERS:
        raise KeysError(
            f"{what} {file} is open to others: expected mode 0600, got {mode:04o}"
        )
    return data


@contextmanager
def changing(file: Path) -> Iterator[None]:
    """One process at a time; the others wait. The directory is what is locked: the
    file becomes another one."""
    try:
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeysError(
            f"directory {file.parent} cannot be used: {error.strerror}"
        ) from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise KeysError(
            f"key file {file} cannot be written: {error.strerror}"
        ) from error
    finally:
        os.close(directory)
