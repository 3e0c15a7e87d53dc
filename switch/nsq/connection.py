"""One connection to one nsqd, from its first byte to its end. Nothing is tried again.

Rule 1: what nsqd answers, it answers in order: the first that waits gets it.
Rule 2: nsqd is heard from within two heartbeats, or it counts as gone. It thinks the
        same of us, and each of its heartbeats is answered.
Rule 3: it ends once, with one error, which everybody who waits gets, and `on_end`.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

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
READ_BYTES_MAX: Final = 1 << 16
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
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

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
        reader, self._writer = await asyncio.open_connection(
            address.strip("[]"), int(port)
        )
        name = self._writer.get_extra_info
        if name("sockname") == name("peername"):
            # Nobody listens there, and the kernel gave us that very port.
            raise OSError("nobody but itself")
        self._writer.write(protocol.MAGIC)
        self._task = asyncio.create_task(self._read(reader))
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
        if self._writer is not None and not self.has_ended:
            self._writer.write(command)

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
            self._end(error)
            raise error from None
        except asyncio.CancelledError:
            self._end(NsqConnectionError(f"gave up on nsqd at {self.host}"))
            raise

    async def _ask(self, command: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        assert self._writer is not None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._writer.write(command)
        await self._drain()
        return await answer

    async def _drain(self) -> None:
        assert self._writer is not None
        with suppress(OSError):  # whose reason the reader tells
            await self._writer.drain()

    async def close(self) -> None:
        self._end(NsqConnectionError(f"closed the connection to nsqd at {self.host}"))
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._task = None

    # -- what comes

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = Frames()
        silence_seconds_max = 2 * self._heartbeat_seconds
        try:
            while True:
                async with asyncio.timeout(silence_seconds_max):
                    data = await reader.read(READ_BYTES_MAX)
                if not data:
                    raise NsqConnectionError(
                        f"expected nsqd at {self.host} to stay, got the end of its "
                        "connection"
                    )
                for frame in frames.feed(data):
                    self._take(frame)
        except TimeoutError:
            self._end(
                NsqConnectionError(
                    f"expected a heartbeat of nsqd at {self.host}, got nothing within "
                    f"{silence_seconds_max:g} s"
                )
            )
        except OSError as error:
            self._end(NsqConnectionError(f"nsqd at {self.host}: {error}"))
        except NsqError as error:
            self._end(error)

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

    def _end(self, error: NsqError) -> None:
        if self.error is not None:
            return
        self.error = error
        for each in self._waiting:
            if not each.done():
                each.set_exception(error)
        self._waiting.clear()
        if self._writer is not None:
            self._writer.close()
        if self._on_end is not None:
            self._on_end()
