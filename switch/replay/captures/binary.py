"""A stream as it was on the wire: frames one behind the other, in any framing."""

from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, Final

from switch.replay.captures.chunks import CaptureFormat, Chunk, ReadOptions, Shape

READ_SIZE: Final = 65536


def read(
    file: BinaryIO, _name: str, _options: ReadOptions, _notes: Counter[str]
) -> Iterator[Chunk]:
    offset = 0
    while data := file.read(READ_SIZE):
        yield Chunk(f"offset {offset}", data)
        offset += len(data)


def recognise(head: bytes) -> str | None:
    """Whatever is not text: only the framing can tell more."""
    try:
        text = head.decode("ascii")
    except UnicodeDecodeError:
        return "it is not text"
    if text.isprintable() and text:
        return "it has no line ends"
    if any(
        not character.isprintable() and character not in "\t\r\n" for character in text
    ):
        return "it is not text"
    return None


BINARY: Final = CaptureFormat(
    name="binary", shape=Shape.STREAM, recognise=recognise, read=read
)
