from pathlib import Path

import pytest

import iso8583
from switch.ledger.currencies import NUMBERS
from switch.replay.compose import Composer
from switch.replay.errors import RequestError, ScenarioError
from switch.replay.scenario import check, load_scenario

SHIPPED = sorted(Path("docs/scenarios").glob("*.toml"))
COMPOSER = Composer(iso8583.Codec(iso8583.load_spec("iso87-ascii")), NUMBERS)


def load(tmp_path, text: str):
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return load_scenario(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_scenarios_are_whole(path):
    scenario = load_scenario(path)
    check(scenario, COMPOSER)
    assert scenario.steps or scenario.rules


def test_there_are_shipped_ones():
    assert {path.stem for path in SHIPPED} >= {"purchases", "issuer", "faults"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("spec = 'iso87-ascii'", "expected steps or rules, got neither"),
        ("steps = [{ send = 'x' }]", "expected one of none, got 'x'"),
        ("steps = [{ send = 'x', pause_s = 1 }]", "expected one of send, pause_s and"),
        (
            "steps = [{ times = 2 }]",
            "expected one of send, pause_s and steps, got none",
        ),
        ("steps = [{ pause_s = 1, tims = 2 }]", "tims"),
        ("steps = [{ pause_s = 1, times = 0 }]", "times"),
        ("rules = [{}]\nfaults = { lost = 1.5 }", "lost"),
        ("rules = [{}]\nfaults = { lost = 0.6, late = 0.6 }", "shares of 1 in all"),
        ("rules = ", ""),
        (
            "steps = " + "[{ steps = " * 9 + "[{ pause_s = 1 }]" + " }]" * 9,
            "at most 8 within",
        ),
    ],
)
def test_a_mistake_is_told_with_the_file(tmp_path, text, fault):
    with pytest.raises(ScenarioError, match=f"scenario.toml: .*{fault}"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "rules = [{ match = { 65 = '1' } }]",
        "rules = [{ fields = { 65 = '1' } }]",
        "steps = [{ send = 'a', expect = { 65 = '1' } }]\n[messages.a]\nmti = '0100'",
        "steps = [{ send = 'a', set = { 65 = '1' } }]\n[messages.a]\nmti = '0100'",
        "rules = [{}]\n[messages.a]\n65 = '1'",
    ],
)
def test_a_field_that_the_specification_does_not_have_is_told(tmp_path, text):
    with pytest.raises(RequestError, match="field 65: expected one that"):
        check(load(tmp_path, text), COMPOSER)
