"""A trivial switch on a real socket: answers by rule, keeps nothing."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

import iso8583
from switch.link._framing import FrameReader, Framing

# (request, how many came before it) → response code; None: no answer; REJECT: the
# request comes back in the form of a reject
Rule = Callable[[iso8583.Message, int], str | None]
REJECT = "reject"
ECHOED = (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 70)


class Responder:
    def __init__(self, spec: str, framing: Framing, rule: Rule) -> None:
        self.codec = iso8583.Codec(iso8583.load_spec(spec))
        self.framing = framing
        self.rule = rule
        self.requests: list[iso8583.Message] = []
        self.network_requests: list[iso8583.Message] = []
        # network management functions that come back as rejects
        self.rejected: set[str] = set()
        # sent to each connection before anything else
        self.greeting = b""
        # 0: never; else the connection is closed after so many requests
        self.close_after = 0
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        # a connection that is just being accepted becomes one of ours first
        for _ in range(10):
            await asyncio.sleep(0)
        server.close()
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _connected(self, reader, writer) -> None:
        self._writers.append(writer)
        cut = FrameReader(self.framing)
        if self.greeting:
            writer.write(self.framing.encode(self.greeting))
        try:
            while data := await reader.read(65536):
                for body in cut.feed(data):
                    reply = self._answer(body)
                    if reply:
                        writer.write(self.framing.encode(reply))
                if self.close_after and len(self.requests) >= self.close_after:
                    break
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    def _answer(self, body: bytes) -> bytes | None:
        request = self.codec.decode(body)
        if request.mti[1] == "8":
            self.network_requests.append(request)
            if request.mti == "0810":
                return None
            code: str | None = REJECT if request[70] in self.rejected else "00"
        else:
            code = self.rule(request, len(self.requests))
            self.requests.append(request)
        if code is None:
            return None
        if code == REJECT:
            header = {"reject_code": "0017"}
            return self.codec.encode({**request.to_dict(), "header": header})
        echoed = [field for field in ECHOED if field in self.codec.spec.fields]
        mti = f"{request.mti[:2]}{int(request.mti[2]) + 1}0"
        reply = iso8583.ReplyTemplate(self.codec, mti, echoed)
        return reply.build(request, code, "123456" if code == "00" else None)


@pytest.fixture
def respond() -> Iterator[Callable[..., Responder]]:
    running: list[Responder] = []

    def start(
        rule: Rule = lambda request, count: "00",
        spec: str = "iso87-ascii",
        framing: Framing | None = None,
        greeting: Callable[[iso8583.Codec], bytes] | None = None,
        close_after: int = 0,
    ) -> Responder:
        responder = Responder(spec, framing or Framing("binary2"), rule)
        responder.close_after = close_after
        if greeting is not None:
            responder.greeting = greeting(responder.codec)
        responder.start()
        running.append(responder)
        return responder

    yield start
    for responder in running:
        responder.stop()


@pytest.fixture
def cards_file(tmp_path):
    path = tmp_path / "cards.csv"
    path.write_text(
        "pan,account,expiry,status\n"
        "9999990000000015,A1,3012,active\n"
        "9999990000000023,A2,2910,lost\n"
        "999999000000000000,A3,3101,active\n"
        "9999990000000000015,A4,3102,active\n"
    )
    return path
