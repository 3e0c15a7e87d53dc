"""Peers that speak something else, or never finish what they say, each on a link of its
own: the log says what it looks like, and the good link beside them never notices."""

import contextlib
import http.client
import itertools
import json
import ssl

import pytest

from switch.link._framing import Framing
from tests.end_to_end.harness import (
    HOST,
    WAIT_SECONDS_MAX,
    Client,
    Daemon,
    make_bank,
    network,
    request,
    wait_until,
)
from tests.end_to_end.trading import BALANCE, connect, counting, is_closed, trading

# Longer than the good ones of these tests take for a frame on a machine that stalls:
# they send it in one piece.
FRAME_TIMEOUT_MS = 300
SLOW = 40
LINKS = {
    "main": (),
    "tls": (),
    "http": (),
    "framing": (),
    "inclusive": (f"frame_timeout_ms={FRAME_TIMEOUT_MS}",),
    "spec": ("spec=iso87-binary",),
    "tpdu": ("tpdu=true",),
    "loris": (f"frame_timeout_ms={FRAME_TIMEOUT_MS}",),
}


def settings():
    for number, (name, lines) in enumerate(LINKS.items()):
        for line in ("address=127.0.0.1:0", f"scheme={number}", *lines):
            yield from ("--set", f"links.{name}.{line}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("strangers"), *settings()) as daemon:
        daemon.listen = ()
        daemon.pans = make_bank(daemon.data, len(LINKS), BALANCE)
        daemon.start()
        daemon.port = daemon.link_port("main")
        yield daemon
        assert daemon.metrics_of("switch_faults_total") == 0
        assert daemon.stop() == 0
        for pan in daemon.pans:
            assert pan not in daemon.log_text()


@pytest.fixture(scope="module")
def accounts():
    return itertools.count()


@pytest.fixture(autouse=True)
def trader(daemon, accounts):
    with trading(daemon, next(accounts)) as trader:
        yield trader


def closed(daemon, link):
    """What the log says of the connections of a link that have ended."""
    records = daemon.log_records("connection closed")
    return [record for record in records if record["link"] == link]


def the_end(daemon, link):
    wait_until(lambda: closed(daemon, link), f"the end of a connection of {link}")
    (record,) = closed(daemon, link)
    return record["kind"], record.get("hint")


def test_tls(daemon):
    context = ssl.create_default_context()
    with connect(daemon, "tls") as plain, pytest.raises((OSError, ssl.SSLError)):
        context.wrap_socket(plain, server_hostname="switch.example")
    assert the_end(daemon, "tls") == (
        *("framing", "these are TLS bytes: this port is plain"),
    )


def test_http(daemon):
    port = daemon.link_port("http")
    client = http.client.HTTPConnection(HOST, port, timeout=WAIT_SECONDS_MAX)
    with contextlib.closing(client):
        client.request("GET", "/")
        with pytest.raises((OSError, http.client.HTTPException)):
            client.getresponse()
    assert the_end(daemon, "http") == ("framing", "this is an HTTP request")


def test_another_framing(daemon):
    with Client(daemon.link_port("framing"), framing="ascii4") as peer:
        peer.send(request("0100", 1, daemon.pans[0], 1))
        assert is_closed(peer.socket)
    assert the_end(daemon, "framing") == ("framing", "this looks like ascii4")


def test_lengths_that_count_themselves(daemon):
    """Two bytes are waited for that the peer has no reason to send."""
    with Client(daemon.link_port("inclusive")) as peer:
        peer.framing = Framing("binary2", inclusive=True)
        peer.send(request("0100", 1, daemon.pans[0], 1))
        assert is_closed(peer.socket)
    assert the_end(daemon, "inclusive") == (
        *("slow", "this looks like binary2, inclusive"),
    )


def test_another_specification(daemon):
    with Client(daemon.link_port("spec")) as peer:
        for number in range(16):
            peer.send(request("0100", number, daemon.pans[0], 1))
        assert is_closed(peer.socket)
    assert the_end(daemon, "spec") == (
        *("undecodable", "this looks like spec iso87-ascii"),
    )
    dropped = daemon.log_records("frame dropped: no message of this spec")
    hints = [record["hint"] for record in dropped if record["link"] == "spec"]
    assert set(hints) == {"this looks like spec iso87-ascii"}


def test_no_tpdu(daemon):
    with Client(daemon.link_port("tpdu")) as peer:
        for number in range(16):
            peer.send(request("0100", number, daemon.pans[0], 1))
        assert is_closed(peer.socket)
    assert the_end(daemon, "tpdu") == ("undecodable", "this looks like no TPDU")


def test_frames_that_never_become_whole(daemon, trader):
    """And whoever sends whole ones on the same link is answered all the while."""
    port = daemon.link_port("loris")
    slow = 'switch_connections_closed_total{link="loris",reason="slow"}'
    with (
        counting(daemon, slow) as grown,
        Client(port) as good,
        contextlib.ExitStack() as stack,
    ):
        peers = [stack.enter_context(connect(daemon, "loris")) for _ in range(SLOW)]
        for size, peer in enumerate(peers, start=1):
            peer.sendall((1000).to_bytes(2, "big") + b"0" * size)
        for number in itertools.count():
            assert good.ask(network(number % 1_000_000, "301"))[39] == "00"
            if daemon.metrics().get(slow, 0) == SLOW:
                break
        trader.wait_for(10)
        assert all(map(is_closed, peers))
        assert good.ask(network(0, "301"))[39] == "00"
    assert grown == [SLOW]
    # A part of them: the log is sampled.
    ended = [each for each in closed(daemon, "loris") if each["kind"] == "slow"]
    assert ended
    reasons = {record["reason"] for record in ended}
    assert all("bytes of a frame that is not whole after" in each for each in reasons)
    assert "0000000" not in json.dumps(closed(daemon, "loris"))
    wait_until(lambda: is_logged_again(daemon), "room in the log")


def is_logged_again(daemon):
    """Of so many ends at once the log leaves some out; the next test looks for its."""
    before = len(closed(daemon, "main"))
    with Client(daemon.port) as client:
        assert client.ask(network(1, "301"))[39] == "00"
    return len(closed(daemon, "main")) > before
