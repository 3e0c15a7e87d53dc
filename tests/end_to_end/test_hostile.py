"""Peers that do everything wrong, while one that does it right never notices."""

import contextlib
import itertools
import random
import resource
import socket

import pytest

import iso8583
from tests.end_to_end.harness import (
    WAIT_SECONDS_MAX,
    Client,
    Daemon,
    make_bank,
    network,
    request,
    wait_until,
)
from tests.end_to_end.trading import (
    BALANCE,
    Trader,
    connect,
    counting,
    is_closed,
    reset,
    send_all_it_takes,
    trading,
)

ACCOUNTS = 40
CONNECTIONS_MAX = 60
FRAME_SIZE_MAX = 2048
DESCRIPTORS_MAX = 64
# Of the answers of one test, so that a bounded log is told from one line each.
MANY = 5_000
LINES_MAX = 1_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    limits = (
        *("--set", f"link.connections_max={CONNECTIONS_MAX}"),
        *("--set", f"link.frame_size_max={FRAME_SIZE_MAX}"),
        # The slow ones of these tests are slow as a machine is that has much to do.
        *("--set", "link.frame_timeout_ms=600000"),
    )
    with Daemon(tmp_path_factory.mktemp("hostile"), *limits) as daemon:
        daemon.pans = make_bank(daemon.data, ACCOUNTS, BALANCE)
        daemon.start()
        yield daemon
        assert daemon.metrics()['switch_faults_total{link="main"}'] == 0
        assert not daemon.log_records("link fault")
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def accounts():
    return itertools.count()


@pytest.fixture
def trader(daemon, accounts):
    """Trades all through the test; every purchase is on its account at the end."""
    # Those of the test before may still be closing.
    wait_until(
        lambda: daemon.metrics()['switch_connections{link="main"}'] == 0,
        "an empty link",
    )
    with trading(daemon, next(accounts)) as trader:
        yield trader


# -- what is no message --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes(daemon, trader, seed):
    draw = random.Random(seed)
    for _ in range(50):
        with connect(daemon) as peer:
            for _ in range(draw.randrange(1, 20)):
                send_all_it_takes(peer, draw.randbytes(draw.randrange(1, 2_000)))
            if draw.random() < 0.5:
                reset(peer)


def test_random_bytes_in_sound_frames_end_the_connection(daemon, trader):
    draw = random.Random(4)
    closed = 'switch_connections_closed_total{link="main",reason="undecodable"}'
    with counting(daemon, closed) as grown:
        for _ in range(20):
            with connect(daemon) as peer:
                for _ in range(30):
                    body = b"\xff" + draw.randbytes(draw.randrange(1, 200))
                    send_all_it_takes(peer, len(body).to_bytes(2, "big") + body)
                assert is_closed(peer)
    assert grown == [20]


@pytest.mark.parametrize("size", [FRAME_SIZE_MAX + 1, 0xFFFF])
def test_a_header_that_announces_too_much_ends_the_connection(daemon, trader, size):
    framing = 'switch_connections_closed_total{link="main",reason="framing"}'
    with counting(daemon, framing) as grown, Client(daemon.port) as peer:
        # What came before it is still answered.
        peer.send(network(1, "301"))
        peer.socket.sendall(size.to_bytes(2, "big"))
        assert peer.receive()[39] == "00"
        assert peer.receive_body() is None
    assert grown == [1]


def test_thousands_of_malformed_requests_are_answered_and_logged_a_few_times(
    daemon, trader
):
    before = len(daemon.log_text().splitlines())
    with Client(daemon.port) as peer:
        for start in range(0, MANY, 500):
            for number in range(start, start + 500):
                message = request("0100", number, daemon.pans[0], 1)
                # Field 49, the last one, is cut off within.
                peer.send_body(peer.codec.encode(message)[:-1])
            answers = [peer.receive() for _ in range(500)]
            assert {(a["mti"], a[39]) for a in answers} == {("0110", "30")}
        assert peer.ask(network(1, "301"))[39] == "00"
    assert daemon.log_records("malformed request answered 30")
    assert len(daemon.log_text().splitlines()) - before < LINES_MAX


