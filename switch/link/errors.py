"""What can go wrong on a link.

LinkError
+-- FramingError        the peer's bytes are not frames: the stream is lost
+-- FrameTooLongError   we were asked to send more than the framing can carry
+-- ListenError         the address cannot be listened on
+-- NoFramesError       some bytes are whole frames in no framing
"""

from __future__ import annotations


class LinkError(Exception):
    """Base of every error of a link."""


class FramingError(LinkError):
    """The bytes at `offset` of the stream cannot be the start of a frame."""

    def __init__(self, framing: str, offset: int, expected: str, got: str) -> None:
        super().__init__(
            f"{framing} frame at offset {offset}: expected {expected}, got {got}"
        )
        self.framing = framing
        self.offset = offset
        self.expected = expected
        self.got = got
        #: whole frames that were cut before the fault, for whoever still wants them
        self.frames: list[bytes] = []


class FrameTooLongError(LinkError, ValueError):
    """A body to be sent is longer than the framing allows."""


class NoFramesError(LinkError):
    """Some bytes are whole frames in none of the framings that were tried."""


class ListenError(LinkError):
    """An address cannot be listened on; the message says which and why."""
