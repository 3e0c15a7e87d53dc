"""The released head: the last commit whose replies may have left.

Layout of the file `released`, little-endian:

    offset  size  what
    0       8     magic "swRELSD1"
    8       8     number of the last commit that is durable and may be answered from
    16      8     the same number, every bit inverted

Rule 1: it is written when the commit is durable, just before its replies go, through a
        shared mapping, and never synced. After a killed process it names every commit
        that anybody was answered from; after a power loss it may be any older value,
        or gone.
Rule 2: therefore the journal may be ahead of it and never behind it. A journal that
        ends before it has lost commits that were answered.
Rule 3: a torn or damaged file bounds less, never more: the smaller of the two
        numbers counts, and a file that is no such file counts as 0.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from switch.files import sync_directory

MAGIC = b"swRELSD1"
SIZE = 24
_MASK = 2**64 - 1
_LAYOUT = struct.Struct("<8sQQ")

assert _LAYOUT.size == SIZE


def lower_bound(path: str | os.PathLike[str]) -> int:
    """What the file says was answered, for checks; 0 when it says nothing."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return 0
    if len(data) != SIZE:
        return 0
    magic, number, inverted = _LAYOUT.unpack(data)
    return min(number, inverted ^ _MASK) if magic == MAGIC else 0


def create(path: str | os.PathLike[str]) -> None:
    """A durable file that says 0, if there is none."""
    if not Path(path).exists():
        Released(path).close()
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
        sync_directory(Path(path).parent)


class Released:
    """One writer, which advances it; any number of readers in other processes."""

    __slots__ = ("_map", "_words", "path", "read_only")

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool = False
    ) -> None:
        self.path = os.fspath(path)
        self.read_only = read_only
        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            if not read_only:
                bound = lower_bound(path)
                os.pwrite(descriptor, _LAYOUT.pack(MAGIC, bound, bound ^ _MASK), 0)
                os.ftruncate(descriptor, SIZE)
            access = mmap.ACCESS_READ if read_only else mmap.ACCESS_WRITE
            self._map = mmap.mmap(descriptor, SIZE, access=access)
        finally:
            os.close(descriptor)
        # An aligned 8-byte store: a reader sees the old number or the new one.
        self._words = memoryview(self._map).cast("Q")

    @property
    def number(self) -> int:
        return self._words[1]

    def advance(self, number: int) -> None:
        """Commit `number` is durable; call it before its replies are handed over."""
        words = self._words
        assert number >= words[1], (number, words[1])
        words[1] = number
        words[2] = number ^ _MASK

    def close(self) -> None:
        self._words.release()
        self._map.close()
