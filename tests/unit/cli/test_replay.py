"""`switch replay`, as a user calls it; what it does is in tests/unit/replay."""

import json
import re

import pytest

import iso8583
from switch.cli import exits
from switch.cli.main import main
from switch.link._framing import Framing
from tests.unit.replay.packets import Conversation, pcap

CAPTURE = "tests/vectors/mastercard-cis.hex"
PAN = "9999990000000014"
CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
BINARY2 = Framing("binary2")


@pytest.fixture
def run(capsys):
    def call(*words):
        exit_code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err

    return call


@pytest.fixture
def mastercard(respond):
    responder = respond(lambda request, count: "54", spec="mastercard-cis")
    return "--to", f"127.0.0.1:{responder.port}", "--spec", "mastercard-cis"


@pytest.fixture
def conversation(tmp_path):
    """Three purchases and their answers, one of them a decline."""
    talk = Conversation().open()
    for stan, code in ((1, "00"), (2, "51"), (3, "00")):
        fields = {2: PAN, 4: f"{stan:012}", 7: "0102030405", 11: f"{stan:06}"}
        asked = CODEC.encode({"mti": "0100", **fields})
        more = {39: code} | ({38: "123456"} if code == "00" else {})
        answered = CODEC.encode({"mti": "0110", **fields, **more})
        talk.to_switch(BINARY2.encode(asked)).from_switch(BINARY2.encode(answered))
    path = tmp_path / "port8583.pcap"
    path.write_bytes(pcap(talk.close().packets))
    return path


def test_replay(run, mastercard):
    exit_code, output, errors = run("replay", CAPTURE, *mastercard)
    assert (exit_code, errors) == (exits.OK, "")
    assert "→ 0110 54 expired card" in output
    assert "************1010" in output
    assert re.search(r"^sent +3\nanswered +3\nas captured +0\n", output, re.MULTILINE)
    assert "5204740000001010" not in output
    exit_code, output, _ = run("replay", CAPTURE, *mastercard, "--json")
    result = json.loads(output)
    assert (result["sent"], result["answered"], result["unanswered"]) == (3, 3, 0)
    assert result["complete"] is True
    assert [frame["response_mti"] for frame in result["frames"]] == [
        *("0110", "0130", "0430")
    ]


def test_lines_may_have_other_headers_or_none(run, respond, tmp_path):
    responder = respond(spec="iso87-ascii", framing=Framing("ascii4"))
    target = "--to", f"127.0.0.1:{responder.port}", "--framing", "ascii4"
    body = CODEC.encode({"mti": "0100", 7: "0102030405", 11: "000001"})
    file = tmp_path / "bodies.hex"
    for name, data in (("none", body), ("binary2", BINARY2.encode(body))):
        file.write_text(data.hex())
        words = "replay", file, *target, "--capture-framing", name
        assert run(*words)[0] == exits.OK
    assert [bytes(request) for request in responder.requests] == [body, body]


def test_answers_are_compared_with_the_captured(run, respond, conversation, tmp_path):
    responder = respond(lambda request, count: "51" if count % 3 == 1 else "00")
    target = "--to", f"127.0.0.1:{responder.port}"
    exit_code, output, errors = run("replay", conversation, *target)
    assert (exit_code, errors) == (exits.OK, "")
    assert re.search(r"^as captured +3$", output, re.MULTILINE)

    responder.requests.clear()
    responder.rule = lambda request, count: "05" if count == 1 else "00"
    page = tmp_path / "report.html"
    words = "replay", conversation, *target, "--html", page
    exit_code, output, _ = run(*words)
    assert exit_code == exits.NOT_SO
    assert "field 39: captured 51, got 05" in output
    assert re.search(r"^different +1$", output, re.MULTILINE)
    assert re.search(r"^field 39 differs +1$", output, re.MULTILINE)
    text = page.read_text()
    assert "field 39: captured 51, got 05" in text
    assert PAN not in text + output

    responder.requests.clear()
    assert run(*words, "--ignore", "39,38")[0] == exits.OK


def test_the_page_needs_nothing_else_and_has_a_histogram(
    run, respond, conversation, tmp_path
):
    page = tmp_path / "report.html"
    target = "--to", f"127.0.0.1:{respond().port}"
    run("replay", conversation, *target, "--html", page)
    text = page.read_text()
    assert text.count("<rect") >= 1
    assert sum(map(int, re.findall(r'anchor="middle">(\d+)</text><text', text))) == 3
    assert "************0014" in text
    for outside in ("src=", "href=", "url(", "@import", "<script", "http"):
        assert outside not in text


