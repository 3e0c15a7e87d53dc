"""Structured input made from a fuzzer's bytes.

Every byte string is an input, and a small change of it is a small change of what is
made: so coverage leads the fuzzer through structures as it does through bytes.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Reads bytes from the front; behind the end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self, most: int) -> int:
        """From 0 to `most`, which is below 65536."""
        value = self.byte()
        if most > 255:
            value = value << 8 | self.byte()
        return value % (most + 1)

    def pick(self, values: Sequence[T]) -> T:
        return values[self.number(len(values) - 1)]

    def some(self, most: int = 255) -> bytes:
        """So many bytes as the next one says."""
        size = self.number(most)
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        taken = self._data[self._at :]
        self._at = len(self._data)
        return taken
