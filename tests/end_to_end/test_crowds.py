"""Thousands of peers, and peers that come and go, beside one that trades."""

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.end_to_end.harness import (
    HOST,
    WAIT_SECONDS_MAX,
    Client,
    Daemon,
    make_bank,
    network,
    wait_until,
)
from tests.end_to_end.trading import BALANCE, connect, reset, trading

IDLE = 10_000
# Of these from one address: below what the switch allows one.
IDLE_PER_ADDRESS = 250
# Ours and the daemon's beside the connections.
DESCRIPTORS_BESIDE = 500
# A connection on which nothing has come costs about 3 KiB.
IDLE_BYTES_MAX = 6 * 1024
STORM = 1_200
FLAPS = 100
DESCRIPTORS_MORE_MAX = 5


@contextmanager
def many_descriptors() -> Iterator[int]:
    """As many as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def few_descriptors() -> None:
    """The daemon is to raise its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))


def memory(daemon: Daemon) -> int:
    """Bytes that the switch, without its follower, has in memory."""
    pages = Path(f"/proc/{daemon.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def descriptors(daemon: Daemon) -> int:
    return sum(1 for _ in Path(f"/proc/{daemon.pid}/fd").iterdir())


def connect_from(number: int, port: int) -> socket.socket:
    address = f"127.0.1.{1 + number // IDLE_PER_ADDRESS}"
    return socket.create_connection((HOST, port), WAIT_SECONDS_MAX, (address, 0))


def test_ten_thousand_idle_connections_cost_little(tmp_path):
    with many_descriptors() as limit, ExitStack() as stack:
        count = min(IDLE, limit - DESCRIPTORS_BESIDE)
        daemon = stack.enter_context(
            Daemon(tmp_path, "--set", f"link.connections_max={count + 10}")
        )
        daemon.pans = make_bank(daemon.data, 1, BALANCE)
        daemon.start(few_descriptors)
        with trading(daemon, 0) as trader:
            before = memory(daemon)
            peers = [
                stack.enter_context(connect_from(number, daemon.port))
                for number in range(count)
            ]
            wait_until(
                lambda: (
                    daemon.metrics()['switch_connections{link="main"}'] == count + 1
                ),
                "all to be accepted",
            )
            assert memory(daemon) - before < count * IDLE_BYTES_MAX
            trader.wait_for(100)
            with Client(daemon.port, over=peers[-1]) as client:
                assert client.ask(network(1, "301"))[39] == "00"
        assert not daemon.log_records("connection refused")
        assert not daemon.log_records("fewer descriptors than connections are allowed")
        assert daemon.stop() == 0


def come_and_go(daemon: Daemon, count: int) -> None:
    for number in range(count):
        peer = connect(daemon)
        if number % 3 == 0:
            reset(peer)
        elif number % 3 == 1:
            peer.sendall(b"\x00")
        peer.close()


def test_storms_of_connections_leave_nothing(tmp_path):
    with Daemon(tmp_path) as daemon:
        daemon.pans = make_bank(daemon.data, 1, BALANCE)
        daemon.start()
        with trading(daemon, 0) as trader:
            before = descriptors(daemon)
            storms = [
                threading.Thread(target=come_and_go, args=(daemon, STORM // 4))
                for _ in range(4)
            ]
            for storm in storms:
                storm.start()
            trader.wait_for(100)
            for storm in storms:
                storm.join()
            wait_until(
                lambda: daemon.metrics()['switch_connections{link="main"}'] == 1,
                "them to be gone",
            )
            trader.wait_for(100)
            assert descriptors(daemon) <= before + DESCRIPTORS_MORE_MAX
        metrics = daemon.metrics()
        opened = metrics['switch_connections_opened_total{link="main"}']
        refused = metrics.get('switch_connections_refused_total{link="main"}', 0)
        # What was reset before it was taken never was.
        assert opened + refused <= STORM + 1
        assert daemon.metrics_of("switch_faults_total") == 0
        assert daemon.stop() == 0


class Flapping(threading.Thread):
    """A scheme that accepts whoever dials, and closes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted = 0
        self._is_ending = False
        self._server = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._server.getsockname()[1]}"

    def run(self) -> None:
        while True:
            self._server.accept()[0].close()
            if self._is_ending:
                return
            self.accepted += 1

    def end(self) -> None:
        self._is_ending = True
        socket.create_connection(self._server.getsockname()).close()
        self.join()
        self._server.close()


def test_a_link_that_flaps_costs_nothing_but_its_attempts(tmp_path):
    scheme = Flapping()
    scheme.start()
    options = (
        *("--set", "links.main.address=127.0.0.1:0"),
        *("--set", f"links.out.address={scheme.address}", "--set"),
        *("links.out.role=dial", "--set", "links.out.redial_min_ms=1"),
        *("--set", "links.out.redial_max_ms=2"),
    )
    with ExitStack() as stack:
        stack.callback(scheme.end)
        daemon = stack.enter_context(Daemon(tmp_path, *options))
        daemon.listen = ()
        daemon.pans = make_bank(daemon.data, 1, BALANCE)
        daemon.start()
        daemon.port = daemon.link_port("main")
        with trading(daemon, 0) as trader:
            wait_until(lambda: scheme.accepted >= 10, "the first attempts")
            before = descriptors(daemon)
            wait_until(lambda: scheme.accepted >= FLAPS, "many attempts")
            trader.wait_for(100)
            assert descriptors(daemon) <= before + DESCRIPTORS_MORE_MAX
        ended = daemon.metrics()[
            'switch_connections_closed_total{link="out",reason="peer"}'
        ]
        assert ended >= FLAPS - 1
        assert daemon.stop() == 0