def test_connections_that_send_nonsense_by_the_thousand_are_logged_a_few_times(
    daemon, trader
):
    before = len(daemon.log_text().splitlines())
    for _ in range(MANY // 10):
        with connect(daemon) as peer:
            send_all_it_takes(peer, b"\x00\x04\xff\xff\xff\xff" * 20)
            assert is_closed(peer)
    assert daemon.log_records("frame dropped: no message of this spec")
    assert len(daemon.log_text().splitlines()) - before < LINES_MAX


def too_long(field: int) -> bytes:
    """A purchase whose field of two digits of length says that it is 99 long."""
    codec = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
    message = request("0200", 1, "9999990000000014", 1, f35="9999990000000014=49121")
    body = codec.encode(message)
    value = message[field].encode()
    prefix = f"{len(value):02d}".encode()
    assert body.count(prefix + value) == 1
    return body.replace(prefix + value, b"99" + value)


@pytest.mark.parametrize("field", [2, 32, 35])
def test_a_field_that_says_it_is_too_long_is_a_format_error(daemon, trader, field):
    with Client(daemon.port) as peer:
        for _ in range(20):
            peer.send_body(too_long(field))
            answer = peer.receive()
            assert (answer["mti"], answer[39]) == ("0210", "30")
        assert peer.ask(network(1, "301"))[39] == "00"


# -- responses -----------------------------------------------------------------------


@pytest.mark.parametrize("mti", ["0110", "0130", "0210", "0410", "0810"])
def test_responses_that_nobody_asked_for_are_dropped(daemon, trader, mti):
    """An answer to an answer would be the beginning of a loop."""
    before = len(daemon.log_text().splitlines())
    dropped = 'switch_responses_dropped_total{link="main",reason="nobody"}'
    with counting(daemon, dropped) as grown, Client(daemon.port) as peer:
        for number in range(MANY):
            message = request(mti, number, daemon.pans[0], 1, f39="00")
            if mti == "0810":
                message = network(number, "301") | {"mti": mti, 39: "00"}
            peer.send(message)
        # The next thing that comes is the answer to this, and nothing before it.
        answer = peer.ask(network(7, "301"))
        assert (answer["mti"], answer[11]) == ("0810", "000007")
    assert grown == [MANY]
    assert daemon.log_records("response dropped: nobody waits for it")
    assert len(daemon.log_text().splitlines()) - before < LINES_MAX


# -- slow, silent and half gone ------------------------------------------------------


def test_bytes_one_at_a_time(daemon, trader):
    message = request("0100", 1, daemon.pans[ACCOUNTS - 1], 1)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Client(daemon.port)) for _ in range(20)]
        frames = [
            peer.framing.encode(peer.codec.encode(message | {11: f"{number:06d}"}))
            for number, peer in enumerate(peers)
        ]
        for position in range(len(frames[0])):
            for peer, frame in zip(peers, frames, strict=True):
                peer.socket.sendall(frame[position : position + 1])
            trader.wait_for(1)
        for number, peer in enumerate(peers):
            answer = peer.receive()
            assert (answer[11], answer[39]) == (f"{number:06d}", "00")


def test_a_frame_in_two_pieces_wherever_it_is_cut(daemon, trader):
    with Client(daemon.port) as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = len(peer.framing.encode(peer.codec.encode(network(1, "301"))))
        for cut in range(1, size):
            frame = peer.framing.encode(peer.codec.encode(network(cut, "301")))
            peer.socket.sendall(frame[:cut])
            peer.socket.sendall(frame[cut:])
            answer = peer.receive()
            assert (answer[11], answer[39]) == (f"{cut:06d}", "00")


def test_a_peer_that_only_listens_after_its_last_request_is_answered(daemon, trader):
    with Client(daemon.port) as peer:
        peer.send(*(request("0100", n, daemon.pans[30], 1) for n in range(100)))
        peer.socket.shutdown(socket.SHUT_WR)
        assert sorted(int(peer.receive()[11]) for _ in range(100)) == list(range(100))
        assert peer.receive_body() is None