def test_it_is_not_so_when_something_stays_unanswered(run, respond):
    responder = respond(lambda request, count: None, spec="mastercard-cis")
    target = "--to", f"127.0.0.1:{responder.port}", "--spec", "mastercard-cis"
    exit_code, output, _ = run("replay", CAPTURE, *target, "--timeout", "0.05")
    assert exit_code == exits.NOT_SO
    assert output.count("→ no answer") == 3


def test_a_lost_connection_is_told(run, respond, conversation):
    responder = respond(lambda request, count: None, close_after=1)
    words = "replay", conversation, "--to", f"127.0.0.1:{responder.port}"
    exit_code, output, errors = run(*words)
    assert exit_code == exits.NOT_SO
    assert re.search(r"^unanswered +3$", output, re.MULTILINE)
    assert errors == "switch: connection 1: closed by the switch\n"


def test_how_many_are_listed_is_said(run, respond, conversation):
    target = "--to", f"127.0.0.1:{respond().port}"
    _, output, _ = run("replay", conversation, *target, "--show", "1")
    assert re.findall(r"packet \d+", output) == ["packet 3", "packet 5"]
    _, output, _ = run("replay", conversation, *target, "--show", "0")
    assert re.match(r"sent +3\nanswered +3\nas captured +2\n", output)


def test_refuses_what_is_no_capture(run, respond, tmp_path):
    target = "--to", f"127.0.0.1:{respond().port}"
    file = tmp_path / "capture.hex"
    file.write_text("0001zz\n")
    exit_code, _, errors = run("replay", file, *target, "--format", "hex")
    assert exit_code == exits.USAGE
    assert f"{file}: line 1: expected hex digits" in errors
    file.write_text("what?\n")
    exit_code, _, errors = run("replay", file, *target)
    assert (exit_code, errors.count("expected a capture")) == (exits.USAGE, 1)
    exit_code, _, errors = run("replay", tmp_path / "none.hex", *target)
    assert exit_code == exits.INPUT_OUTPUT
    exit_code, _, errors = run("replay", CAPTURE, "--to", "127.0.0.1:1")
    assert exit_code == exits.USAGE
    exit_code, _, errors = run(
        *("replay", CAPTURE, "--to", "127.0.0.1:1", "--spec", "mastercard-cis")
    )
    assert exit_code == exits.INPUT_OUTPUT
    assert errors.startswith("switch: connection to 127.0.0.1 port 1: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "40000"], "got 3 from it; --port says where it listened"),
        (["--switch-dials"], "got 3 from it; --port says where it listened"),
        (["--port", "1"], "expected requests, got none"),
        (["--framing", "ascii4"], "bytes that are no frames, left out"),
        (["--spec", "mastercard-cis"], "of mastercard-cis, got 6 others: packet 3: "),
    ],
)
def test_when_nothing_could_be_sent_it_says_why(
    run, respond, conversation, words, said
):
    target = "--to", f"127.0.0.1:{respond().port}"
    exit_code, output, errors = run("replay", conversation, *target, *words)
    assert (exit_code, output) == (exits.USAGE, "")
    assert said in errors


def test_cards_that_are_not_mapped_stay_here(run, respond, conversation, tmp_path):
    responder = respond()
    cards = tmp_path / "cards.csv"
    cards.write_text("from,to\n9999990000000022,9999990000000030\n")
    target = "--to", f"127.0.0.1:{responder.port}", "--cards", cards
    exit_code, output, errors = run("replay", conversation, *target)
    assert (exit_code, output) == (exits.USAGE, "")
    assert "with cards of --cards, got 3 with others" in errors
    assert responder.requests == []


@pytest.mark.parametrize(
    "words",
    [
        *(["--speed", "fast"], ["--speed", "0x"], ["--speed", "1x", "--rate", "5"]),
        *(["--ignore", "1"], ["--ignore", "38,"], ["--loop", "0"], ["--port", "x"]),
        *(["--format", "tar"], ["--capture-framing", "morse"], ["--framing", "x"]),
    ],
)
def test_refuses_what_it_cannot_do(run, conversation, words):
    exit_code, output, errors = run(
        "replay", conversation, "--to", "127.0.0.1:1", *words
    )
    assert (exit_code, output) == (exits.USAGE, "")
    assert "expected" in errors or "not allowed" in errors or "invalid" in errors
