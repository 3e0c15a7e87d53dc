"""What a node says first to whoever connects: who it is, and what time it has."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Final

from switch.doctor import clocks
from switch.doctor.connecting import CONNECT_SECONDS, connected
from switch.doctor.findings import Finding, error
from switch.link.settings import Address
from switch.peer.errors import PeerProtocolError
from switch.peer.framing import FrameReader, Kind
from switch.peer.hello import Hello, decoded

READ_BYTES: Final = 65_536
_ADVICE: Final = "requests for its shards get 91; is its address right, and reachable?"


async def node(
    name: str, address: Address, tls: ssl.SSLContext | None
) -> list[Finding]:
    """Whether it can be reached as nodes reach each other, and whether its clock, by
    which it decides, is as ours."""
    check = f"node {name}"
    there = await connected(check, address, _ADVICE, tls=tls)
    if there.level != "ok":
        return [there]
    before = clocks.now_ms()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            said = await _greeting(address, tls)
    except TimeoutError:
        got = f"no word within {CONNECT_SECONDS:g} s"
        return [error(check, "a node that says who it is", got, _ADVICE)]
    except (OSError, PeerProtocolError) as fault:
        return [error(check, "a node that says who it is", str(fault), _ADVICE)]
    if said.at_ms is None:
        return [there]  # one of an older version
    after = clocks.now_ms()
    return [there, clocks.compared(f"{check}: clock", before, said.at_ms, after)]


async def _greeting(address: Address, tls: ssl.SSLContext | None) -> Hello:
    """Nothing is said to it. Raises OSError or PeerProtocolError."""
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    frames = FrameReader()
    try:
        while data := await reader.read(READ_BYTES):
            for frame in frames.feed(data):
                if frame.kind != Kind.HELLO:
                    what = "first frame of a node"
                    raise PeerProtocolError(what, "HELLO", frame.kind)
                return decoded(frame.body)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    raise PeerProtocolError("greeting of a node", "a HELLO", "nothing")
