"""Which answer is whose: message type, then fields 11, 7, 32 and 37.

An answer has the type that was expected, and its request's STAN. Transmission time,
acquirer and RRN have to be the same where both have them. Of several requests that fit,
the oldest is the one answered.
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import iso8583

Value = TypeVar("Value")
_Marks = tuple[str, ...]

STAN: Final = 11
MARKS: Final = (7, 32, 37)


def text_of(message: iso8583.Message, field: int) -> str:
    """The field; empty when it is not there or cannot be read."""
    try:
        return message.get(field, "")
    except iso8583.DecodeError:
        return ""


class Entry(Generic[Value]):
    """A request that waits for its answer, with whatever belongs to it."""

    __slots__ = ("key", "marks", "value")

    def __init__(self, answer_mti: str, request: iso8583.Message, value: Value) -> None:
        self.key = answer_mti, text_of(request, STAN)
        self.marks: _Marks = tuple(text_of(request, field) for field in MARKS)
        self.value = value


class Waiting(Generic[Value]):
    """The requests that wait for their answers, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[Entry[Value], None] = {}
        self._by_key: dict[tuple[str, str], list[Entry[Value]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[Value]]:
        return iter(self._entries)

    def add(
        self, answer_mti: str, request: iso8583.Message, value: Value
    ) -> Entry[Value]:
        entry = Entry(answer_mti, request, value)
        self._entries[entry] = None
        self._by_key.setdefault(entry.key, []).append(entry)
        return entry

    def take(self, answer: iso8583.Message, mti: str = "") -> Value | None:
        """What waited for this answer; it waits no longer. `mti`: for one that has
        another type than the answer that is waited for."""
        marks = tuple(text_of(answer, field) for field in MARKS)
        for entry in self._by_key.get((mti or answer.mti, text_of(answer, STAN)), ()):
            pairs = zip(entry.marks, marks, strict=True)
            if all(ours == theirs for ours, theirs in pairs if ours and theirs):
                self.discard(entry)
                return entry.value
        return None

    def discard(self, entry: Entry[Value]) -> None:
        if entry not in self._entries:
            return
        del self._entries[entry]
        alike = self._by_key[entry.key]
        alike.remove(entry)
        if not alike:
            del self._by_key[entry.key]
