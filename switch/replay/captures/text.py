"""Captures for people: one frame a line, in hex or in base64; `#` begins a comment.

Only the place of a fault is told: a line may hold a card number.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final

from iso8583.records import content_of, decode_base64, decode_hex
from switch.replay.captures.chunks import CaptureFormat, Chunk, ReadOptions, Shape
from switch.replay.errors import CaptureError

# a line may be a frame of 64 KiB in hex, and blanks between its bytes
LINE_SIZE_MAX: Final = 1 << 18


def parse_lines(
    lines: Iterable[str], name: str, decode: Callable[[str], bytes] = decode_hex
) -> Iterator[Chunk]:
    """The bytes of each line that has any; `name` says where a fault is."""
    for number, line in enumerate(lines, start=1):
        text = content_of(line)
        if not text:
            continue
        try:
            data = decode(text)
        except ValueError as error:
            raise CaptureError(f"{name}: line {number}: {error}") from None
        yield Chunk(f"line {number}", data)


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    number = 0
    while line := file.readline(LINE_SIZE_MAX + 1):
        number += 1
        if len(line) > LINE_SIZE_MAX:
            raise CaptureError(
                f"{name}: line {number}: expected at most {LINE_SIZE_MAX} characters, "
                "got more"
            )
        yield line.decode("utf-8", "replace")


def _reader(
    decode: Callable[[str], bytes],
) -> Callable[[BinaryIO, str, ReadOptions, Counter[str]], Iterator[Chunk]]:
    def read(
        file: BinaryIO, name: str, _options: ReadOptions, _notes: Counter[str]
    ) -> Iterator[Chunk]:
        return parse_lines(_lines(file, name), name, decode)

    return read


def _recogniser(
    decode: Callable[[str], bytes], why: str
) -> Callable[[bytes], str | None]:
    def recognise(head: bytes) -> str | None:
        whole, newline, rest = head.rpartition(b"\n")
        lines = (whole if newline else rest).decode("utf-8", "replace").splitlines()
        texts = [text for line in lines if (text := content_of(line))]
        try:
            for text in texts:
                decode(text)
        except ValueError:
            return None
        return why if texts else None

    return recognise


HEX: Final = CaptureFormat(
    name="hex",
    shape=Shape.FRAME,
    recognise=_recogniser(decode_hex, "its lines are hex digits"),
    read=_reader(decode_hex),
)
BASE64: Final = CaptureFormat(
    name="base64",
    shape=Shape.FRAME,
    recognise=_recogniser(decode_base64, "its lines are base64"),
    read=_reader(decode_base64),
)
