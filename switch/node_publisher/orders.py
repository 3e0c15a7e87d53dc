"""What a node tells its publisher: lines over standard input.

    a{...}          the session, its shards, and up to where it is released
    r SEGMENT NUMBER    it is released up to there now
    s MILLISECONDS  to finish within that time

Rule: a line that was begun is finished before the next one, however long it takes; what
      is newer by then is in that. So what waits for a slow reader is one line.
"""

import os
from collections.abc import Sequence

import msgspec

from switch.companion.parent import Parent
from switch.journal.cassandra.store import Position

READ_BYTES = 64 * 1024


class Assignment(msgspec.Struct, frozen=True):
    """`shards`: the number of the epoch in which the session has each."""

    session: str = ""
    shards: dict[int, int] = {}
    segment: int = 0
    number: int = 0

    def line(self) -> bytes:
        return b"a" + msgspec.json.encode(self) + b"\n"


def released_line(position: Position) -> bytes:
    return b"r %d %d\n" % (position.segment, position.number)


class Orders(Parent):
    """The publisher's end."""

    def __init__(self, input_descriptor: int, output_descriptor: int) -> None:
        super().__init__(input_descriptor, output_descriptor)
        self.assignment = Assignment()
        self.released = Position(0, 0)
        self._begun = b""

    def hear(self) -> None:
        data = os.read(self._input, READ_BYTES)
        self.is_gone = not data
        *lines, self._begun = (self._begun + data).split(b"\n")
        self.obey(lines)

    def obey(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            kind, rest = line[:1], line[1:]
            if kind == b"a":
                self.assignment = given = msgspec.json.decode(rest, type=Assignment)
                self.released = Position(given.segment, given.number)
            elif kind == b"r":
                self.released = Position(*map(int, rest.split()))
            elif kind == b"s" and rest.isdigit():
                self.stop_within_ms = int(rest)
