"""Captures: files of messages that came off a network, in whatever format.

A module for each format makes chunks of a file (chunks.py); cutting.py makes messages
of chunks. A format is recognised by the file's content, or given by its name.

    with Capture.open(path, ReadOptions(codec=codec)) as capture:
        for frame in capture.frames(Framing("binary2")):
            ...
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from switch.link._framing import Framing
from switch.replay.captures import cutting
from switch.replay.captures.binary import BINARY
from switch.replay.captures.chunks import (
    HEAD_SIZE,
    CapturedFrame,
    CaptureFormat,
    Chunk,
    ReadOptions,
    Shape,
)
from switch.replay.captures.jpos import JPOS
from switch.replay.captures.network import PCAP, PCAPNG
from switch.replay.captures.text import BASE64, HEX
from switch.replay.errors import CaptureError

__all__ = [
    "FORMATS",
    "Capture",
    "CaptureFormat",
    "CapturedFrame",
    "Chunk",
    "ReadOptions",
    "Shape",
    "format_named",
    "recognise",
]

#: in the order in which they are tried: hex is base64 as well
FORMATS: Final = (PCAPNG, PCAP, JPOS, HEX, BASE64, BINARY)


def format_named(name: str) -> CaptureFormat:
    for each in FORMATS:
        if each.name == name:
            return each
    expected = ", ".join(each.name for each in FORMATS)
    raise CaptureError(f"format: expected one of {expected}, got {name!r}")


def recognise(head: bytes, name: str) -> tuple[CaptureFormat, str]:
    """The format of a file that begins so, and why it is that one."""
    for each in FORMATS:
        if why := each.recognise(head):
            return each, why
    expected = ", ".join(each.name for each in FORMATS)
    raise CaptureError(
        f"{name}: expected a capture ({expected}), got "
        f"{'other text' if head else 'an empty file'}"
    )


class Capture:
    """An open capture; may be read more than once, from its beginning each time."""

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        options: ReadOptions | None = None,
        format_name: str | None = None,
    ) -> None:
        """`file` has to be one that can seek; it is closed with the capture."""
        self.name = name
        self.size = file.seek(0, os.SEEK_END)
        #: what was left out, and how many times
        self.notes: Counter[str] = Counter()
        self._file = file
        self._options = options or ReadOptions()
        file.seek(0)
        if format_name is None:
            self.format, self.why = recognise(file.read(HEAD_SIZE), name)
        else:
            self.format, self.why = format_named(format_name), "it was told"

    @classmethod
    def open(
        cls,
        path: Path,
        options: ReadOptions | None = None,
        format_name: str | None = None,
    ) -> Self:
        file = path.open("rb")
        try:
            return cls(file, str(path), options, format_name)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        """How many bytes of the file have been read."""
        return self._file.tell()

    def chunks(self) -> Iterator[Chunk]:
        self._file.seek(0)
        self.notes.clear()
        return self.format.read(self._file, self.name, self._options, self.notes)

    def frames(self, framing: Framing | None) -> Iterator[CapturedFrame]:
        """The messages. `framing` None: what the file holds has no length headers."""
        chunks = self.chunks()
        if self.format.shape is Shape.BODY:
            return cutting.bodies(chunks)
        if self.format.shape is Shape.FRAME:
            if framing is None:
                return cutting.bodies(chunks)
            return cutting.whole_frames(chunks, self.name, framing)
        if framing is None:
            raise CaptureError(
                f"{self.name}: expected a framing to cut messages of a stream, got none"
            )
        if self.format is BINARY:
            return cutting.stream_frames(chunks, self.name, framing)
        return cutting.segment_frames(chunks, framing, self.notes)