def test_peers_that_vanish_leave_nothing(daemon, trader):
    for number in range(50):
        peer = Client(daemon.port)
        peer.send(*(request("0100", n, daemon.pans[31], 1) for n in range(20)))
        if number % 2:
            peer.socket.sendall(b"\x01")
        reset(peer.socket)
    wait_until(
        lambda: daemon.metrics()['switch_connections{link="main"}'] == 1,
        "them to be gone",
    )
    wait_until(
        lambda: daemon.metrics()['switch_requests_in_flight{link="main"}'] <= 1,
        "all but the trader's to be committed",
    )
    # What was decided for them counts, once.
    assert daemon.figures("A31")[1] <= 20


def test_a_peer_that_never_reads_is_not_read_either(daemon, trader):
    codec = Client(daemon.port)
    frame = codec.framing.encode(
        codec.codec.encode(request("0100", 1, daemon.pans[32], 1))
    )
    codec.close()
    paused = 'switch_reads_paused_total{by="peer",link="main"}'
    with counting(daemon, paused) as grown, connect(daemon) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        peer.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while True:
                sent += peer.send(frame * 100)
        trader.wait_for(100)
        peer.settimeout(WAIT_SECONDS_MAX)
        # It begins to read: nothing that was taken stays unanswered.
        whole = sent // len(frame)
        got = 0
        size = None
        while size is None or got < whole * size:
            data = peer.recv(1 << 16)
            size = size or 2 + int.from_bytes(data[:2], "big")
            got += len(data)
        assert got == whole * size
    assert grown[0] > 0


# -- too many ------------------------------------------------------------------------


def test_connections_above_the_limit_are_closed_and_those_below_stay(daemon, trader):
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(Client(daemon.port)) for _ in range(30)]
        for number, peer in enumerate(kept):
            assert peer.ask(network(number, "301"))[39] == "00"
        with counting(daemon, 'switch_connections_refused_total{link="main"}') as grown:
            peers = [
                stack.enter_context(connect(daemon)) for _ in range(3 * CONNECTIONS_MAX)
            ]
            refused = len(peers) + len(kept) + 1 - CONNECTIONS_MAX
            wait_until(
                lambda: (
                    daemon.metrics()['switch_connections{link="main"}']
                    == CONNECTIONS_MAX
                    and _refused(daemon) >= refused
                ),
                "the flood to be over",
            )
        assert grown == [refused]
        for number, peer in enumerate(kept):
            assert peer.ask(network(number, "301"))[39] == "00"
        for closed in peers[-refused:]:
            assert is_closed(closed)
    wait_until(lambda: daemon.metrics()['switch_connections{link="main"}'] == 1, "room")
    with Client(daemon.port) as peer:
        assert peer.ask(network(1, "301"))[39] == "00"


def _refused(daemon: Daemon) -> float:
    return daemon.metrics()['switch_connections_refused_total{link="main"}']


def limit_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_MAX, DESCRIPTORS_MAX))


def has_room(daemon: Daemon) -> bool:
    with Client(daemon.port) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(network(1, "301"))
        return client.receive_body() is not None


def test_a_flood_that_takes_every_descriptor_stops_nobody_who_is_there(tmp_path):
    with Daemon(tmp_path) as daemon, contextlib.ExitStack() as stack:
        daemon.pans = make_bank(daemon.data, 1, BALANCE)
        daemon.start(limit_descriptors)
        trader = Trader(daemon, 0)
        trader.start()
        stack.callback(trader.end)
        peers = [connect(daemon) for _ in range(3 * DESCRIPTORS_MAX)]
        trader.wait_for(1_000)
        for peer in peers:
            peer.close()
        assert daemon.log_records("fewer descriptors than connections are allowed")
        refused = daemon.log_records("connection refused")
        assert {record["reason"] for record in refused} == {"descriptors run out"}
        # What comes too early is accepted and closed: there is no descriptor for it.
        wait_until(lambda: has_room(daemon), "room for another one")
        trader.end()
        assert trader.fault is None, trader.fault
        assert daemon.stop() == 0
