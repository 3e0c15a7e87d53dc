"""The commands around the daemon, each as a user calls it."""

import base64
import io
import json
from pathlib import Path

import pytest

import iso8583
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
    assert output.count("\nMTI ") == 3
    assert "************1010" in output
    assert "5204740000001010" not in output
    exit_code, output, errors = run(
        "decode", "--spec", "mastercard-cis", CAPTURE, "--unmasked"
    )
    assert "5204740000001010" in output
    assert "warning: card data in clear" in errors


def test_decode_guesses_and_says_why(run):
    line = Path(CAPTURE).read_text().splitlines()[0]
    for given in (line, base64.b64encode(bytes.fromhex(line)).decode()):
        exit_code, output, errors = run("decode", given)
        assert (exit_code, errors) == (exits.OK, "")
        said, head, *_ = output.splitlines()
        assert "framing binary2: the length fits; spec mastercard-cis: EBCDIC" in said
        assert "all fields walked to the end; next best " in said
        assert head == "MTI 0100"
    exit_code, output, _ = run("decode", line, "--json")
    shown = json.loads(output)
    assert (shown["format"], shown["spec"]) == ("hex", "mastercard-cis")
    assert (shown["framing"], shown["ambiguous"]) == ("binary2", [])
    # told both, it has nothing to say
    told = ["--spec", "mastercard-cis", "--framing", "binary2"]
    assert run("decode", line, *told)[1].startswith("MTI 0100\n")


def test_decode_takes_the_bytes_themselves(run, tmp_path):
    data = b"".join(map(bytes.fromhex, Path(CAPTURE).read_text().split()))
    file = tmp_path / "stream.bin"
    file.write_bytes(data)
    exit_code, output, _ = run("decode", file)
    assert exit_code == exits.OK
    assert output.startswith("binary; framing binary2")
    assert output.count("\nMTI ") == 3
    exit_code, _, errors = run("decode", file, "--format", "hex")
    assert exit_code == exits.USAGE
    assert "expected hex digits" in errors


def test_decode_opens_chip_data_up(run):
    _, output, _ = run("decode", CAPTURE)
    assert "\n       9F02  Amount, authorised: 000000001500\n" in output
    assert "9F26  Application cryptogram: <chip, 16 characters>" in output
    _, output, _ = run("decode", CAPTURE, "--json")
    field = json.loads(output)["messages"][0]["fields"]["55"]
    tags = {tag["key"]: tag["value"] for tag in field["inside"]}
    assert field["value"].startswith("<chip, ")
    assert tags["9F1A"] == "0840"
    assert tags["9F26"] == "<chip, 16 characters>"
    assert "error" not in field


def test_decode_tells_where_chip_data_is_damaged(run):
    codec = iso8583.Codec(iso8583.load_spec("iso87-binary"))
    body = codec.encode({"mti": "0100", 55: "9C0100" + "70039A0326" + "1124"})
    _, output, _ = run("decode", body.hex())
    assert "9C  Transaction type: 00\n" in output
    assert "!: field 55.70.9A at offset 19: expected 3 bytes of data, got 1\n" in output


def test_decode_as_json(run):
    exit_code, output, _ = run("decode", "--spec", "mastercard-cis", CAPTURE, "--json")
    messages = json.loads(output)["messages"]
    assert exit_code == exits.OK
    assert [message["mti"] for message in messages] == ["0100", "0120", "0420"]
    assert messages[0]["fields"]["2"]["value"] == "************1010"
    assert "520474" not in output


def test_decode_shows_the_message_header(run):
    command = ["decode", "--spec", "visa-base1", "--framing", "binary4"]
    command.append("tests/vectors/visa-base1.hex")
    exit_code, output, _ = run(*command)
    assert exit_code == exits.OK
    assert output.count("    H  source: 999999\n") == 1
    exit_code, output, _ = run(*command, "--json")
    messages = json.loads(output)["messages"]
    assert exit_code == exits.OK
    assert messages[2]["header"]["source"] == "999999"
    assert messages[2]["fields"]["70"]["value"] == "001"
    assert "4123709999000029" not in output


def test_decode_takes_hex_with_and_without_a_header(run, monkeypatch):
    line = Path(CAPTURE).read_text().splitlines()[-1]
    for words in ([line], [line[4:]], ["--framing", "binary2", line]):
        exit_code, output, _ = run("decode", "--spec", "mastercard-cis", *words)
        assert exit_code == exits.OK
        assert "MTI 0420" in output
    piped = io.BytesIO(f"# piped\n{line}\n".encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(piped))
    exit_code, output, _ = run("decode", "--spec", "mastercard-cis")
    assert exit_code == exits.OK
    assert "MTI 0420" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["30313030"], "line 1: bitmap at offset 4: expected 16 bytes, got 0"),
        (["313"], "even number of hex digits, got 3"),
        (["nonsense"], "expected hex, base64, a file or -, got none of them"),
        (["--framing", "ascii4", "3031"], "expected whole ascii4 frames"),
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


def test_nothing_of_a_broken_message_is_shown_by_a_guess(run, tmp_path):
    # By a spec of packed digits the card number of an ASCII message is a time.
    card, digits = "9999990000000014", "393939"
    whole, other = (
        iso8583.Codec(iso8583.load_spec(name)).encode(
            {"mti": "0100", 2: card, 3: "000000", 11: "000017"}
        )
        for name in ("iso87-binary", "iso87-ascii")
    )
    file = tmp_path / "messages.hex"
    file.write_text(f"{whole.hex()}\n{whole.hex()}\n{other.hex()}\n")
    exit_code, output, errors = run("decode", file)
    assert exit_code == exits.USAGE
    assert output.startswith("hex; framing none: ")
    assert output.count("\nMTI 0100") == 2
    assert digits not in output + errors
    assert "line 3: field " in errors
    assert errors.endswith("(--spec NAME with --framing NAME shows what was read)\n")
    _, output, errors = run("decode", file, "--json")
    *_, last = json.loads(output)["messages"]
    assert sorted(last) == ["error", "place"]
    assert "MTI 3031" in run("decode", file, "--spec", "iso87-binary")[1]
    _, output, errors = run("decode", file, "--unmasked")
    assert f"Time, local transaction: {digits}" in output
    assert "card data in clear" in errors


def test_a_message_that_two_framings_fit_is_no_less_guessed(run):
    line = Path(CAPTURE).read_text().splitlines()[-1]
    size = len(line) // 2 - 2 - 10
    cut = f"{size:04x}{line[4:-20]}"
    exit_code, output, errors = run("decode", "--spec", "mastercard-cis", cut)
    assert exit_code == exits.USAGE
    assert "\nMTI" not in output
    assert "with --framing NAME" in errors
    told = ["--spec", "mastercard-cis", "--framing", "binary2"]
    _, output, errors = run("decode", *told, cut)
    assert output.startswith("MTI 0420\n")
    assert "line 1: field 90 at offset" in errors
    assert "--framing" not in errors


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
