"""A connection's socket, as far as its transport knows it."""

from __future__ import annotations

import asyncio
import socket

# The kernel asks a silent peer's kernel after so long, so often, so many times.
KEEP_ALIVE_IDLE_S = 60
KEEP_ALIVE_S = 10
KEEP_ALIVE_COUNT = 6


def keep_alive(peer_socket: socket.socket | None) -> None:
    """A peer that is gone without a word is found out, also on a line never used."""
    if peer_socket is None or peer_socket.family == socket.AF_UNIX:
        return
    peer_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
    peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_S)
    peer_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_COUNT)


def peer_name(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
        return f"{host}:{name[1]}"
    return str(name) if name else "?"
