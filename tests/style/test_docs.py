"""What is written for people is held to what is: links, commands, settings, metrics,
fields and the names of files and tests cannot drift away from the code."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import iso8583
from switch.cli.main import build_parser
from switch.config import Config, effective
from switch.ledger import KIND_NAMES
from switch.notify.metrics import METRICS as OF_NOTIFY
from switch.observe.metrics import METRICS, PREFIX
from switch.publish.events import Event
from tests.style.sources import ROOT, Finding, files, python_functions

DOCUMENTS = files(".md")
README = ROOT / "README.md"
CODEC = ROOT / "docs/codec.md"
DESIGN = ROOT / "docs/design.md"
EVENTS = ROOT / "docs/events.md"
LEDGER = ROOT / "docs/ledger.md"
OPERATIONS = ROOT / "docs/operations.md"

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:switch|iso8583|ext|tests|bench|scripts|docs)/[\w./-]*\w")
_TEST = re.compile(r"\btest_\w+\b(?!\.py)")


def _report(findings: list[Finding]) -> None:
    if findings:
        pytest.fail("\n".join(map(str, findings)), pytrace=False)


def _lines_outside_code(path: Path) -> Iterator[tuple[int, str]]:
    is_code = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, line


def anchors(path: Path) -> set[str]:
    """What a heading can be linked by, as forges make it of its text."""
    headings = (
        line.lstrip("#").strip().lower()
        for _, line in _lines_outside_code(path)
        if line.startswith("#")
    )
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in headings}


def test_every_relative_link_resolves():
    findings = []
    for path in DOCUMENTS:
        for number, line in _lines_outside_code(path):
            for target in _LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = target.partition("#")
                file = (path.parent / name).resolve() if name else path
                if not file.exists():
                    findings.append(Finding(path, number, target, "a file that exists"))
                elif anchor and anchor not in anchors(file):
                    findings.append(Finding(path, number, target, "a heading"))
    _report(findings)


def test_every_file_named_exists():
    findings = []
    # A vector's own README names files of where it is from.
    ours = [path for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")]
    assert README in ours
    assert DESIGN in ours
    for path in ours:
        for number, line in _lines_outside_code(path):
            for code in _CODE.findall(line):
                for name in _PATH.findall(code):
                    if not (ROOT / name).exists():
                        findings.append(Finding(path, number, name, "one that exists"))
    _report(findings)


def test_every_test_named_exists():
    functions = {
        function.name
        for file in files(".py", under=("tests",))
        for function in python_functions(file)
    }
    modules = {file.stem for file in files(".py", under=("tests", "bench"))}
    findings = [
        Finding(path, number, name, "one that exists")
        for path in DOCUMENTS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for name in _TEST.findall(line)
        if name not in functions | modules
    ]
    _report(findings)


def invariants() -> dict[int, str]:
    """The rows of the design's table, by number."""
    section = DESIGN.read_text().partition("## Invariants")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \|(.*)$", section, re.MULTILINE)
    return {int(number): row for number, row in rows}


def test_the_design_names_a_test_for_every_invariant():
    assert list(invariants()) == list(range(1, 11))
    assert all(_TEST.search(row) for row in invariants().values())


def test_every_test_of_an_invariant_is_one_and_where_it_is_said_to_be():
    places: dict[str, list[str]] = {}
    for file in files(".py", under=("tests",)):
        for function in python_functions(file):
            if function.name.startswith("test_"):
                path = str(file.relative_to(ROOT))
                places.setdefault(function.name, []).append(path)
    for number, row in invariants().items():
        for part in row.rpartition("|")[0].split(";"):
            before, _, names = part.rpartition("`: ")
            said = before.rpartition("`")[2]
            for name in _TEST.findall(names):
                found = places.get(name, [f"{name}.py"])  # a whole file
                assert len(found) == 1, f"{number}: {name}: {found}"
                assert said in ("", found[0]), f"{number}: {name}: {found}"


# -- the command line


