"""What every capture format is read as: chunks, in the order of the capture.

A chunk is bytes that one side of one connection sent, with all that the file tells
about them. What a chunk holds depends on the format's shape; cutting.py makes messages
of all three.
"""

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import msgspec

import iso8583

#: so much of a file is looked at to recognise its format
HEAD_SIZE: Final = 4096


class Shape(enum.Enum):
    """What a chunk of a format holds."""

    FRAME = enum.auto()  # one whole frame, length header included
    STREAM = enum.auto()  # a piece of a stream, cut anywhere
    BODY = enum.auto()  # one message, which never had a length header


class Chunk(msgspec.Struct, frozen=True, gc=False):
    #: where in the file, for people: `line 3`, `packet 17`
    place: str
    data: bytes
    #: seconds since 1970; None: the format does not tell
    time_s: float | None = None
    #: sent to the switch, or by it; None: the format does not tell
    to_switch: bool | None = None
    #: counted from 0 in the order in which connections appear
    connection: int = 0
    #: bytes of the stream before it are not in the capture
    is_after_gap: bool = False

    # Card data never reaches a log by way of a traceback.
    def __repr__(self) -> str:
        return f"Chunk({self.place}, {len(self.data)} bytes)"


class CapturedFrame(msgspec.Struct, frozen=True, gc=False):
    """One message, its length header cut off; the other fields as of a chunk."""

    place: str
    body: bytes
    time_s: float | None = None
    to_switch: bool | None = None
    connection: int = 0

    def __repr__(self) -> str:
        return f"CapturedFrame({self.place}, {len(self.body)} bytes)"


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader is told besides the file."""

    #: for formats that hold fields instead of bytes
    codec: iso8583.Codec | None = None
    #: of a network capture: the port that the switch listens on, or dials
    port: int | None = None
    #: the switch dialled the other side, and not the other side the switch
    switch_dials: bool = False


class CaptureFormat(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    shape: Shape
    #: from the file's first bytes: why they are of this format, or None
    recognise: Callable[[bytes], str | None]
    read: Callable[[BinaryIO, str, ReadOptions, Counter[str]], Iterator[Chunk]]
