"""The commands around the daemon, each as a user calls it."""

import io
import json
from pathlib import Path

import pytest

import switch
from switch.cli import exits
from switch.cli.main import main

CAPTURE = "tests/vectors/mastercard-cis.hex"
TRACK = "F5F2F0F4F7F4F0F0F0F0F0F0F1F0F1F0C4"


@pytest.fixture
def run(capsys):
    def call(*words):
        exit_code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err

    return call


def test_version(run):
    assert run("version") == (exits.OK, f"switch {switch.__version__}\n", "")
    exit_code, output, _ = run("version", "--json")
    said = json.loads(output)
    assert exit_code == exits.OK
    assert said["version"] == switch.__version__
    assert "switch.replay._traffic" in said["native"]
    assert said["sqlite"].startswith("3.")


def test_config_shows_what_is_set_and_where(run, monkeypatch, tmp_path):
    file = tmp_path / "switch.toml"
    file.write_text("[ledger]\nhold_lifetime_s = 60\n")
    monkeypatch.setenv("SWITCH_LINK_FRAMING", "ascii4")
    flags = ["--config", file, "--listen", "127.0.0.1:99", "--set", "link.spec=x"]
    exit_code, output, _ = run("config", *flags, "--json")
    tree = json.loads(output)
    assert exit_code == exits.OK
    assert tree["ledger"]["hold_lifetime_s"] == 60
    assert tree["links"]["main"]["framing"] == "ascii4"
    assert tree["links"]["main"]["address"] == "127.0.0.1:99"
    assert tree["links"]["main"]["spec"] == "x"
    exit_code, output, _ = run("config", *flags)
    assert 'framing = "ascii4"  # SWITCH_LINK_FRAMING' in output
    assert 'address = "127.0.0.1:99"  # flag' in output


@pytest.mark.parametrize(
    "words", [["--framing", "x"], ["--set", "link.spex=1"], ["--set", "link.spec"]]
)
def test_a_setting_that_is_not_one_is_exit_2(run, words):
    exit_code, output, errors = run("config", *words)
    assert (exit_code, output) == (exits.USAGE, "")
    assert errors.startswith("switch: ")


def test_decode_masks(run):
    exit_code, output, _ = run("decode", "--spec", "mastercard-cis", CAPTURE)
    assert exit_code == exits.OK
    assert output.count("MTI ") == 3
    assert "************1010" in output
    assert "5204740000001010" not in output
    exit_code, output, _ = run(
        "decode", "--spec", "mastercard-cis", CAPTURE, "--unmasked"
    )
    assert "5204740000001010" in output


def test_decode_as_json(run):
    exit_code, output, _ = run("decode", "--spec", "mastercard-cis", CAPTURE, "--json")
    messages = json.loads(output)["messages"]
    assert exit_code == exits.OK
    assert [message["mti"] for message in messages] == ["0100", "0120", "0420"]
    assert messages[0]["fields"]["2"]["value"] == "************1010"
    assert "520474" not in output


def test_decode_takes_hex_with_and_without_a_header(run, monkeypatch):
    line = Path(CAPTURE).read_text().splitlines()[-1]
    for words in ([line], [line[4:]], ["--framing", "binary2", line]):
        exit_code, output, _ = run("decode", "--spec", "mastercard-cis", *words)
        assert exit_code == exits.OK
        assert "MTI 0420" in output
    monkeypatch.setattr("sys.stdin", io.StringIO(f"# piped\n{line}\n"))
    exit_code, output, _ = run("decode", "--spec", "mastercard-cis")
    assert exit_code == exits.OK
    assert "MTI 0420" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["30313030"], "line 1: bitmap at offset 4: expected 16 bytes, got 0"),
        (["313"], "even number of hex digits, got 3"),
        (["nonsense"], "expected hex digits, a file or -, got neither"),
        (["--framing", "ascii4", "3031"], "expected one whole ascii4 frame"),
        (["--framing", "morse", "3031"], "expected one of binary2"),
        (["--spec", "none", "3031"], "--spec: expected one of"),
    ],
)
def test_decode_says_what_is_wrong(run, words, said):
    exit_code, output, errors = run("decode", *words)
    assert (exit_code, output) == (exits.USAGE, "")
    assert said in errors


def test_decode_shows_what_came_before_a_fault(run):
    line = Path(CAPTURE).read_text().splitlines()[-1]
    exit_code, output, errors = run("decode", "--spec", "mastercard-cis", line[4:-20])
    assert exit_code == exits.USAGE
    assert "MTI 0420" in output
    assert "line 1: field 90 at offset" in errors


def test_a_card_in_mistyped_hex_is_not_repeated(run):
    exit_code, _, errors = run("decode", "--spec", "mastercard-cis", TRACK + "G")
    assert exit_code == exits.USAGE
    assert TRACK not in errors


def test_load(run, respond, cards_file):
    responder = respond(lambda request, count: "51" if count == 3 else "00")
    target = ["--to", f"127.0.0.1:{responder.port}", "--cards", cards_file]
    words = ["load", *target, "--seconds", "0.2", "--window", "4", "--currency", "usd"]
    exit_code, output, errors = run(*words, "--json")
    result = json.loads(output)
    assert (exit_code, errors) == (exits.OK, "")
    assert result["sent"] == result["answered"] == len(responder.requests)
    assert result["declined"] == 1
    assert result["unanswered"] == 0
    assert set(result["latency_ms"]) == {"p50", "p99", "p999", "max"}
    assert {request[49] for request in responder.requests} == {"840"}
    exit_code, output, _ = run(*words)
    assert exit_code == exits.OK
    assert "answered a second" in output
    assert "00 approved" in output


def test_load_tells_what_went_wrong(run, respond, cards_file, tmp_path):
    silent = respond(lambda request, count: None)
    words = ["--cards", cards_file, "--seconds", "0.1", "--grace", "0.1", "--json"]
    exit_code, output, _ = run("load", "--to", f"127.0.0.1:{silent.port}", *words)
    assert exit_code == exits.NOT_SO
    assert json.loads(output)["unanswered"] == 64

    closing = respond(close_after=10)
    exit_code, output, errors = run("load", "--to", f"127.0.0.1:{closing.port}", *words)
    assert exit_code == exits.NOT_SO
    assert json.loads(output)["sent"] >= 10
    assert errors.startswith("switch: connection 1: ")

    exit_code, output, errors = run("load", "--to", "127.0.0.1:1", *words)
    assert (exit_code, output) == (exits.INPUT_OUTPUT, "")
    assert errors == "switch: connection to 127.0.0.1 port 1: Connection refused\n"

    target = ["--to", f"127.0.0.1:{silent.port}"]
    missing = tmp_path / "none.csv"
    exit_code, _, errors = run("load", *target, "--cards", missing)
    assert exit_code == exits.INPUT_OUTPUT
    assert errors == f"switch: {missing}: No such file or directory\n"


@pytest.mark.parametrize(
    "words",
    [
        *(["--window", "0"], ["--connections", "x"], ["--rate", "-1"]),
        *(["--seconds", "nan"], ["--currency", "XYZ"], ["--framing", "morse"]),
        ["--connections", "1024", "--window", "65536"],
    ],
)
def test_load_refuses_what_it_cannot_do(run, respond, cards_file, words):
    responder = respond()
    target = ["--to", f"127.0.0.1:{responder.port}", "--cards", cards_file]
    exit_code, output, errors = run("load", *target, *words)
    assert (exit_code, output) == (exits.USAGE, "")
    assert "expected" in errors
