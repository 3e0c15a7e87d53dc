"""What people test with, against a real daemon: decode, send, simulate."""

import contextlib
import json
import re
import signal
import subprocess

import pytest

import iso8583
from switch.link._framing import Framing
from tests.end_to_end.harness import (
    EXPIRY,
    HOST,
    ROOT,
    SWITCH,
    WAIT_SECONDS_MAX,
    Daemon,
    environment,
    import_accounts,
    import_cards,
    pan_of,
    run_switch,
    verify,
    wait_until,
)
from tests.unit.replay.packets import Conversation, pcap

SCENARIOS = ROOT / "docs/scenarios"
# the cards that the scenarios say they need
ACTIVE, LOST = pan_of(1), pan_of(2)
BALANCE = 250_000


@pytest.fixture
def make_daemon(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(*options: str) -> Daemon:
            daemon = stack.enter_context(Daemon(tmp_path, *options))
            import_accounts(
                daemon.data,
                [("ACTIVE", "EUR", BALANCE, 0), ("LOST", "EUR", BALANCE, 0)],
            )
            import_cards(
                daemon.data,
                [(ACTIVE, "ACTIVE", EXPIRY, "active"), (LOST, "LOST", EXPIRY, "lost")],
            )
            daemon.start()
            return daemon

        yield make


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


def test_the_cards_of_the_scenarios_are_these():
    text = (SCENARIOS / "purchases.toml").read_text()
    assert ACTIVE in text
    assert LOST in text


def target(daemon: Daemon) -> tuple[str, str]:
    return "--to", f"{HOST}:{daemon.port}"


def test_send_shows_what_the_switch_decides(daemon, tmp_path):
    card = tmp_path / "card.txt"
    card.write_text(ACTIVE + "\n")
    words = (f"2=@{card}", "3=000000", "32=123456", "49=EUR", "--sign-on", "--json")
    send = ("send", *target(daemon), "mti=0100", *words)
    done = run_switch(*send, "4=1500", "--expect", "39=00", "--expect", "38=*")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert first["answer"]["mti"] == "0110"
    assert daemon.figures("ACTIVE") == (BALANCE, 1500, BALANCE - 1500)

    # the same trace numbers again: the same answer, and nothing more is held
    traces = [f"{n}={first['request']['fields'][str(n)]['value']}" for n in (7, 11, 37)]
    again = run_switch(*send, "4=1500", *traces)
    decided = [json.loads(d.stdout)["answer"]["fields"]["38"] for d in (done, again)]
    assert decided[0] == decided[1]
    assert daemon.figures("ACTIVE") == (BALANCE, 1500, BALANCE - 1500)

    done = run_switch(*send, f"4={BALANCE}", "--expect", "39=00")
    assert done.returncode == 1
    assert json.loads(done.stdout)["differences"] == [
        "field 39: expected 00, got 51"
    ]  # fmt: skip
    assert ACTIVE not in done.stdout + again.stdout + daemon.log_text()


@pytest.mark.parametrize(
    "language",
    [
        ("--spec", "iso87-ascii", "--framing", "binary2"),
        ("--spec", "visa-base1", "--framing", "binary4"),
        ("--spec", "mastercard-cis", "--framing", "binary2"),
    ],
    ids=lambda words: words[1],
)
def test_the_scenario_of_purchases_holds(make_daemon, language):
    """Whoever has not signed on as the scheme does is not answered."""
    required = "links.main.session.sign_on_required=true"
    daemon = make_daemon(*language, "--set", required)
    done = run_switch(
        *("simulate", SCENARIOS / "purchases.toml", *target(daemon), *language),
        "--json",
    )
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert done.returncode == 0, done.stderr
    assert (report["ok"], report["complete"]) == (True, True)
    # the completion posts 12.00; all purchases are given back
    assert daemon.figures("ACTIVE") == (BALANCE - 1200, 0, BALANCE - 1200)
    assert daemon.figures("LOST") == (BALANCE, 0, BALANCE)
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_a_bad_network_does_not_bring_the_switch_into_disorder(daemon):
    done = run_switch("simulate", SCENARIOS / "faults.toml", *target(daemon), "--json")
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert done.returncode == 0, done.stderr
    assert set(report["faults"]) == {
        *("late", "lost", "doubled", "reordered", "malformed")
    }
    (step,) = report["steps"]
    faults = report["faults"]
    assert step["sent"] == 200
    assert step["as_expected"] == 200 - faults["lost"] - faults["malformed"]
    assert report["doubled_differently"] == 0
    # a cent for each that arrived, once; a malformed one may not be approved
    assert step["response_codes"]["00"] == step["as_expected"]
    held = step["as_expected"]
    assert daemon.figures("ACTIVE") == (BALANCE, held, BALANCE - held)


def test_a_broken_expectation_is_exit_1(daemon, tmp_path):
    text = (SCENARIOS / "purchases.toml").read_text()
    scenario = tmp_path / "wrong.toml"
    scenario.write_text(text.replace('"41", 38', '"43", 38'))
    done = run_switch("simulate", scenario, *target(daemon))
    assert done.returncode == 1
    assert "field 39: expected 43, got 41" in done.stdout
    assert done.stdout.endswith("not ok\n")


class Issuer:
    """`switch simulate` on the scenario of an issuer, on a port of its own."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                *(*SWITCH, "simulate", str(SCENARIOS / "issuer.toml")),
                *("--listen", f"{HOST}:0", *options),
            ],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        found = re.fullmatch(rf"listening on {HOST}:(\d+)\n", said)
        assert found, said
        self.port = int(found[1])

    def __enter__(self) -> "Issuer":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=WAIT_SECONDS_MAX)
        return self.process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_issuer_answers_by_its_table_until_it_is_stopped(number):
    with Issuer("--json") as issuer:
        send = ("send", "--to", f"{HOST}:{issuer.port}", "mti=0100", "49=EUR")
        for words in (
            (f"2={ACTIVE}", "4=1500", "--expect", "39=00", "--expect", "38=*"),
            (f"2={LOST}", "4=1500", "--expect", "39=41", "--expect", "38="),
            (f"2={ACTIVE}", "4=100001", "--expect", "39=51", "--expect", "54=*"),
            (f"2={ACTIVE}", "4=777", "--expect", "39=00"),
        ):
            done = run_switch(*send, *words)
            assert done.returncode == 0, done.stdout
        done = run_switch(*send, "4=666", "--timeout", "0.2")
        assert done.returncode == 1
        exit_code, output = issuer.stop(number)
    report = json.loads(output)
    assert exit_code == 0
    assert report["ok"]
    assert report["rules"] == {
        "never answered": 1,
        "answered late": 1,
        "lost card": 1,
        "too much": 1,
        "purchase": 1,
        "advice or reversal": 0,
    }


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_scenario_that_is_stopped_shows_how_far_it_came(
    daemon, tmp_path, number, exit_code
):
    text = (SCENARIOS / "faults.toml").read_text().replace("rate = 200", "rate = 0.01")
    scenario = tmp_path / "slow.toml"
    scenario.write_text(re.sub(r"(?s)\[faults\].*?\n\n", "", text))
    process = subprocess.Popen(
        [*SWITCH, "simulate", str(scenario), *target(daemon)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: daemon.figures("ACTIVE")[1] == 1, "the first message")
        process.send_signal(number)
        output, _ = process.communicate(timeout=WAIT_SECONDS_MAX)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == exit_code
    assert "not all steps were played: stopped" in output


def test_decode_reads_a_network_capture_and_says_what_it_is(tmp_path):
    codec = iso8583.Codec(iso8583.load_spec("mastercard-cis"))
    framing = Framing("ascii4")
    request = {"mti": "0100", 2: ACTIVE, 4: "000000001500", 11: "000001", 39: "00"}
    conversation = Conversation().open()
    conversation.to_switch(framing.encode(codec.encode(request)))
    conversation.from_switch(framing.encode(codec.encode({**request, "mti": "0110"})))
    file = tmp_path / "line.pcap"
    file.write_bytes(pcap(conversation.packets))
    done = run_switch("decode", file, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["format"], shown["spec"]) == ("pcap", "mastercard-cis")
    assert shown["framing"] == "ascii4"
    assert [message["mti"] for message in shown["messages"]] == ["0100", "0110"]
    assert ACTIVE not in done.stdout
