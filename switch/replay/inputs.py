"""What somebody pasted, piped or saved, as the bytes of messages.

Text may be hex or base64, a record a line, or a message itself: some messages are
nothing but digits. So an input can often be read in several ways; which one is right
shows when somebody tries to make messages of it.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from switch.replay.capture import CapturedFrame, parse_lines
from switch.replay.errors import CaptureError

HEX: Final = "hex"
BASE64: Final = "base64"
BINARY: Final = "binary"
INPUT_FORMS: Final = (HEX, BASE64, BINARY)
# an hour of a busy line; what is longer is for `switch replay`, which reads as it goes
INPUT_SIZE_MAX: Final = 64 << 20


class Reading(msgspec.Struct, frozen=True):
    """One way to read an input; each frame is a record of one frame or several."""

    form: str
    frames: list[CapturedFrame]
    #: why it cannot be read this way; then there are no frames
    fault: str = ""


def readings(data: bytes, name: str, form: str | None = None) -> list[Reading]:
    """Every way to read it, or the one that is told; the likeliest first.

    `name` says where a fault is.
    """
    if len(data) > INPUT_SIZE_MAX:
        raise CaptureError(f"{name}: expected at most {INPUT_SIZE_MAX} bytes")
    if form is not None:
        return [_reading(data, name, form)]
    return [
        _reading(data, name, one)
        for one in INPUT_FORMS
        if one == BINARY or _is_text(data)
    ]


def _is_text(data: bytes) -> bool:
    return data.isascii() and not any(c < 0x20 and c not in b"\t\r\n" for c in data)


def _reading(data: bytes, name: str, form: str) -> Reading:
    try:
        frames = list(_read(data, name, form))
    except CaptureError as error:
        return Reading(form, [], str(error))
    fault = "" if frames else f"{name}: expected a message, got none"
    return Reading(form, frames, fault)


def _read(data: bytes, name: str, form: str) -> Iterable[CapturedFrame]:
    if form == BINARY:
        # an editor ends the last line of a message that is text
        body = data.rstrip(b"\r\n") if data.isascii() else data
        return [CapturedFrame(1, body)] if body else []
    lines = data.decode("latin-1").splitlines()
    return parse_lines(lines, name) if form == HEX else _base64_lines(lines, name)


def _base64_lines(lines: Iterable[str], name: str) -> Iterator[CapturedFrame]:
    for number, line in enumerate(lines, start=1):
        text = "".join(line.partition("#")[0].split())
        if not text:
            continue
        try:
            yield CapturedFrame(number, base64.b64decode(text, validate=True))
        except binascii.Error:
            # what it says would quote the line's size only, but not where it is
            raise CaptureError(
                f"{name}: line {number}: expected base64, got {len(text)} characters "
                "that are not"
            ) from None
