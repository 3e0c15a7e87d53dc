import json

import pytest

from switch.cli import exits
from switch.cli.main import main
from switch.cli.simulate import message_count
from switch.replay.scenario import Step

PAN = "9999990000000014"
SCENARIO = f"""
[messages.purchase]
mti = "0100"
2 = "{PAN}"
4 = 1500

[[steps]]
send = "purchase"
times = 3
expect = {{ 39 = "00" }}
"""


@pytest.fixture
def run(capsys):
    def call(*words):
        exit_code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err

    return call


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


def test_a_summary_and_whether_it_held(run, respond, scenario):
    responder = respond(lambda request, count: "51" if count == 4 else "00")
    words = ["simulate", scenario, "--to", f"127.0.0.1:{responder.port}"]
    exit_code, output, errors = run(*words)
    assert (exit_code, errors) == (exits.OK, "")
    assert output.splitlines()[1].split() == ["purchase", "3", "3", "3", "0", "00", "3"]
    assert output.endswith("\nok\n")
    exit_code, output, _ = run(*words)
    assert exit_code == exits.NOT_SO
    assert "field 39: expected 00, got 51" in output
    assert output.endswith("\nnot ok\n")
    exit_code, output, _ = run(*words, "--json")
    report = json.loads(output)
    assert exit_code == exits.OK
    assert (report["ok"], report["complete"], report["problems"]) == (True, True, [])
    assert report["steps"][0]["response_codes"] == {"00": 3}
    assert PAN not in output


def test_cards_are_drawn_from_a_file(run, respond, scenario, cards_file):
    scenario.write_text(SCENARIO.replace(PAN, "{card.pan}"))
    responder = respond()
    words = ["--to", f"127.0.0.1:{responder.port}", "--cards", cards_file]
    assert run("simulate", scenario, *words)[0] == exits.OK
    assert {request[2][:6] for request in responder.requests} == {"999999"}


def test_other_specs_and_framings_than_the_scenarios(run, respond, scenario):
    from switch.link._framing import Framing

    responder = respond(spec="mastercard-cis", framing=Framing("ascii4"))
    words = ["--spec", "mastercard-cis", "--framing", "ascii4"]
    target = ["--to", f"127.0.0.1:{responder.port}"]
    assert run("simulate", scenario, *target, *words)[0] == exits.OK


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected one of dial and listen, or --to or --listen, got none"),
        (["--to", "127.0.0.1:1", "--spec", "none"], "--spec: expected one of"),
        (["--to", "127.0.0.1:1", "--framing", "none"], "--framing: expected one of"),
    ],
)
def test_what_cannot_be_played_is_exit_2(run, scenario, words, said):
    exit_code, output, errors = run("simulate", scenario, *words)
    assert (exit_code, output) == (exits.USAGE, "")
    assert said in errors


def test_a_scenario_that_is_none_is_exit_2(run, scenario):
    scenario.write_text("steps = 3")
    exit_code, _, errors = run("simulate", scenario, "--to", "127.0.0.1:1")
    assert exit_code == exits.USAGE
    assert "scenario.toml: " in errors


def test_a_switch_that_is_not_there_is_exit_74(run, scenario):
    exit_code, _, errors = run("simulate", scenario, "--to", "127.0.0.1:1")
    assert exit_code == exits.INPUT_OUTPUT
    assert "connection to 127.0.0.1 port 1" in errors


def test_rules_alone_run_for_as_long_as_told(run, scenario):
    scenario.write_text("[[rules]]\nanswer = '00'\n")
    words = ["--listen", "127.0.0.1:0", "--seconds", "0.05"]
    exit_code, output, errors = run("simulate", scenario, *words)
    assert (exit_code, output) == (exits.OK, "ok\n")
    assert errors.startswith("listening on 127.0.0.1:")


def test_messages_are_counted_for_the_progress_bar():
    send = Step(send="a", times=3)
    assert message_count([send, Step(pause_s=1), Step(steps=[send], times=2)]) == 9
