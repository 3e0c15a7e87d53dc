"""Several links in one daemon, a link that dials, and a configuration read again."""

import json
import signal
import socket

import pytest

from tests.end_to_end.harness import (
    HOST,
    ROOT,
    WAIT_SECONDS_MAX,
    Client,
    Daemon,
    make_bank,
    network,
    original_of,
    request,
    run_switch,
    verify,
    wait_until,
)

BALANCE = 100_000
EXAMPLE = ROOT / "docs/switch.example.toml"


class Configured(Daemon):
    """A daemon with a file, and no other word of where to listen."""

    def __init__(self, folder):
        super().__init__(folder)
        self.file = folder / "switch.toml"
        self.options = ("--config", str(self.file))
        self.listen = ()

    def write(self, text):
        self.file.write_text(text)

    def read_again(self, text):
        self.write(text)
        before = len(self.log_records("configuration read again"))
        self.send_signal(signal.SIGHUP)
        wait_until(
            lambda: len(self.log_records("configuration read again")) > before,
            "the configuration to be read",
        )

    def client(self, link, *spec, **framing):
        return Client(self.link_port(link), *spec, **framing)


@pytest.fixture
def daemon(tmp_path):
    with Configured(tmp_path) as daemon:
        daemon.pans = make_bank(daemon.data, 3, BALANCE)
        yield daemon
        assert daemon.metrics_of("switch_faults_total") == 0
        assert daemon.stop() == 0
        assert verify(daemon.data)["ok"]


def link(name, *lines):
    return "\n".join((f"[links.{name}]", "address = '127.0.0.1:0'", *lines, ""))


PLAIN = link("plain", "scheme = 1")
PACKED = link(
    "packed", "spec = 'iso87-binary'", "framing = 'ascii4'", "inclusive = false"
)


def test_two_links_with_different_specifications_are_one_switch(daemon):
    daemon.write(PLAIN + PACKED)
    daemon.start()
    pan = daemon.pans[0]
    with (
        daemon.client("plain") as plain,
        daemon.client("packed", "iso87-binary", framing="ascii4") as packed,
    ):
        assert plain.ask(request("0100", 1, pan, 60_000))[39] == "00"
        assert packed.ask(request("0100", 2, pan, 60_000))[39] == "51"
        assert packed.ask(request("0100", 3, pan, 40_000))[39] == "00"
        assert packed.ask(network(4, "301"))[39] == "00"
        metrics = daemon.metrics()
    assert daemon.figures("A0") == (BALANCE, BALANCE, 0)
    counted = 'switch_requests_total{{link="{}",mti="0100",response_code="{}"}}'
    assert metrics[counted.format("plain", "00")] == 1
    assert metrics[counted.format("packed", "51")] == 1
    assert metrics['switch_connections{link="packed"}'] == 1
    assert metrics['switch_link_up{link="plain"}'] == 1


def test_duplicates_and_reversals_are_told_by_scheme_and_so_after_a_restart(daemon):
    daemon.write(PLAIN + link("backup", "scheme = 1") + link("another", "scheme = 2"))
    daemon.start()
    pan = daemon.pans[0]
    reversal = request("0400", 2, pan, 100, f90=original_of("0100", 1))
    with daemon.client("plain") as client:
        first = client.ask(request("0100", 1, pan, 100))
    with daemon.client("backup") as client:
        assert client.ask(request("0101", 1, pan, 100)) == first
    with daemon.client("another") as client:
        other = client.ask(request("0100", 1, pan, 100))
        assert other[38] != first[38]
    assert daemon.figures("A0") == (BALANCE, 200, BALANCE - 200)
    assert daemon.stop() == 0
    daemon.start()
    with daemon.client("another") as client:
        assert client.ask(request("0101", 1, pan, 100)) == other
        assert client.ask(reversal)[39] == "00"
    with daemon.client("backup") as client:
        assert client.ask(request("0101", 1, pan, 100)) == first
    assert daemon.figures("A0") == (BALANCE, 100, BALANCE - 100)


# -- a link that dials


class Scheme(Client):
    """A scheme that was dialled; reads and writes with a TPDU before each message."""

    TPDU = bytes.fromhex("60 0001 0002")

    def __init__(self, server: socket.socket) -> None:
        server.settimeout(WAIT_SECONDS_MAX)
        accepted, _ = server.accept()
        accepted.settimeout(WAIT_SECONDS_MAX)
        super().__init__(0, over=accepted)

    def send(self, *messages):
        for message in messages:
            self.send_body(self.TPDU + self.codec.encode(message))

    def receive_body(self):
        body = super().receive_body()
        self.last_tpdu = b"" if body is None else body[:5]
        return None if body is None else body[5:]

    def approve_sign_on(self):
        asked = self.receive()
        assert (asked["mti"], asked[70]) == ("0800", "001")
        self.send({**asked, "mti": "0810", 39: "00"})


def test_a_dialled_scheme_is_signed_on_to_and_served_and_dialled_again(daemon):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        daemon.write(
            f"[links.out]\nrole = 'dial'\naddress = '{HOST}:{port}'\ntpdu = true\n"
            "redial_min_ms = 1\nredial_max_ms = 20\n"
            "[links.out.session]\nsign_on = 'send'\n"
        )
        daemon.start()
        with Scheme(server) as scheme:
            scheme.approve_sign_on()
            answer = scheme.ask(request("0200", 1, daemon.pans[0], 500))
            assert (answer["mti"], answer[39]) == ("0210", "00")
            assert scheme.last_tpdu == bytes.fromhex("60 0002 0001")
            signed_on = 'switch_connections_signed_on{link="out"}'
            assert daemon.metrics()[signed_on] == 1
        with Scheme(server) as scheme:
            scheme.approve_sign_on()
            repeat = scheme.ask(request("0201", 1, daemon.pans[0], 500))
            assert {**repeat, "mti": "0210"} == answer
    # Nobody listens any more: there is no link left that is up.
    wait_until(lambda: daemon.get("/readyz")[0] == 503, "the only link to be down")
    reasons = json.loads(daemon.get("/readyz")[1])["reasons"]
    assert reasons[0].startswith("link out: ")


