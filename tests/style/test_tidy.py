"""Style is a test. Each finding is printed as `path:line: error: X is banned, use Y`;
a line that has to break a rule says why and ends in `tidy: allow`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.style.sources import (
    ROOT,
    Finding,
    all_files,
    cython_functions,
    files,
    python_functions,
)

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 700
LINE_COLUMNS_MAX = 88

CODE = (".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".sh")
CYTHON = (".pyx", ".pxd")
EVERYWHERE = ()
SHIPPED = ("iso8583", "switch", "ext")


class Ban(NamedTuple):
    pattern: str
    what: str
    use: str
    suffixes: tuple[str, ...] = CODE
    under: tuple[str, ...] = EVERYWHERE


BANS = [
    Ban(r"^\s*(DEF\s+\w+\s*=|IF\s.*:$)", "DEF and IF", "`cdef enum`", CYTHON),
    Ban(r'^include\s+"', "a textual include", "`cimport`", CYTHON),
    Ban(r"\b(TODO|FIXME|XXX|HACK)\b", "a note to finish", "finished code"),
    Ban(r"except\s*(Base)?(Exception)?\s*:\s*pass\b", "a swallowed error", "`raise`"),
    Ban(r"^\s*print\(", "print", "the log", (".py", ".pyx"), ("iso8583", "ext")),
    Ban(r"\bos\.path\b", "os.path", "pathlib.Path", (".py",)),
    Ban(r"\bget_event_loop\(", "get_event_loop", "get_running_loop", (".py", ".pyx")),
    Ban(r"\bfloat\(.*(amount|balance|held)", "money as float", "integer minor units"),
    # but for the header of HTTP, in quotes or with its colon
    Ban(
        r'(?i)\bauthoriz(?!ation"|ation: )',
        "American spelling",
        "`authoris…`",
        (*CODE, ".md"),
    ),
    Ban(r"\bpickle\b", "pickle", "msgspec or struct", (".py", ".pyx"), SHIPPED),
]

# Where somebody works, or fetches packages from, is nobody else's business. The
# patterns are broken by brackets so that they do not match themselves.
MACHINE = [
    Ban(r"(?<![\w.])/(root|home|Users)/[\w.]", "a machine's path", "a relative one"),
    Ban(
        r"py[p]i\.org|pythonhoste[d]\.org|deb\.debia[n]\.org|archive\.ubunt[u]\.com"
        r"|npmj[s]\.org|crate[s]\.io|proxy\.golan[g]|repo1\.mave[n]|artifactregistr[y]",
        "a registry's host",
        "the package's name",
    ),
    Ban(r"(?i)\bissue #?\d+\b", "an issue's number", "the reason itself"),
]


def _findings(ban: Ban, paths: list[Path]) -> Iterator[Finding]:
    pattern = re.compile(ban.pattern)
    for path in paths:
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if pattern.search(line) and not line.endswith("tidy: allow"):
                yield Finding(path, number, f"{ban.what} is banned", ban.use)


def _report(findings: list[Finding]) -> None:
    if findings:
        pytest.fail("\n".join(map(str, findings)), pytrace=False)


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.what)
def test_nothing_banned(ban):
    _report(list(_findings(ban, files(*ban.suffixes, under=ban.under))))


@pytest.mark.parametrize("ban", MACHINE, ids=lambda ban: ban.what)
def test_no_trace_of_a_machine(ban):
    paths = [
        path
        for path in all_files()
        # the latter is 24 bytes of a data directory
        if path.suffix not in (".hex", ".csv") and path.name != "released"
    ]
    _report(list(_findings(ban, paths)))


def test_lines_fit():
    _report(
        [
            Finding(
                path,
                number,
                f"a line of {len(line)} columns is banned",
                f"at most {LINE_COLUMNS_MAX}",
            )
            for path in [*files(*CODE), *_scripts()]
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if len(line) > LINE_COLUMNS_MAX and "://" not in line
        ]
    )


def test_modules_are_short():
    _report(
        [
            Finding(path, size, f"a module of {size} lines is banned", "two modules")
            for path in files(*CODE)
            if (size := len(path.read_text().splitlines())) > MODULE_LINES_MAX
        ]
    )


def test_functions_are_short():
    functions = [
        *(
            (path, function)
            for path in files(".py")
            for function in python_functions(path)
        ),
        *(
            (path, function)
            for path in files(".pyx")
            for function in cython_functions(path)
        ),
    ]
    assert functions, "no function found: the search itself is broken"
    _report(
        [
            Finding(
                path,
                function.first_line,
                f"a function of {size} lines ({function.name}) is banned",
                f"at most {FUNCTION_LINES_MAX}",
            )
            for path, function in functions
            if (size := function.last_line - function.first_line + 1)
            > FUNCTION_LINES_MAX
        ]
    )


def test_files_end_and_indent_alike():
    findings = []
    for path in [*files(*CODE, ".md", ".toml"), *_scripts()]:
        text = path.read_text()
        if text and not text.endswith("\n"):
            findings.append(Finding(path, text.count("\n") + 1, "no newline", "one"))
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                findings.append(Finding(path, number, "trailing blank", "none"))
            if line.startswith("\t") and path.suffix not in (".c", ".h"):
                findings.append(Finding(path, number, "a tab", "spaces"))
    _report(findings)


def test_scripts_are_executable_and_explain_themselves():
    for path in _scripts():
        assert path.stat().st_mode & 0o111, f"{path} is not executable"
        if path.parent.name == "scripts":
            assert "--help" in path.read_text(), f"{path} has no --help"


def _scripts() -> list[Path]:
    """The programs, which have no suffix."""
    found = [*ROOT.glob("scripts/*"), ROOT / ".ci/run"]
    return [path for path in found if path.is_file() and not path.suffix]
