"""What somebody pasted, piped or saved, as the bytes of messages.

Text may be hex or base64, a record a line, or a message itself: some messages are
nothing but digits. So an input can often be read in several ways; which one is right
shows when somebody tries to make messages of it.
"""

import io
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec

import iso8583
from switch.link._framing import Framing
from switch.link.guess import cut
from switch.replay.captures import Capture, ReadOptions, Shape, recognise
from switch.replay.captures.binary import BINARY
from switch.replay.captures.chunks import HEAD_SIZE, CapturedFrame, Chunk
from switch.replay.captures.text import BASE64, HEX
from switch.replay.errors import CaptureError

# an hour of a busy line; what is longer is for `switch replay`, which reads as it goes
INPUT_SIZE_MAX: Final = 64 << 20
TEXT_FORMS: Final = (HEX.name, BASE64.name, BINARY.name)
# of each direction of a connection, to guess by
STREAM_SAMPLE_MAX: Final = 1 << 16


class Reading(msgspec.Struct, frozen=True):
    """One way to read an input."""

    form: str
    #: frames, each with its length header if there is one; of streams, their beginnings
    records: list[bytes]
    #: why it cannot be read this way; then there are no records
    fault: str = ""
    #: frames of a record may be torn, and its first bytes missing
    is_torn: bool = False
    #: messages without a length header, whatever the framing was
    is_bare: bool = False
    capture: Capture | None = None
    chunks: list[Chunk] = []

    def frames(self, framing: Framing | None) -> Iterator[CapturedFrame]:
        """The messages; an empty body stands for a record that isn't whole frames."""
        if self.is_torn:
            assert self.capture is not None
            yield from self.capture.frames(framing)
            return
        for chunk in self.chunks:
            bodies = cut(chunk.data, framing) or [b""]
            for number, body in enumerate(bodies, start=1):
                place = chunk.place if len(bodies) == 1 else f"message {number}"
                yield CapturedFrame(place, body)


def readings(
    data: bytes, name: str, codec: iso8583.Codec, form: str | None = None
) -> list[Reading]:
    """Every way to read it, or the one that is told; the likeliest first.

    `name` says where a fault is. `codec` makes bytes of logs that hold fields.
    """
    if len(data) > INPUT_SIZE_MAX:
        raise CaptureError(f"{name}: expected at most {INPUT_SIZE_MAX} bytes")
    forms = _forms(data, name) if form is None else [form]
    return [_reading(data, name, codec, one) for one in forms]


def _forms(data: bytes, name: str) -> list[str]:
    try:
        found, _why = recognise(data[:HEAD_SIZE], name)
    except CaptureError:
        return list(TEXT_FORMS)
    if found.name not in TEXT_FORMS:
        return [found.name]
    return list(TEXT_FORMS) if _is_text(data) else [BINARY.name]


def _is_text(data: bytes) -> bool:
    return data.isascii() and not any(c < 0x20 and c not in b"\t\r\n" for c in data)


def _reading(data: bytes, name: str, codec: iso8583.Codec, form: str) -> Reading:
    if form == BINARY.name:
        # an editor ends the last line of a message that is text
        data = data.rstrip(b"\r\n") if data.isascii() else data
    options = ReadOptions(codec=codec)
    capture = Capture(io.BytesIO(data), name, options, form)
    try:
        chunks = list(capture.chunks())
    except CaptureError as error:
        return Reading(form, [], str(error))
    if not chunks:
        return Reading(form, [], f"{name}: expected a message, got none")
    if form == BINARY.name:
        chunks = [Chunk("message 1", data)]
    is_torn = capture.format.shape is Shape.STREAM and form != BINARY.name
    return Reading(
        form,
        _streams(chunks) if is_torn else [chunk.data for chunk in chunks],
        is_torn=is_torn,
        is_bare=capture.format.shape is Shape.BODY,
        capture=capture,
        chunks=chunks,
    )


def _streams(chunks: list[Chunk]) -> list[bytes]:
    """What each side of each connection sends, up to its first gap."""
    streams: dict[tuple[int, bool | None], bytearray] = defaultdict(bytearray)
    closed = set()
    for chunk in chunks:
        key = chunk.connection, chunk.to_switch
        if streams[key] and chunk.is_after_gap:
            closed.add(key)
        if key not in closed and len(streams[key]) < STREAM_SAMPLE_MAX:
            streams[key] += chunk.data
    return [bytes(stream) for stream in streams.values()]
