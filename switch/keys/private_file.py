"""Small files that hold keys.

Rule 1: they are read by their owner alone; any wider mode is refused.
Rule 2: a file is written as a whole, under another name first, and durable before it
        has its own. Whoever is killed when, there is the old content or the new.
"""

from __future__ import annotations

import errno
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


def write(file: Path, data: bytes) -> None:
    """Raises OSError. The caller sees to it that nobody else writes it."""
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            # A full disk may take a part without an error.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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
