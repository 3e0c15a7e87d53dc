"""Peers that attack a link, each until it is ended: `python -m bench.load.attacks`.

They run when nobody else wants the processor: what is measured beside them is what
the switch does with what they send, not how many cores there are.
"""

import contextlib
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable

import iso8583
from switch.link._framing import Framing

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 30.0
# In one write: what the kernel takes at once from a peer in a hurry.
BURST = 200
IDLE_CONNECTIONS = 900
SLOW_CONNECTIONS = 200

_CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
_FRAMING = Framing("binary2")
_REQUEST: dict[int | str, str] = {
    "mti": "0100",
    2: "9999990000000014",
    3: "000000",
    4: "000000000100",
    7: "1124120000",
    11: "000001",
    14: "4912",
    37: "000000000001",
    41: "TERM0001",
    42: "MERCHANT0000001",
    49: "978",
}
_ECHO: dict[int | str, str] = {
    "mti": "0800",
    7: "1124120000",
    11: "000001",
    70: "301",
}


def _frame(fields: dict[int | str, str]) -> bytes:
    return _FRAMING.encode(_CODEC.encode(fields))


def _connect(port: int) -> socket.socket:
    address = ".".join(["127", *(str(random.randrange(1, 255)) for _ in range(3))])
    return socket.create_connection((HOST, port), TIMEOUT_SECONDS, (address, 0))


def _pour(port: int, data: bytes, *, reads: bool = True) -> None:
    """Sends the same again and again, on a new connection when one is closed."""
    while True:
        with _connect(port) as peer, contextlib.suppress(OSError):
            if reads:
                threading.Thread(target=_swallow, args=(peer,), daemon=True).start()
            else:
                peer.settimeout(None)
            while True:
                peer.sendall(data)


def _swallow(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while peer.recv(1 << 16):
            pass


def requests(port: int) -> None:
    """Repeats of one request: nothing to commit, everything to look up."""
    _pour(port, _frame(_REQUEST) * BURST)


def fresh(port: int) -> None:
    """Requests of a card that nobody has, each of them new."""
    frames = [_frame({**_REQUEST, 11: f"{number:06d}"}) for number in range(20_000)]
    _pour(port, b"".join(frames))


def malformed(port: int) -> None:
    """Requests that are cut off within their last field: answered 30."""
    _pour(port, _FRAMING.encode(_CODEC.encode(_REQUEST)[:-1]) * BURST)


def echoes(port: int) -> None:
    """Line tests."""
    _pour(port, _frame(_ECHO) * BURST)


def responses(port: int) -> None:
    """Answers that nobody waits for."""
    _pour(port, _frame({**_REQUEST, "mti": "0110", 39: "00"}) * BURST)


def nonsense(port: int) -> None:
    """Frames that are no messages, as many as the link forgives, then one that is."""
    _pour(port, (_FRAMING.encode(b"\xff") * 15 + _frame(_ECHO)) * BURST)


def random_bytes(port: int) -> None:
    """Connections of random bytes."""
    draw = random.Random(1)
    while True:
        with _connect(port) as peer, contextlib.suppress(OSError):
            peer.sendall(draw.randbytes(10_000))


def storm(port: int) -> None:
    """Connections that come and go."""
    while True:
        _connect(port).close()


def silent(port: int) -> None:
    """Requests without end from a peer that never reads an answer."""
    _pour(port, _frame(_REQUEST) * BURST, reads=False)


def slow(port: int) -> None:
    """Frames of a byte at a time, on many connections."""
    frame = _frame(_REQUEST)
    peers = [_connect(port) for _ in range(SLOW_CONNECTIONS)]
    while True:
        for byte in frame:
            for peer in peers:
                peer.sendall(bytes([byte]))
        for peer in peers:
            peer.recv(1 << 16)


def idle(port: int) -> None:
    """Connections on which nothing ever happens."""
    peers = [_connect(port) for _ in range(IDLE_CONNECTIONS)]
    while peers:
        signal.pause()


ATTACKS: dict[str, Callable[[int], None]] = {
    attack.__name__: attack
    for attack in (
        *(requests, fresh, malformed, echoes, responses, nonsense),
        *(random_bytes, storm, silent, slow, idle),
    )
}


def main() -> None:
    name, port = sys.argv[1:]
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    ATTACKS[name](int(port))


if __name__ == "__main__":
    main()
