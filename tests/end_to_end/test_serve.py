"""Starting, stopping, and what operators see meanwhile."""

import json
import re
import signal
import socket
import subprocess

import pytest

import switch
from tests.end_to_end.harness import (
    HOST,
    ROOT,
    SWITCH,
    Client,
    Daemon,
    environment,
    make_bank,
    network,
    original_of,
    request,
    run_switch,
    verify,
    wait_until,
)

BALANCE = 1_000_000
ACCOUNTS = 10
# More than a read of a socket takes, and fewer than may wait for their commit.
IN_FLIGHT = 3_000


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A daemon that only what changes nothing but accounts may use."""
    with Daemon(tmp_path_factory.mktemp("serve")) as daemon:
        daemon.pans = make_bank(daemon.data, ACCOUNTS, BALANCE, 500)
        daemon.start()
        yield daemon


@pytest.fixture
def daemon(tmp_path):
    with Daemon(tmp_path) as daemon:
        yield daemon


# -- what is fixed -------------------------------------------------------------------


def test_the_defaults_are_those_that_others_lean_on():
    config = json.loads(run_switch("config", "--json").stdout)
    settings = config.get("config", config)
    assert settings["links"]["main"]["address"] == "127.0.0.1:8583"
    assert settings["http"]["listen"] == "127.0.0.1:8580"
    assert settings["links"]["main"]["spec"] == "iso87-ascii"
    assert settings["links"]["main"]["framing"] == "binary2"


def test_serve_takes_its_flags(tmp_path, free_port):
    """Ports of our choice, another spec, another framing, an empty directory."""
    with Daemon(tmp_path) as daemon:
        daemon.options = (
            *("--listen", f"{HOST}:{free_port}"),
            *("--spec", "iso87-binary", "--framing", "ascii4"),
        )
        daemon.start()
        assert daemon.port == free_port
        with Client(free_port, "iso87-binary", framing="ascii4") as client:
            answer = client.ask(network(1, "301"))
        assert (answer["mti"], answer[39]) == ("0810", "00")
        assert (daemon.data / "journal.db").exists()
        assert (daemon.data / "pan.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--spec", "iso87-klingon"), "spec"),
        (("--framing", "morse"), "framing"),
        (("--listen", "nowhere"), "HOST:PORT"),
        (("--set", "link.connections_max=0"), "links.main.connections_max"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_before_anything_is_made(
    tmp_path, option, said
):
    done = run_switch("serve", "--data", tmp_path / "data", *option)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


# -- addresses and directories that others have --------------------------------------


@pytest.mark.parametrize("flag", ["--listen", "--http"])
def test_a_port_in_use_is_told_and_nothing_is_left_running(daemon, flag):
    with socket.create_server((HOST, 0)) as server:
        address = f"{HOST}:{server.getsockname()[1]}"
        daemon.options = (flag, address)
        daemon.spawn()
        assert daemon.wait() == 74
    assert f"{address}: already in use" in daemon.log_tail()
    wait_until(lambda: not daemon.processes(), "its processes to end")


def test_a_second_daemon_on_the_directory_is_refused_by_pid(bank):
    command = [*SWITCH, "serve", "--data", str(bank.data), "--listen", f"{HOST}:0"]
    done = run_switch(*command[len(SWITCH) :], "--http", f"{HOST}:0")
    assert done.returncode == 74
    assert f"in use by process {bank.pid}" in done.stderr
    for others in (
        ("journal", "verify", bank.data),
        ("accounts", "import", __file__, "--data", bank.data),
    ):
        done = run_switch(*others)
        assert done.returncode == 74
        assert str(bank.pid) in done.stderr
    with Client(bank.port) as client:
        assert client.ask(network(1, "301"))[39] == "00"


# -- HTTP ----------------------------------------------------------------------------


def test_health_and_readiness_are_told(bank):
    assert bank.get("/healthz") == (200, '{"healthy": true, "reasons": []}')
    assert bank.get("/readyz") == (200, '{"ready": true, "reasons": []}')
    assert bank.get("/nothing")[0] == 404


def test_an_account_is_shown_and_one_that_is_not_there_is_not(bank):
    assert bank.account("A0") == {
        "account": "A0",
        "status": "active",
        "currency": "EUR",
        "balance": BALANCE,
        "held": 0,
        "credit_limit": 500,
        "available": BALANCE + 500,
    }
    for name in ("A99", "a0", "A0%20", "%C3%A4", "x" * 500, bank.pans[0]):
        status, body = bank.get(f"/api/accounts/{name}")
        assert status == 404
        assert bank.pans[0] not in body


def test_an_account_shows_what_was_just_answered(bank):
    with Client(bank.port) as client:
        for number in range(1, 51):
            client.ask(request("0100", number, bank.pans[1], 10))
            assert bank.figures("A1") == (
                BALANCE,
                10 * number,
                BALANCE + 500 - 10 * number,
            )


def test_metrics_count_what_happens(bank):
    before = bank.metrics()
    assert before[f'switch_build_info{{version="{switch.__version__}"}}'] == 1
    assert before["switch_accounts"] == before["switch_cards"] == ACCOUNTS
    with Client(bank.port) as client:
        first = request("0100", 1, bank.pans[2], 10)
        for message in (first, first, request("0100", 2, bank.pans[2], 10**9)):
            client.ask(message)
    after = bank.metrics()

    def grown(name):
        return after[name] - before.get(name, 0)

    assert (
        grown('switch_requests_total{link="main",mti="0100",response_code="00"}') == 2
    )
    assert (
        grown('switch_requests_total{link="main",mti="0100",response_code="51"}') == 1
    )
    assert grown('switch_duplicates_total{link="main"}') == 1
    assert grown("switch_entries_total") == 2
    assert grown('switch_frames_received_total{link="main"}') == 3
    assert after["switch_journal_head"] == after["switch_released_head"]
    wait_until(
        lambda: bank.metrics()["switch_published_head"] >= after["switch_journal_head"],
        "what was answered to be published",
    )


# -- the end -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_everything_received_is_answered(daemon, number):
    pans = make_bank(daemon.data, ACCOUNTS, BALANCE)
    daemon.start()
    with Client(daemon.port) as client:
        # All of it waits in the kernel when the signal comes, so none is answered yet.
        daemon.send_signal(signal.SIGSTOP)
        client.send(*(request("0100", n, pans[n % 10], 1) for n in range(IN_FLIGHT)))
        daemon.send_signal(number)
        daemon.send_signal(signal.SIGCONT)
        answers = []
        while (body := client.receive_body()) is not None:
            answers.append(client.codec.decode(body))
        assert sorted(int(a[11]) for a in answers) == list(range(IN_FLIGHT))
        assert {a[39] for a in answers} == {"00"}
    assert daemon.wait() == 0
    assert not daemon.processes()
    assert daemon.log_records("stopped")
    assert verify(daemon.data)["ok"]
    daemon.start()
    held = sum(daemon.account(f"A{index}")["held"] for index in range(ACCOUNTS))
    assert held == IN_FLIGHT


def test_a_stopped_switch_starts_from_its_snapshots(daemon):
    pans = make_bank(daemon.data, ACCOUNTS, BALANCE)
    daemon.start()
    with Client(daemon.port) as client:
        answer = client.ask(request("0100", 1, pans[0], 10))
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.log_records("recovered")[0]["entries_replayed"] == 0
    with Client(daemon.port) as client:
        assert client.ask(request("0101", 1, pans[0], 10)) == answer
        reversal = request("0400", 2, pans[0], 10, f90=original_of("0100", 1))
        assert client.ask(reversal)[39] == "00"
    assert daemon.figures("A0") == (BALANCE, 0, BALANCE)


def test_a_peer_that_is_signed_on_to_is_told_when_we_stop(daemon):
    daemon.start()
    with Client(daemon.port) as client:
        client.ask(network(1, "001"))
        daemon.send_signal(signal.SIGTERM)
        told = client.receive()
        assert (told["mti"], told[70]) == ("0800", "002")
        assert client.receive_body() is None
    assert daemon.wait() == 0


# -- the demonstration ---------------------------------------------------------------


def test_two_demonstrations_at_once_end_well_and_verify():
    """They want the same ports, and one of them has to take others."""
    demonstrations = [
        subprocess.Popen(
            [*SWITCH, "demo", "--seconds", "3"],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [demonstration.communicate() for demonstration in demonstrations]
    assert [errors for _, errors in told] == ["", ""]
    assert [each.returncode for each in demonstrations] == [0, 0]
    addresses = set()
    for shown, _ in told:
        assert re.search(r"^journal verify: ok, [0-9]+ entries", shown, re.MULTILINE)
        assert re.search(r"[1-9][0-9]* of [1-9][0-9]* answered", shown)
        addresses |= set(re.findall(r"127\.0\.0\.1:[0-9]+", shown))
    assert len(addresses) == 4
