"""One connection to one nsqd, from its first byte to its end. Nothing is tried again.

Rule 1: what nsqd answers, it answers in order: the first that waits gets it.
Rule 2: nsqd is heard from within two heartbeats, or it counts as gone. It thinks the
        same of us, and each of its heartbeats is answered.
Rule 3: it ends once, with one error, which everybody who waits gets, and `on_end`.
Rule 4: what came before the end is heard before the end. nsqd says why it closes, and
        closes with bytes of ours unread, so that its reason and a reset come together.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

import msgspec

from switch.nsq import protocol
from switch.nsq.errors import (
    NsqAnswerError,
    NsqConnectionError,
    NsqError,
    NsqProtocolError,
)
from switch.nsq.protocol import Frame, Frames, FrameType, Message, message_of

USER_AGENT: Final = "cardswitch"
HEARTBEAT_SECONDS: Final = 5.0
# What was written last may take so long to leave when we close.
CLOSE_SECONDS_MAX: Final = 1.0
# Said of a message that has timed out, or was dealt with: it is there again, or gone.
_HARMLESS: Final = ("E_FIN_FAILED", "E_REQ_FAILED", "E_TOUCH_FAILED")


class Limits(msgspec.Struct, frozen=True):
    """What nsqd says about itself when it is told who we are."""

    max_rdy_count: int = 1
    msg_timeout: int = 60_000
    version: str = ""


class Connection:
    """`on_message` and `on_end` are called from the loop, and must not raise."""

    def __init__(
        self,
        host: str,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        on_message: Callable[[Message], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.host = host
        self.limits = Limits()
        self.error: NsqError | None = None
        self._heartbeat_seconds = heartbeat_seconds
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._frames = Frames()
        self._stream: _Stream | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._heard_at = 0.0

    async def open(self, seconds: float) -> None:
        """Within that time, or it raises NsqError and is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._open()
        except TimeoutError:
            await self.close()
            raise NsqConnectionError(
                f"expected nsqd at {self.host} to answer, got nothing within "
                f"{seconds:g} s"
            ) from None
        except OSError as error:
            await self.close()
            raise NsqConnectionError(
                f"expected nsqd at {self.host}, got {error}"
            ) from error
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        address, _, port = self.host.rpartition(":")
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(
            lambda: _Stream(self._hear, self._lost), address.strip("[]"), int(port)
        )
        self._stream = stream
        if stream.is_with_itself:
            # Nobody listens there, and the kernel gave us that very port.
            raise OSError("nobody but itself")
        self._heard_at = loop.time()
        self._watch_silence()
        stream.write(protocol.MAGIC)
        answer = await self._ask(protocol.identify(self._about()))
        if answer != protocol.OK:
            try:
                self.limits = msgspec.json.decode(answer, type=Limits)
            except msgspec.DecodeError:
                raise NsqProtocolError(
                    f"expected what nsqd at {self.host} can do, got {answer[:80]!r}"
                ) from None

    def _about(self) -> dict[str, object]:
        return {
            "client_id": f"{socket.gethostname()}-{os.getpid()}",
            "hostname": socket.gethostname(),
            "user_agent": USER_AGENT,
            "feature_negotiation": True,
            "heartbeat_interval": int(self._heartbeat_seconds * 1000),
            # A message leaves nsqd when it has one, not a quarter of a second later.
            "output_buffer_size": -1,
        }

    @property
    def has_ended(self) -> bool:
        return self.error is not None

    def send(self, command: bytes) -> None:
        """What nsqd does not answer. After the end it goes nowhere."""
        if self._stream is not None and not self.has_ended:
            self._stream.write(command)

    async def ask(self, command: bytes, seconds: float) -> bytes:
        """Whoever gives up waiting ends the connection: what is answered later would
        be taken for the answer to something else."""
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(command)
        except TimeoutError:
            error = NsqConnectionError(
                f"expected nsqd at {self.host} to answer, got nothing within "
                f"{seconds:g} s"
            )
            self._fail(error)
            raise error from None
        except asyncio.CancelledError:
            self._fail(NsqConnectionError(f"gave up on nsqd at {self.host}"))
            raise

    async def _ask(self, command: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        assert self._stream is not None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._stream.write(command)
        try:
            await self._stream.drained.wait()
            return await answer
        finally:
            answer.cancel()  # nobody waits for it any more

    async def close(self) -> None:
        """What was written last leaves before, if it can."""
        stream = self._stream
        if stream is not None and not self.has_ended:
            stream.close()
        self._end(NsqConnectionError(f"closed the connection to nsqd at {self.host}"))
        if stream is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await stream.closed.wait()
            stream.abort()

    # -- what comes

    def _hear(self, data: bytes) -> None:
        if self.has_ended:
            return
        self._heard_at = asyncio.get_running_loop().time()
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
        except NsqError as error:
            self._fail(error)

    def _lost(self, error: Exception | None) -> None:
        got = str(error or "the end of its connection")
        self._fail(
            NsqConnectionError(f"expected nsqd at {self.host} to stay, got {got}")
        )

    def _watch_silence(self) -> None:
        """Looks again when it might be too long."""
        if self.has_ended:
            return
        loop = asyncio.get_running_loop()
        seconds_max = 2 * self._heartbeat_seconds
        if loop.time() < self._heard_at + seconds_max:
            due_at = self._heard_at + seconds_max
            self._silence = loop.call_at(due_at, self._watch_silence)
            return
        self._fail(
            NsqConnectionError(
                f"expected a heartbeat of nsqd at {self.host}, got nothing within "
                f"{seconds_max:g} s"
            )
        )

    def _take(self, frame: Frame) -> None:
        if frame.type == FrameType.MESSAGE:
            message = message_of(frame)
            if self._on_message is None:
                raise NsqProtocolError(f"expected no message from {self.host}, got one")
            self._on_message(message)
        elif frame.type == FrameType.ERROR:
            self._take_error(frame.data.decode("utf-8", "replace"))
        elif frame.data == protocol.HEARTBEAT:
            self.send(protocol.NOP)
        elif frame.data != protocol.CLOSING:
            self._answer().set_result(frame.data)

    def _take_error(self, text: str) -> None:
        error = NsqAnswerError(text)
        if error.code in _HARMLESS:
            return
        # nsqd closes behind it; and whatever else waits is not answered.
        if self._waiting:
            self._answer().set_exception(error)
        raise NsqConnectionError(f"nsqd at {self.host} ends it: {text}")

    def _answer(self) -> "asyncio.Future[bytes]":
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                return waiting
        raise NsqProtocolError(
            f"expected no answer from nsqd at {self.host}, for nothing was asked, got "
            "one"
        )

    def _fail(self, error: NsqError) -> None:
        """What is not sent yet is of no use to anybody."""
        self._end(error)
        if self._stream is not None:
            self._stream.abort()

    def _end(self, error: NsqError) -> None:
        if self.error is not None:
            return
        self.error = error
        for each in self._waiting:
            if not each.done():
                each.set_exception(error)
        self._waiting.clear()
        if self._silence is not None:
            self._silence.cancel()
        if self._on_end is not None:
            self._on_end()


class _Stream(asyncio.Protocol):
    """The socket: bytes as they come, in their order, and then its end."""

    def __init__(
        self,
        on_data: Callable[[bytes], None],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        self.closed = asyncio.Event()
        # Whether there is room for more.
        self.drained = asyncio.Event()
        self.drained.set()
        self._on_data = on_data
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None

    @property
    def is_with_itself(self) -> bool:
        assert self._transport is not None
        name = self._transport.get_extra_info
        return bool(name("sockname") == name("peername"))

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()
        self.drained.set()
        self._on_end(error)
