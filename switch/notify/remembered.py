"""Which pushes were dealt with: the last of them, over a restart too with a file.

    16-3          a line for each, in their order

Rule 1: an id is written when its push was dealt with. What is not there yet when the
        process ends, or the power goes, is dealt with once more.
Rule 2: the file is bounded: when it has twice as many lines as are remembered, it is
        written anew.
"""

import fcntl
import os
from collections import OrderedDict
from pathlib import Path

from switch.files import replace_private

# Ids of others, which may be anything, are remembered while the process lives.
WRITTEN_CHARACTERS_MAX = 64


class RememberedError(Exception):
    """What was expected, what came, where."""


class Remembered:
    """Without a `path` only for as long as it lives."""

    def __init__(self, ids_max: int, path: Path | None = None) -> None:
        self._ids_max = ids_max
        self._path = path
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._descriptor = -1
        self._lines = 0
        if path is not None:
            self._lock = _locked(path)
            self._load(path)

    def __contains__(self, push_id: str) -> bool:
        return push_id in self._ids

    def add(self, push_id: str) -> None:
        self._keep(push_id)
        if self._descriptor >= 0 and _may_be_written(push_id):
            os.write(self._descriptor, push_id.encode() + b"\n")
            self._lines += 1
            if self._lines >= 2 * self._ids_max:
                self._write_anew()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            os.close(self._lock)
            self._descriptor = -1

    def _keep(self, push_id: str) -> None:
        self._ids[push_id] = None
        self._ids.move_to_end(push_id)
        if len(self._ids) > self._ids_max:
            self._ids.popitem(last=False)

    def _load(self, path: Path) -> None:
        text = path.read_bytes() if path.exists() else b""
        # A line that was torn by the end of a process has no line feed.
        for line in text.split(b"\n")[:-1]:
            push_id = line.decode("utf-8", "replace")
            if _may_be_written(push_id):
                self._keep(push_id)
        self._write_anew()

    def _write_anew(self) -> None:
        assert self._path is not None
        written = [each for each in self._ids if _may_be_written(each)]
        replace_private(self._path, "".join(f"{each}\n" for each in written).encode())
        if self._descriptor >= 0:
            os.close(self._descriptor)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags)
        self._lines = len(written)


def _may_be_written(push_id: str) -> bool:
    return len(push_id) <= WRITTEN_CHARACTERS_MAX and push_id.isprintable()


def _locked(path: Path) -> int:
    lock = path.with_name(path.name + ".lock")
    descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RememberedError(
            f"expected to be the only one to use {path}, got another process"
        ) from None
    return descriptor