def test_a_dialled_link_that_is_down_is_told_while_others_serve(daemon):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    daemon.write(PLAIN + f"[links.out]\nrole = 'dial'\naddress = '{HOST}:{port}'\n")
    daemon.start()
    wait_until(lambda: daemon.log_records("dial failed"), "an attempt")
    status, body = daemon.get("/readyz")
    assert status == 200
    assert list(json.loads(body)["links_down"]) == ["out"]
    assert daemon.metrics()['switch_link_up{link="out"}'] == 0
    with daemon.client("plain") as client:
        assert client.ask(request("0100", 1, daemon.pans[0], 1))[39] == "00"


# -- a configuration read again


def test_what_does_not_change_keeps_its_connections_and_what_does_begins_anew(daemon):
    daemon.write(PLAIN + PACKED)
    daemon.start()
    port = daemon.link_port("plain")
    packed = "iso87-binary"
    with (
        daemon.client("plain") as plain,
        daemon.client("packed", packed, framing="ascii4") as gone,
    ):
        assert gone.ask(network(1, "301"))[39] == "00"
        text = PLAIN + link("packed", "spec = 'iso87-mixed'") + link("new")
        daemon.read_again(text)
        assert gone.receive_body() is None
        assert plain.ask(request("0100", 1, daemon.pans[0], 100))[39] == "00"
        with daemon.client("packed", "iso87-mixed") as again:
            assert again.ask(request("0100", 2, daemon.pans[0], 100))[39] == "00"
        with daemon.client("new") as new:
            assert new.ask(request("0100", 3, daemon.pans[0], 100))[39] == "00"
            daemon.read_again(PLAIN)
            assert new.receive_body() is None
        assert plain.ask(request("0100", 4, daemon.pans[0], 100))[39] == "00"
    (first, second) = daemon.log_records("configuration read again")
    names = ("kept", "started", "replaced", "ended")
    assert [first[name] for name in names] == ["plain", "new", "packed", ""]
    assert [second[name] for name in names] == ["plain", "", "", "new,packed"]
    assert daemon.link_port("plain") == port
    # What the links that are gone have counted is still there.
    counted = 'switch_requests_total{link="new",mti="0100",response_code="00"}'
    assert daemon.metrics()[counted] == 1


def test_a_file_that_is_wrong_changes_nothing_and_says_all_that_is(daemon):
    daemon.write(PLAIN)
    daemon.start()
    with daemon.client("plain") as client:
        daemon.write(link("plain", "spec = 1", "scheme = 700") + link("new"))
        daemon.send_signal(signal.SIGHUP)
        event = "configuration is wrong: nothing has changed"
        wait_until(lambda: len(daemon.log_records(event)) == 2, "both problems")
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            daemon.write(PLAIN + f"[links.new]\naddress = '{HOST}:{port}'\n")
            daemon.send_signal(signal.SIGHUP)
            wait_until(lambda: len(daemon.log_records(event)) == 3, "the clash")
        daemon.write(link("plain", "spec = 'klingon'"))
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: len(daemon.log_records(event)) == 4, "the specification")
        assert client.ask(request("0100", 1, daemon.pans[0], 1))[39] == "00"
    reasons = [record["reason"] for record in daemon.log_records(event)]
    assert reasons[0].startswith("links.plain.spec: expected text, got 1")
    assert reasons[1].startswith("links.plain.scheme: expected an integer from 0 to")
    assert f"{HOST}:{port}: already in use" in reasons[2]
    assert reasons[3].startswith("links.plain.spec: expected one of")
    assert not daemon.log_records("configuration read again")


def test_what_needs_a_new_start_is_said_so(daemon):
    daemon.write(PLAIN)
    daemon.start()
    shards = "[journal]\nshards = 3\n[log]\nlevel = 'debug'\n"
    daemon.read_again(PLAIN + shards)
    records = daemon.log_records("setting is the same until the next start")
    assert [(each["setting"], each["has"], each["asked"]) for each in records] == [
        ("journal.shards", 64, 3),
        ("log.level", "info", "debug"),
    ]


# -- looking at a file


def test_the_example_can_be_used():
    done = run_switch("config", "check", EXAMPLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{EXAMPLE}: ok, links: mastercard, domestic\n"
    shown = json.loads(run_switch("config", "--config", EXAMPLE, "--json").stdout)
    assert shown["links"]["domestic"]["session"]["sign_on"] == "send"


def test_a_check_has_a_line_for_each_problem_and_exits_with_2(tmp_path):
    file = tmp_path / "switch.toml"
    file.write_text(
        "a = 1\n" + link("one", "spec = 7") + link("two", "framing = 'morse'")
    )
    done = run_switch("config", "check", file)
    assert (done.returncode, done.stderr) == (2, "")
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert names == ["a", "links.one.spec", "links.two.framing"]
    done = run_switch("config", "check", file, "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 2
    assert (said["ok"], len(said["problems"])) == (False, 3)
