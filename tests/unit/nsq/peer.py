"""An nsqd that does what a test says: a server whose connections are scripts."""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

SIZED = ("IDENTIFY", "MPUB")
LIMITS = {"max_rdy_count": 2500, "msg_timeout": 60_000, "version": "1.3.0"}


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", len(data) + 4, kind) + data


def message(body: bytes, message_id: bytes = b"0123456789abcdef", tries: int = 1):
    return frame(2, struct.pack(">QH", 1, tries) + message_id + body)


def bodies_of(body: bytes) -> list[bytes]:
    """Of an MPUB."""
    (count,) = struct.unpack_from(">I", body)
    found, at = [], 4
    for _ in range(count):
        (size,) = struct.unpack_from(">I", body, at)
        found.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == len(body)
    return found


OK = frame(0, b"OK")
HEARTBEAT = frame(0, b"_heartbeat_")


class Line:
    """What one client says, command by command."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer

    async def command(self) -> tuple[list[str], bytes]:
        line = await self._reader.readuntil(b"\n")
        words = line.decode().split()
        if words[0] not in SIZED:
            return words, b""
        (size,) = struct.unpack(">I", await self._reader.readexactly(4))
        return words, await self._reader.readexactly(size)

    async def expect(self, name: str) -> tuple[list[str], bytes]:
        """The next command of that name; NOP may come in between."""
        while True:
            words, body = await self.command()
            if words[0] == name:
                return words, body
            assert words[0] == "NOP", f"expected {name}, got {words}"

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    async def greet(self, **limits: object) -> dict[str, object]:
        assert await self._reader.readexactly(4) == b"  V2"
        _, body = await self.expect("IDENTIFY")
        self.say(frame(0, json.dumps({**LIMITS, **limits}).encode()))
        about: dict[str, object] = json.loads(body)
        return about

    async def until_closed(self) -> None:
        while await self._reader.read(1 << 16):
            pass


Script = Callable[[Line], Awaitable[None]]


@contextlib.asynccontextmanager
async def peer(*scripts: Script, port: int = 0) -> AsyncIterator[str]:
    """Where it listens. Each connection plays the next script, the last one again;
    at the end of it the connection is closed. A script that fails fails the test."""
    left = list(scripts)
    failures: list[BaseException] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        script = left.pop(0) if len(left) > 1 else left[0]
        try:
            await script(Line(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        except BaseException as error:  # noqa: BLE001 -- told below
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not failures, failures


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 -- of whatever the test looks at
        await asyncio.sleep(0.002)