def sub_commands(
    parser: argparse.ArgumentParser, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every command by its words: ("serve",), ("accounts", "import"), ..."""
    choices: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices = action.choices
    for name, parser_of_name in choices.items():
        yield from sub_commands(parser_of_name, (*before, name))
    if before and not choices:
        yield before


def _commands_in(text: str) -> Iterator[list[str]]:
    """The words behind `switch` wherever it is run."""
    joined = text.replace("\\\n", " ")
    for words in re.findall(r"^(?:\.venv/bin/)?switch +(.*)$", joined, re.MULTILINE):
        yield words.split()


def test_every_command_of_the_readme_exists():
    known = set(sub_commands(build_parser()))
    shell = [text for name, text in _FENCED.findall(README.read_text()) if name == "sh"]
    used = [words for text in shell for words in _commands_in(text)]
    assert len(used) >= 8, "the search itself is broken"
    for words in used:
        found = [name for name in known if tuple(words[: len(name)]) == name]
        assert found, f"README.md: `switch {' '.join(words)}`: no such command"


def test_every_option_of_the_readme_exists():
    shell = [text for name, text in _FENCED.findall(README.read_text()) if name == "sh"]
    for words in (words for text in shell for words in _commands_in(text)):
        given = [word for word in words if not word.startswith(("2>", "&", ">"))]
        try:
            build_parser().parse_args(given)
        except SystemExit:
            pytest.fail(f"README.md: `switch {' '.join(words)}`: not understood")


def test_the_readme_names_every_command():
    text = README.read_text()
    for words in sub_commands(build_parser()):
        assert re.search(rf"^\| `switch {' '.join(words)}\b", text, re.MULTILINE), words


# -- settings, metrics, events, entries


def _settings(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{before}{name}.")
        else:
            yield before + name, value


def _setting_rows() -> dict[str, Any]:
    """What each setting is called in the tables, and its default. Every link has the
    same, and the only one by default is main."""
    return {
        name.replace("links.main.", "links.NAME."): value
        for name, value in _settings(effective(Config()))
    }


def _rows(path: Path) -> dict[str, str]:
    """The rows of a document's tables by what stands first in them as code."""
    rows = re.findall(r"^\| `(\S+?)` \|(.*)$", path.read_text(), re.MULTILINE)
    return dict(rows)


def test_every_setting_is_described_with_its_default():
    rows = _rows(OPERATIONS)
    for name, value in _setting_rows().items():
        default = value if isinstance(value, str) and value else json.dumps(value)
        assert name in rows, f"docs/operations.md: no row for the setting {name}"
        assert rows[name].startswith(f" `{default}` |"), f"{name}: not {default}"


def test_every_metric_is_described_with_its_labels():
    rows = _rows(OPERATIONS)
    for name, definition in (METRICS | OF_NOTIFY).items():
        shown = PREFIX + name + ("_total" if definition.kind == "counter" else "")
        assert shown in rows, f"docs/operations.md: no row for the metric {shown}"
        labels = rows[shown].split("|")[0].strip()
        assert labels == ", ".join(definition.labels), shown
        assert (definition.kind == "histogram") == ("histogram:" in rows[shown]), shown


def test_no_setting_or_metric_is_described_that_is_not_there():
    known = set(_setting_rows())
    known |= {
        PREFIX + name + ("_total" if definition.kind == "counter" else "")
        for name, definition in (METRICS | OF_NOTIFY).items()
    }
    sections = {name.split(".")[0] for name in known if "." in name}
    described = {
        name
        for name in _rows(OPERATIONS)
        if name.startswith(PREFIX) or (name.split(".")[0] in sections and "." in name)
    }
    assert described <= known


def test_every_field_of_an_event_is_described():
    described = list(_rows(EVENTS))
    assert described == list(Event.__struct_fields__)


@pytest.mark.parametrize("kind", KIND_NAMES.values())
def test_every_kind_of_entry_is_described_with_an_example(kind):
    assert f"| `{kind}` |" in LEDGER.read_text()
    examples = [
        json.loads(text)
        for name, text in _FENCED.findall(EVENTS.read_text())
        if name == "json"
    ]
    lines = [line for line in examples if line["kind"] == kind]
    assert len(lines) == 1, f"docs/events.md: {len(lines)} examples of {kind}"
    assert set(lines[0]) <= set(Event.__struct_fields__)
    assert f"\n`{kind}`" in EVENTS.read_text()


def test_every_public_name_of_the_codec_is_described():
    words = set(re.findall(r"\w+", " ".join(_CODE.findall(CODEC.read_text()))))
    missing = sorted(set(iso8583.__all__) - words)
    missing += [
        f"{one.__name__}.{name}"
        for one in (iso8583.Codec, iso8583.Message, iso8583.ReplyTemplate)
        for name in vars(one)
        if not name.startswith("_") and name not in words
    ]
    assert not missing, f"docs/codec.md: nothing about {', '.join(missing)}"
