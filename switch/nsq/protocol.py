"""The protocol of nsqd: bytes to frames, and commands to bytes. No socket here.

    command   NAME[ PARAMETER]...\\n, then for some: size (4), body
    frame     size (4) of what follows: type (4), data
    message   nanoseconds since 1970 (8), attempts (2), id (16), body

Numbers are big-endian.

Rule 1: whatever bytes come, there are frames, or NsqProtocolError; never another error,
        and never more kept than a frame.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from switch.nsq.errors import NsqProtocolError

MAGIC: Final = b"  V2"
NOP: Final = b"NOP\n"
CLOSE: Final = b"CLS\n"
HEARTBEAT: Final = b"_heartbeat_"
OK: Final = b"OK"
CLOSING: Final = b"CLOSE_WAIT"
# A message is a mebibyte at most by default; nsqd says nothing else that is long.
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
NAME_PATTERN: Final = r"^[.a-zA-Z0-9_-]{1,64}(#ephemeral)?$"
MESSAGE_ID_BYTES: Final = 16

_SIZE = struct.Struct(">I")
_HEAD = struct.Struct(">II")
_MESSAGE = struct.Struct(">QH16s")
_TYPE_BYTES = 4


class FrameType(IntEnum):
    RESPONSE = 0
    ERROR = 1
    MESSAGE = 2


class Frame(NamedTuple):
    type: FrameType
    data: bytes


class Message(NamedTuple):
    body: bytes
    id: bytes
    # Which delivery this is, from 1.
    attempts: int
    timestamp_ns: int


class Frames:
    """Feed bytes, get the frames that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        buffer = self._buffer
        buffer += data
        begin = 0
        try:
            while len(buffer) - begin >= _HEAD.size:
                size, number = _HEAD.unpack_from(buffer, begin)
                _check(size, number)
                end = begin + _SIZE.size + size
                if len(buffer) < end:
                    break
                data = bytes(buffer[begin + _HEAD.size : end])
                begin = end
                yield Frame(FrameType(number), data)
        finally:
            del buffer[:begin]


def _check(size: int, number: int) -> None:
    if not _TYPE_BYTES <= size <= FRAME_BYTES_MAX:
        raise NsqProtocolError(
            f"expected a frame of {_TYPE_BYTES} to {FRAME_BYTES_MAX} bytes, got {size}"
        )
    if number > max(FrameType):
        raise NsqProtocolError(f"expected a type up to {max(FrameType)}, got {number}")


def message_of(frame: Frame) -> Message:
    if len(frame.data) < _MESSAGE.size:
        raise NsqProtocolError(
            f"expected a message of at least {_MESSAGE.size} bytes, got "
            f"{len(frame.data)}"
        )
    timestamp_ns, attempts, message_id = _MESSAGE.unpack_from(frame.data)
    return Message(frame.data[_MESSAGE.size :], message_id, attempts, timestamp_ns)


# -- commands


def identify(about: Mapping[str, object]) -> bytes:
    return b"IDENTIFY\n" + _sized(msgspec.json.encode(about))


def publish_many(topic: str, bodies: Sequence[bytes]) -> bytes:
    parts = [_SIZE.pack(len(bodies))]
    for body in bodies:
        parts += (_SIZE.pack(len(body)), body)
    return b"MPUB %s\n" % topic.encode() + _sized(b"".join(parts))


def subscribe(topic: str, channel: str) -> bytes:
    return f"SUB {topic} {channel}\n".encode()


def ready(count: int) -> bytes:
    return b"RDY %d\n" % count


def finish(message_id: bytes) -> bytes:
    return b"FIN %s\n" % message_id


def requeue(message_id: bytes, delay_ms: int) -> bytes:
    return b"REQ %s %d\n" % (message_id, delay_ms)


def touch(message_id: bytes) -> bytes:
    return b"TOUCH %s\n" % message_id


def _sized(body: bytes) -> bytes:
    return _SIZE.pack(len(body)) + body
