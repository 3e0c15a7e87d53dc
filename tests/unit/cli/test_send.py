import json

import pytest

from switch.cli import exits
from switch.cli.main import main

PAN = "9999990000000014"


@pytest.fixture
def run(capsys):
    def call(*words):
        exit_code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err

    return call


def target(responder) -> list[str]:
    return ["--to", f"127.0.0.1:{responder.port}"]


def test_a_message_is_sent_and_its_answer_shown_masked(run, respond):
    responder = respond()
    words = ["mti=0100", *target(responder), f"2={PAN}", "4=1500", "49=eur"]
    exit_code, output, errors = run("send", *words)
    assert (exit_code, errors) == (exits.OK, "")
    (request,) = responder.requests
    assert (request[2], request[4], request[49]) == (PAN, "000000001500", "978")
    assert {7, 11, 12, 13, 37} <= set(request)
    assert responder.network_requests == []
    assert "MTI 0100" in output
    assert "MTI 0110" in output
    assert "************0014" in output
    assert PAN not in output
    assert "00 approved, after " in output


def test_signs_on_first_when_told(run, respond):
    responder = respond()
    run("send", *target(responder), "mti=0100", "--sign-on")
    assert [request[70] for request in responder.network_requests] == ["001"]


def test_what_is_expected_decides_the_exit_code(run, respond):
    responder = respond(lambda request, count: "51")
    send = ["send", *target(responder), "mti=0200", f"2={PAN}", "--expect"]
    assert run(*send, "39=51", "--expect", "38=")[0] == exits.OK
    exit_code, output, _ = run(*send, "39=00|10", "--expect", "2=9999990000000022")
    assert exit_code == exits.NOT_SO
    assert "field 39: expected 00|10, got 51" in output
    assert "field 2: expected ************0022, got ************0014" in output


def test_for_a_program(run, respond):
    send = ["send", *target(respond()), "mti=0200", f"2={PAN}", "--json"]
    exit_code, output, _ = run(*send)
    shown = json.loads(output)
    assert exit_code == exits.OK
    assert (shown["answered"], shown["differences"]) == (True, [])
    assert shown["request"]["mti"] == "0200"
    assert shown["answer"]["fields"]["39"]["value"] == "00"
    assert shown["time_ms"] > 0
    assert PAN not in output


def test_no_answer_is_not_so(run, respond):
    responder = respond(lambda request, count: None)
    send = ["send", *target(responder), "mti=0200", "--timeout", "0.05"]
    exit_code, output, _ = run(*send)
    assert exit_code == exits.NOT_SO
    assert "no answer within 0.05 s" in output
    exit_code, output, _ = run(*send, "--json")
    assert (exit_code, json.loads(output)["answered"]) == (exits.NOT_SO, False)


def test_a_card_is_read_from_a_file(run, respond, tmp_path):
    card = tmp_path / "card.txt"
    card.write_text(f"{PAN}\nits owner\n")
    responder = respond()
    assert run("send", *target(responder), "mti=0100", f"2=@{card}")[0] == exits.OK
    assert responder.requests[0][2] == PAN


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.toml", 'mti = "0200"\n4 = 7\n"32" = "123456"\n'),
        ("t.json", '{"mti": "0200", "4": 7, "32": "123456"}'),
    ],
)
def test_a_template_is_overridden(run, respond, tmp_path, name, text):
    template = tmp_path / name
    template.write_text(text)
    responder = respond()
    words = ["--template", template, "4=9", "41=T1"]
    assert run("send", *target(responder), *words)[0] == exits.OK
    (request,) = responder.requests
    assert (request.mti, request[4], request[32]) == ("0200", "000000000009", "123456")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "mti: expected a message type, got none"),
        (["mti=0110"], "mti: expected a request or an advice"),
        (["mti=0100", PAN], "field 2: expected FIELD=VALUE, got 16 characters"),
        (["mti=0100", f"{PAN}=1"], "expected mti or the number of a field"),
        (["mti=0100", f"4={PAN}"], "field 4: expected 12 characters, got 16"),
        (["mti=0100", "65=1"], "field 65: expected one that specification"),
        (["mti=0100", "--expect", "65=*"], "field 65: expected one that"),
        (["mti=0100", "--expect", "39"], "--expect 1: expected FIELD=VALUE"),
    ],
)
def test_what_cannot_be_sent_is_told_without_card_numbers(run, words, said):
    exit_code, output, errors = run("send", "--to", "127.0.0.1:1", *words)
    assert (exit_code, output) == (exits.USAGE, "")
    assert said in errors
    assert PAN not in errors


def test_a_switch_that_is_not_there_is_exit_74(run):
    exit_code, _, errors = run("send", "--to", "127.0.0.1:1", "mti=0100")
    assert exit_code == exits.INPUT_OUTPUT
    assert "connection to 127.0.0.1 port 1" in errors


@pytest.mark.parametrize("text", ["{", '{"4": [1]}', '{"pan": "1"}'])
def test_a_template_that_is_none_is_told(run, tmp_path, text):
    template = tmp_path / "t.json"
    template.write_text(text)
    words = ["send", "--to", "127.0.0.1:1", "mti=0100", "--template"]
    assert run(*words, template)[0] == exits.USAGE
    assert run(*words, tmp_path / "none.json")[0] == exits.INPUT_OUTPUT
