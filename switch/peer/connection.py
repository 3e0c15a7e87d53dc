"""A connection between two nodes: frames both ways, and whether it lives.

Rule 1: both sides say HELLO first; until the other has, nothing else is taken.
Rule 2: a side that hears nothing for SILENCE_S_MAX ends it: the other one is gone, or
        the way to it. Each says something every HEARTBEAT_S.
Rule 3: what is sent in one turn of the loop is one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, cast

from switch.observe.log import event
from switch.peer.errors import PeerProtocolError
from switch.peer.framing import Frame, FrameReader, Kind, pack
from switch.peer.hello import Hello, Identity, read_hello

HEARTBEAT_S = 0.5
# A lease is longer: who is silent for a while may still own its shards, and its
# requests are tried again when there is another connection or another owner.
SILENCE_S_MAX = 2.0
assert SILENCE_S_MAX > 2 * HEARTBEAT_S

_log = logging.getLogger("switch.peer")


class Listener(Protocol):
    """Who has the connection."""

    def peer_up(self, connection: PeerConnection, said: Hello) -> None:
        """It has greeted. Raises PeerProtocolError if it is not who was expected."""

    def peer_said(self, connection: PeerConnection, frame: Frame) -> None:
        """Raises PeerProtocolError."""

    def peer_lost(self, connection: PeerConnection, reason: str) -> None:
        """Once, whatever was before."""


class PeerConnection(asyncio.Protocol):
    def __init__(
        self, listener: Listener, identity: Identity, greeting: Callable[[], bytes]
    ) -> None:
        """`greeting()` is the body of our HELLO."""
        self.node = ""
        self.is_up = False
        self.takes_more = True  # the transport's buffer is below its high-water mark
        self._listener = listener
        self._identity = identity
        self._greeting = greeting
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""

    # -- what its owner does

    def send(self, frames: bytes) -> None:
        """With what else is sent in this turn of the loop. Lost if it has ended."""
        if self._transport is None:
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(frames)

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._heard_at = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def close(self, reason: str) -> None:
        """What was sent is still delivered, if the other side takes it."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def abort(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._heard_at = asyncio.get_running_loop().time()
        self.send(pack(Kind.HELLO, self._greeting()))
        self._arm()

    def data_received(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except PeerProtocolError as error:
            self.abort(str(error))
        except Exception as error:  # noqa: BLE001 -- ends with its peer
            event(_log, logging.ERROR, "fault with a node", error=error, node=self.node)
            self.abort("an unexpected error; the log has it")

    def pause_writing(self) -> None:
        self.takes_more = False

    def resume_writing(self) -> None:
        self.takes_more = True

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.is_up = False
        self._outgoing.clear()
        if self._timer is not None:
            self._timer.cancel()
        reason = self._reason or (str(error) if error else "closed by the other node")
        self._listener.peer_lost(self, reason)

    # -- the parts

    def _take(self, frame: Frame) -> None:
        if not self.is_up:
            if frame.kind != Kind.HELLO:
                raise PeerProtocolError("first frame of a node", "HELLO", frame.kind)
            said = read_hello(frame.body, self._identity)
            self.node = said.identity.node
            self.is_up = True
            self._listener.peer_up(self, said)
        elif frame.kind == Kind.PING:
            self.send(pack(Kind.PONG))
        elif frame.kind != Kind.PONG:
            self._listener.peer_said(self, frame)

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        silent_s = loop.time() - self._heard_at
        transport = self._transport
        if transport is None:
            return
        if silent_s >= SILENCE_S_MAX and transport.is_reading():
            self.abort(f"silent for {silent_s:.1f} s")
            return
        if self.is_up:
            self.send(pack(Kind.PING))
        self._arm()
