"""How nodes frame what they say to each other. Sans I/O; big-endian.

    size    4 bytes, of what follows
    kind    1
    link    1   the link's place in the HELLO of whoever asks
    shard   2   in which it is to be decided
    number  8   of the request; an answer has that of its request
    ms      4   left until the deadline: never a time of day, clocks differ
    body

What a native module packs itself is in `ext/switch/peer/_replies.pyx`, the same.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from switch.peer._replies import ANSWER_KIND, HEADER_SIZE
from switch.peer.errors import PeerProtocolError

VERSION = 1
# A message of a link has at most this many bytes; nothing else is longer.
BODY_SIZE_MAX = 65_535

_HEADER = struct.Struct(">IBBHQI")
_SIZE_BYTES = 4


class Kind(IntEnum):
    HELLO = 1  # who is there, and what its links are
    REQUEST = 2  # a message to decide
    ANSWER = 3  # the reply to it, durable
    VOID = 4  # a message that was answered 91: make that true; its ANSWER says it is
    NOT_MINE = 5  # the shard is elsewhere; the body is the owner's name, if known
    REFUSED = 6  # not decided, and why: field 39, then words
    PING = 7
    PONG = 8
    CALL = 9  # what is no message of a link, see `switch.peer.calls`
    RESULT = 10  # of a call


assert _HEADER.size == HEADER_SIZE
assert ANSWER_KIND == Kind.ANSWER
_KINDS = {int(kind): kind for kind in Kind}


class Frame(NamedTuple):
    kind: Kind
    link: int
    shard: int
    number: int
    left_ms: int
    body: bytes


def pack(
    kind: Kind,
    body: bytes = b"",
    *,
    link: int = 0,
    shard: int = 0,
    number: int = 0,
    left_ms: int = 0,
) -> bytes:
    assert len(body) <= BODY_SIZE_MAX
    size = HEADER_SIZE - _SIZE_BYTES + len(body)
    return _HEADER.pack(size, kind, link, shard, number, left_ms) + body


class FrameReader:
    """Feed bytes, get frames."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Raises PeerProtocolError."""
        if self._partial:
            data = self._partial + data
        frames = []
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE:
            size, number_of_kind, link, shard, number, left_ms = _HEADER.unpack_from(
                data, at
            )
            body_size = size + _SIZE_BYTES - HEADER_SIZE
            if not 0 <= body_size <= BODY_SIZE_MAX:
                raise PeerProtocolError(
                    "frame of a node", f"a body up to {BODY_SIZE_MAX} bytes", body_size
                )
            kind = _KINDS.get(number_of_kind)
            if kind is None:
                raise PeerProtocolError(
                    "frame of a node", f"a kind from 1 to {len(Kind)}", number_of_kind
                )
            body_at = at + HEADER_SIZE
            if end - body_at < body_size:
                break
            at = body_at + body_size
            frames.append(Frame(kind, link, shard, number, left_ms, data[body_at:at]))
        self._partial = data[at:]
        return frames
