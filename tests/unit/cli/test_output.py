"""Standard output of a whole process: full, closed, or too narrow for a character."""

import io
import os
import subprocess
import sys

import pytest

from switch.cli import exits
from switch.cli.output import standard_output

SWITCH = (sys.executable, "-m", "switch")
BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"])


def run(words, *, unbuffered="", redirect="", **variables):
    """Through a shell, which can close what we would inherit."""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, **variables}
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirect}', "sh", *SWITCH, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@BUFFERING
@pytest.mark.parametrize("words", [["version"], ["config"], ["--help"]])
@pytest.mark.parametrize(
    ("redirect", "reason"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
def test_an_output_that_takes_nothing_is_told(words, redirect, reason, unbuffered):
    done = run(words, unbuffered=unbuffered, redirect=redirect)
    assert done.returncode == exits.INPUT_OUTPUT
    assert done.stderr == f"switch: standard output: {reason}\n"
    assert done.stdout == ""


def test_who_writes_nothing_does_not_notice_a_closed_output(tmp_path):
    missing = tmp_path / "missing.csv"
    words = ["accounts", "import", str(missing), "--data", str(tmp_path / "bank")]
    done = run(words, redirect=">&-")
    assert done.returncode == exits.INPUT_OUTPUT
    assert done.stderr == f"switch: {missing}: No such file or directory\n"


@BUFFERING
@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
def test_the_exit_code_stands_when_nothing_can_be_told(redirect, unbuffered):
    done = run(["nonsense"], unbuffered=unbuffered, redirect=redirect)
    assert done.returncode == exits.USAGE
    assert done.stdout == done.stderr == ""
    done = run(["config", "--config", "/nowhere"], redirect=redirect)
    assert done.returncode == exits.USAGE
    assert done.stdout == ""


def test_no_file_takes_the_number_of_a_closed_stream():
    code = (
        "import os, sys\n"
        "from switch.cli.output import standard_output\n"
        "with standard_output():\n"
        "    sys.exit(os.open(os.devnull, os.O_RDONLY))\n"
    )
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], check=False
    )
    assert done.returncode > 2


def test_what_an_output_has_no_code_for_is_a_question_mark(monkeypatch, capfdbinary):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", narrow)
        with standard_output():
            print("0100 → \udcff")
    assert capfdbinary.readouterr().out == b"0100 ? ?\n"
