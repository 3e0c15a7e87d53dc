"""A peer that does everything right, for tests in which others do everything wrong; and
what those do."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from tests.end_to_end.harness import (
    HOST,
    WAIT_SECONDS_MAX,
    Client,
    Daemon,
    request,
    wait_until,
)

BALANCE = 10**9


class Trader(threading.Thread):
    """The good peer: one purchase after the other on one connection, all answered."""

    def __init__(self, daemon: Daemon, index: int) -> None:
        super().__init__()
        self.count = 0
        self.fault: BaseException | None = None
        self._pan = daemon.pans[index]
        self._client = Client(daemon.port)
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                number = self.count + 1
                message = request("0200", number, self._pan, 1, f37=f"{number:012d}")
                answer = self._client.ask(message)
                assert (answer["mti"], answer[11], answer[39]) == (
                    *("0210", message[11], "00"),
                )
                self.count = number
        except BaseException as error:  # noqa: BLE001 -- told by `trading`
            self.fault = error

    def wait_for(self, more: int) -> None:
        """Until it has traded so much more."""
        goal = self.count + more
        wait_until(lambda: self.count >= goal or self.fault, "trading to go on")
        assert self.fault is None, self.fault

    def end(self) -> None:
        self._ending.set()
        self.join()
        self._client.close()


@contextlib.contextmanager
def trading(daemon: Daemon, index: int) -> Iterator[Trader]:
    """Trades on account A`index` all the while; every purchase is on it at the end."""
    trader = Trader(daemon, index)
    trader.start()
    try:
        trader.wait_for(10)
        yield trader
        trader.wait_for(50)
    finally:
        trader.end()
    assert trader.fault is None, trader.fault
    assert daemon.figures(f"A{index}") == (
        *(BALANCE - trader.count, 0, BALANCE - trader.count),
    )


# -- the others ----------------------------------------------------------------------


def connect(daemon: Daemon, link: str = "") -> socket.socket:
    port = daemon.link_port(link) if link else daemon.port
    return socket.create_connection((HOST, port), WAIT_SECONDS_MAX)


def send_all_it_takes(peer: socket.socket, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.sendall(data)


def is_closed(peer: socket.socket) -> bool:
    """Whether the switch has ended the connection; what it sent first is read."""
    try:
        while peer.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def reset(peer: socket.socket) -> None:
    """Ends a connection as a machine does that has lost its memory of it."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@contextlib.contextmanager
def counting(daemon: Daemon, name: str) -> Iterator[list[float]]:
    """A list that gets by how much a metric has grown."""
    grown: list[float] = []
    before = daemon.metrics().get(name, 0)
    yield grown
    grown.append(daemon.metrics().get(name, 0) - before)
