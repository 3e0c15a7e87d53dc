"""The Prometheus files of docs/prometheus are well-formed, ask for metrics and labels
that there are, and every alert is in the operating guide, and the other way round."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from switch.config import Config
from switch.notify.metrics import METRICS as OF_NOTIFY
from switch.observe.metrics import METRICS, PREFIX, Definition
from tests.style.sources import ROOT

FOLDER = ROOT / "docs/prometheus"
ALERTS = FOLDER / "alerts.yml"
SCRAPING = FOLDER / "prometheus.yml"
OPERATIONS = ROOT / "docs/operations.md"
# What Prometheus adds to every series.
OF_PROMETHEUS = {"instance", "job"}
SEVERITIES = ("page", "ticket")

_METRIC = re.compile(rf"\b{PREFIX}\w+|\bup\b")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_BY = re.compile(r"\bby\s*\(([^)]*)\)")
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")
_DURATION = re.compile(r"\d+[smhd]")
_ROW = re.compile(r"^\| `(Switch\w+)` \| (\w+) \|", re.MULTILINE)


def _rules() -> list[dict[str, Any]]:
    content = yaml.safe_load(ALERTS.read_text())
    assert list(content) == ["groups"]
    groups = content["groups"]
    assert all(set(group) == {"name", "rules"} for group in groups)
    return [rule for group in groups for rule in group["rules"]]


RULES = _rules()
each_rule = pytest.mark.parametrize("rule", RULES, ids=[r["alert"] for r in RULES])


def _shown() -> dict[str, Definition]:
    """Every series by the name that a scrape has for it."""
    shown = {"up": Definition("gauge", "of Prometheus itself")}
    endings = {
        "counter": ["_total"],
        "gauge": [""],
        "histogram": ["_bucket", "_sum", "_count"],
    }
    for name, definition in (METRICS | OF_NOTIFY).items():
        for ending in endings[definition.kind]:
            shown[PREFIX + name + ending] = definition
    return shown


def _labels(rule: dict[str, Any]) -> set[str]:
    """What the series of all metrics of a rule have."""
    shown = _shown()
    found = [shown[name].labels for name in _METRIC.findall(rule["expr"])]
    return OF_PROMETHEUS.union(*found)


@each_rule
def test_a_rule_is_whole(rule):
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert _DURATION.fullmatch(rule.get("for", "1m"))
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description"}
    assert all(isinstance(text, str) for text in rule["annotations"].values())
    for opening, closing in ("()", "[]", "{}"):
        assert rule["expr"].count(opening) == rule["expr"].count(closing)
    assert rule["expr"].count('"') % 2 == 0


@each_rule
def test_a_rule_asks_for_metrics_that_there_are(rule):
    found = set(_METRIC.findall(rule["expr"]))
    assert found
    assert found <= _shown().keys()


@each_rule
def test_a_counter_is_asked_how_much_it_grew_and_a_gauge_is_not(rule):
    shown = _shown()
    grown = set(re.findall(rf"\bincrease\(\s*({PREFIX}\w+)", rule["expr"]))
    counters = {
        name for name in _METRIC.findall(rule["expr"]) if shown[name].kind == "counter"
    }
    assert grown == counters


@each_rule
def test_a_rule_names_labels_that_there_are(rule):
    known = _labels(rule)
    assert set(_MATCHER.findall(rule["expr"])) <= known
    kept = known
    for group in _BY.findall(rule["expr"]):
        kept = {name.strip() for name in group.split(",")}
        assert kept <= known
    for text in rule["annotations"].values():
        for template in map(str.strip, _TEMPLATE.findall(text)):
            name = template.removeprefix("$labels.")
            assert template == "$value" or name in kept, template


def test_every_alert_is_in_the_guide_and_none_that_is_not_there():
    text = OPERATIONS.read_text()
    named = [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]
    assert len(set(named)) == len(named)
    assert _ROW.findall(text) == named


def test_what_the_guide_calls_worth_an_alarm_has_an_alert():
    asked = {name for rule in RULES for name in _METRIC.findall(rule["expr"])}
    assert asked >= {
        "up",
        "switch_approvals_withdrawn_total",
        "switch_commit_in_flight_seconds",
        "switch_disk_free_bytes",
        "switch_faults_total",
        "switch_follower_lag_seconds",
        "switch_link_up",
        "switch_requests_total",
        "switch_transactions_forgotten_early_total",
    }


def test_the_scrape_configuration_loads_the_rules_and_finds_the_switch():
    content = yaml.safe_load(SCRAPING.read_text())
    assert [FOLDER / name for name in content["rule_files"]] == [ALERTS]
    (job,) = content["scrape_configs"]
    assert job["static_configs"] == [{"targets": [str(Config().http.listen)]}]
    # The alert that it is down asks for it by this name.
    assert job["job_name"] == "switch"
    assert any('up{job="switch"}' in rule["expr"] for rule in RULES)


def test_prometheus_itself_takes_them_where_there_is_one():
    """Beside what is checked above, which needs none."""
    promtool = shutil.which("promtool")
    commands = [("rules", ALERTS), ("config", SCRAPING)] if promtool else []
    for what, path in commands:
        done = subprocess.run(
            [str(promtool), "check", what, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
