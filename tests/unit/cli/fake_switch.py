"""Stands in for the `switch` command in tests of the demonstration: a daemon that
approves, and a journal that says what FAKE_VERDICT does."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

import iso8583
from switch.link._framing import FrameReader, Framing
from switch.replay.client import answer_mti

ECHOED = (2, 4, 7, 11, 37, 41, 49, 70)


async def serve(port: int, http_port: int) -> None:
    codec = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
    framing = Framing("binary2")

    async def answer(reader, writer):
        cut = FrameReader(framing)
        while data := await reader.read(65536):
            for body in cut.feed(data):
                request = codec.decode(body)
                mti = answer_mti(request.mti)
                reply = iso8583.ReplyTemplate(codec, mti, ECHOED).build(request, "00")
                writer.write(framing.encode(reply))
        writer.close()

    async def ready(request):
        return web.json_response({"ready": True})

    async def account(request):
        figures = {"balance": 1, "held": 0, "available": 1, "currency": "EUR"}
        return web.json_response(figures)

    application = web.Application()
    application.router.add_get("/readyz", ready)
    application.router.add_get("/api/accounts/{account}", account)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http_port).start()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    tell_listening("switch.http", port=runner.addresses[0][1])
    port = server.sockets[0].getsockname()[1]
    tell_listening("switch.link", address=f"127.0.0.1:{port}")
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    server.close()
    await runner.cleanup()


def tell_listening(logger: str, **where: object) -> None:
    record = {"logger": logger, "event": "listening", **where}
    print(json.dumps(record), file=sys.stderr, flush=True)


def main(words: list[str]) -> int:
    if words[0] == "serve":
        if os.environ.get("FAKE_BROKEN"):
            print("switch: the disk is full", file=sys.stderr)
            return 74
        Path(os.environ["FAKE_PID_FILE"]).write_text(str(os.getpid()))
        ports = [
            int(words[words.index(flag) + 1].rpartition(":")[2])
            for flag in ("--listen", "--http")
        ]
        if os.environ.get("FAKE_OUTRUN") and any(ports):
            print("switch: x:1: already in use by another process", file=sys.stderr)
            return 74
        asyncio.run(serve(*ports))
    elif words[:2] == ["journal", "verify"]:
        print(os.environ["FAKE_VERDICT"])
    else:
        assert words[1:2] == ["import"]
        assert Path(words[2]).read_text().count("\n") > 100
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
