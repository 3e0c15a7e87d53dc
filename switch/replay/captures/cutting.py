"""From chunks to messages.

Rule 1: what the user wrote or saved as frames has to be frames: a fault ends it.
Rule 2: of a network capture, what does not fit is left out and counted. Bytes may be
        missing and the beginning may not be there, so after each fault the next
        segment is tried as the beginning of a frame, which it mostly is.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from switch.link._framing import FrameReader, Framing
from switch.link.errors import FramingError
from switch.replay.captures.chunks import CapturedFrame, Chunk
from switch.replay.errors import CaptureError

# directions of connections with a frame that is not whole yet; the oldest is dropped
STREAMS_MAX: Final = 16_384
NOTE_NOT_FRAMES: Final = "bytes that are no frames, left out"
NOTE_TORN: Final = "bytes of frames that are not whole, left out"


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


def whole_frames(
    chunks: Iterable[Chunk], name: str, framing: Framing
) -> Iterator[CapturedFrame]:
    """Each chunk is a frame."""
    for chunk in chunks:
        body = cut_header(chunk.data, framing)
        if body is None:
            raise CaptureError(
                f"{name}: {chunk.place}: expected one whole {framing.name} frame, got "
                f"{len(chunk.data)} bytes that begin with "
                f"{chunk.data[: framing.header_size].hex()}"
            )
        yield _frame(chunk, body)


def bodies(chunks: Iterable[Chunk]) -> Iterator[CapturedFrame]:
    """Each chunk is a message without a header."""
    for chunk in chunks:
        yield _frame(chunk, chunk.data)


def stream_frames(
    chunks: Iterable[Chunk], name: str, framing: Framing
) -> Iterator[CapturedFrame]:
    """One stream from its first byte to its last."""
    reader = FrameReader(framing)
    count = 0
    for chunk in chunks:
        fault = None
        try:
            found = reader.feed(chunk.data)
        except FramingError as error:
            found, fault = error.frames, error
        for body in found:
            count += 1
            yield CapturedFrame(f"message {count}", body)
        if fault is not None:
            raise CaptureError(f"{name}: behind message {count}: {fault}")
    if reader.pending_size:
        raise CaptureError(
            f"{name}: behind message {count}: expected a whole {framing.name} frame, "
            f"got {reader.pending_size} bytes of one"
        )


def segment_frames(
    chunks: Iterable[Chunk], framing: Framing, notes: Counter[str]
) -> Iterator[CapturedFrame]:
    """Many streams, a chunk being a segment of one of them."""
    readers: OrderedDict[tuple[int, bool | None], FrameReader] = OrderedDict()
    for chunk in chunks:
        key = chunk.connection, chunk.to_switch
        reader = readers.pop(key, None)
        if reader is not None and chunk.is_after_gap:
            _leave(reader, notes)
            reader = None
        reader, found = _feed(reader, chunk.data, framing, notes)
        # what is between two frames needs no reader to remember it
        if reader.pending_size:
            readers[key] = reader
            if len(readers) > STREAMS_MAX:
                _leave(readers.popitem(last=False)[1], notes)
        for body in found:
            yield _frame(chunk, body)
    for reader in readers.values():
        _leave(reader, notes)


def _feed(
    reader: FrameReader | None, data: bytes, framing: Framing, notes: Counter[str]
) -> tuple[FrameReader, list[bytes]]:
    """The frames that `data` completes, and the reader for what comes behind it."""
    if reader is not None:
        begun_size = reader.pending_size
        try:
            return reader, reader.feed(data)
        except FramingError as error:
            if error.frames:
                end = sum(framing.header_size + len(body) for body in error.frames)
                notes[NOTE_NOT_FRAMES] += max(0, begun_size + len(data) - end)
                return FrameReader(framing), error.frames
            # The beginning was none: the segment may still be one by itself.
            notes[NOTE_NOT_FRAMES] += begun_size
    reader = FrameReader(framing)
    try:
        return reader, reader.feed(data)
    except FramingError as error:
        end = sum(framing.header_size + len(body) for body in error.frames)
        notes[NOTE_NOT_FRAMES] += max(0, len(data) - end)
        return FrameReader(framing), error.frames


def _leave(reader: FrameReader, notes: Counter[str]) -> None:
    if reader.pending_size:
        notes[NOTE_TORN] += reader.pending_size


def _frame(chunk: Chunk, body: bytes) -> CapturedFrame:
    return CapturedFrame(
        chunk.place, body, chunk.time_s, chunk.to_switch, chunk.connection
    )
