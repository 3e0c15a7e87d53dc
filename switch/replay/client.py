"""A client that plays the scheme, in asyncio: for replays and the demo, not for load.

Answers are matched as matching.py says.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import msgspec

import iso8583
from iso8583.dialect import Function
from switch.link._framing import FrameReader, Framing
from switch.link.errors import FramingError
from switch.replay.errors import SessionError
from switch.replay.matching import Waiting
from switch.replay.request import (
    APPROVED_CODE,
    STANDARD_STATION,
    Station,
    network_reply,
    network_request,
)

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 5.0
READ_SIZE: Final = 65536
# requests waiting for an answer; a switch bounds what it takes from a connection too
PENDING_COUNT_MAX: Final = 10_000
NETWORK_MTIS: Final = ("0800", "0801", "0820", "0821")


class Answer(msgspec.Struct, frozen=True):
    message: iso8583.Message
    elapsed_ms: float


class _Pending(msgspec.Struct):
    sent_at: float
    answer: asyncio.Future[Answer]


def is_request(mti: str) -> bool:
    """Requests and advices, and their repeats: what somebody answers."""
    return mti[2] in "024"


def is_answer(mti: str) -> bool:
    return mti[2] in "135"


def answer_mti(mti: str) -> str:
    """0100 → 0110, 0121 → 0130: the repeat digit isn't answered in kind."""
    return f"{mti[:2]}{int(mti[2]) + 1}0"


def reject_text(message: iso8583.Message) -> str:
    """What the header of a reject says of it."""
    header, spec = message.header or {}, message.codec.spec.header
    parts = () if spec is None else spec.reject
    said = " ".join(f"{part.name}={header.get(part.name, '')}" for part in parts)
    return f"expected an answer, it was rejected: {said}"


class Client:
    """One connection; use it as `async with Client(...) as client`.

    `streams` is one that somebody else made; without it, it dials. An answer may be the
    request itself, come back in the form of a reject.
    """

    def __init__(
        self,
        host: str,
        port: int,
        codec: iso8583.Codec,
        framing: Framing,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None,
        station: Station = STANDARD_STATION,
    ) -> None:
        self.host = host
        self.port = port
        self.codec = codec
        self.framing = framing
        self.unexpected_count = 0
        #: why the connection ended, once it has
        self.lost: str | None = None
        self.on_lost: Callable[[str], None] = lambda why: None
        #: takes a request of theirs; it says whether it did
        self.on_request: Callable[[iso8583.Message], bool] = self.answer_network
        #: takes an answer that nobody waits for
        self.on_unexpected: Callable[[iso8583.Message], None] = lambda answer: None
        self._streams = streams
        self._station = station
        self._pending: Waiting[_Pending] = Waiting()
        self._replies = {
            mti: network_reply(codec, answer_mti(mti)) for mti in NETWORK_MTIS
        }

    async def __aenter__(self) -> Self:
        self._reader, self._writer = self._streams or await self._dial()
        self._reading = asyncio.create_task(self._read())
        return self

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await asyncio.open_connection(self.host, self.port)
        except TimeoutError:
            raise SessionError(
                f"connection to {self.host} port {self.port}: "
                f"expected within {CONNECT_TIMEOUT_S:g} s, none came"
            ) from None
        except OSError as error:
            raise SessionError(
                f"connection to {self.host} port {self.port}: {error.strerror or error}"
            ) from error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        self._writer.close()
        try:
            await asyncio.gather(self._reading, return_exceptions=True)
            await self._writer.wait_closed()
        except OSError:
            self.lost = self.lost or "closed"
        finally:
            # also when it was cancelled while the other side did not take the rest
            self._writer.transport.abort()

    async def sign_on(self) -> None:
        await self.manage("sign_on")

    async def manage(self, function: Function) -> None:
        """Asks for it with the scheme's code; raises SessionError."""
        stan = int(time.time() * 1000) % 999_999 + 1
        body = network_request(self.codec, self._station, stan, function)
        message = self.codec.decode(body)
        answer = await self.ask(body, message)
        function_text = f"{function.replace('_', '-')} ({message[70]})"
        if answer is None:
            raise SessionError(
                f"{function_text}: expected an answer within "
                f"{ANSWER_TIMEOUT_S:g} s, {self.lost or 'none came'}"
            )
        if answer.message.rejected:
            raise SessionError(f"{function_text}: {reject_text(answer.message)}")
        code = answer.message.get(39, APPROVED_CODE)
        if code != APPROVED_CODE:
            raise SessionError(
                f"{function_text}: expected response code {APPROVED_CODE}, got {code}"
            )

    async def ask(
        self,
        body: bytes,
        message: iso8583.Message,
        timeout_s: float = ANSWER_TIMEOUT_S,
        send: Callable[[bytes], None] | None = None,
    ) -> Answer | None:
        """Sends a request and waits for its answer; None when none comes in time.

        `message` is the body decoded, as far as it could be. `send` is how it goes
        out, if not as it is.
        """
        if self.lost is not None or len(self._pending) >= PENDING_COUNT_MAX:
            return None
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        pending = _Pending(time.perf_counter(), future)
        entry = self._pending.add(answer_mti(message.mti), message, pending)
        try:
            async with asyncio.timeout(timeout_s):
                (send or self.write)(body)
                await self._writer.drain()
                return await future
        except (TimeoutError, OSError):
            return None
        finally:
            self._pending.discard(entry)

    def write(self, body: bytes) -> None:
        if self.lost is None:
            self._writer.write(self.framing.encode(body))

    def answer_network(self, message: iso8583.Message) -> bool:
        template = self._replies.get(message.mti)
        if template is None:
            return False
        self.write(template.build(message, APPROVED_CODE))
        return True

    async def _read(self) -> None:
        reader = FrameReader(self.framing)
        why = "closed by the switch"
        try:
            while data := await self._reader.read(READ_SIZE):
                for body in reader.feed(data):
                    self._take(body)
        except FramingError as error:
            why = str(error)
        except OSError as error:
            why = error.strerror or str(error)
        self.lost = why
        for entry in self._pending:
            if not entry.value.answer.done():
                entry.value.answer.set_exception(ConnectionError(why))
        self.on_lost(why)

    def _take(self, body: bytes) -> None:
        now = time.perf_counter()
        try:
            message = self.codec.decode(body)
        except iso8583.DecodeError:
            self.unexpected_count += 1
            return
        if message.rejected:
            # It is ours, come back: whoever waits for its answer has this one.
            pending = self._pending.take(message, answer_mti(message.mti))
        elif is_request(message.mti) and self.on_request(message):
            return
        else:
            pending = self._pending.take(message)
        if pending is None or pending.answer.done():
            self.unexpected_count += 1
            self.on_unexpected(message)
            return
        elapsed_ms = (now - pending.sent_at) * 1000
        pending.answer.set_result(Answer(message, elapsed_ms))
