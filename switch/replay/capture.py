"""Captures: one frame a line, in hex, length header included; `#` begins a comment."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from switch.link._framing import FrameReader, Framing
from switch.link.errors import FramingError
from switch.replay.errors import CaptureError

HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


class CapturedFrame(msgspec.Struct, frozen=True):
    """What a line holds; the message alone once the header is cut off."""

    line: int
    body: bytes

    # Card data never reaches a log by way of a traceback.
    def __repr__(self) -> str:
        return f"CapturedFrame(line={self.line}, {len(self.body)} bytes)"


def read_capture(path: Path, framing: Framing) -> Iterator[CapturedFrame]:
    """The messages of a file, their length headers cut off."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for frame in parse_lines(file, str(path)):
            body = cut_header(frame.body, framing)
            if body is None:
                raise CaptureError(
                    f"{path}: line {frame.line}: expected one whole {framing.name} "
                    f"frame, got {len(frame.body)} bytes that begin with "
                    f"{frame.body[: framing.header_size].hex()}"
                )
            yield CapturedFrame(frame.line, body)


def parse_lines(lines: Iterable[str], name: str) -> Iterator[CapturedFrame]:
    """The bytes of each line that has any; `name` says where a fault is."""
    for number, line in enumerate(lines, start=1):
        text = "".join(line.partition("#")[0].split())
        if not text:
            continue
        # Only the position of a fault is told: the line may hold a card number.
        for position, character in enumerate(text, start=1):
            if character not in HEX_DIGITS:
                raise CaptureError(
                    f"{name}: line {number}: expected hex digits, "
                    f"got another character at {position}"
                )
        if len(text) % 2:
            raise CaptureError(
                f"{name}: line {number}: expected an even number of hex digits, "
                f"got {len(text)}"
            )
        yield CapturedFrame(number, bytes.fromhex(text))


def cut_header(frame: bytes, framing: Framing) -> bytes | None:
    """The body, if these bytes are exactly one frame."""
    reader = FrameReader(framing)
    try:
        bodies = reader.feed(frame)
    except FramingError:
        return None
    if len(bodies) != 1 or reader.pending_size:
        return None
    return bodies[0]
