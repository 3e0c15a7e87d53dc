"""What every command has in common: help, exit codes, one line of error."""

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest

from switch.cli import exits, main, version
from switch.config import ConfigError
from switch.journal.errors import JournalDamaged

COMMANDS = ["serve", "demo", "load", "replay", "decode", "config", "version", "backup"]
SUBCOMMANDS = [("accounts", "import"), ("cards", "import")]
SUBCOMMANDS += [("journal", "verify"), ("journal", "dump")]
SUBCOMMANDS += [("keys", "new"), ("keys", "rotate"), ("keys", "show")]


@pytest.mark.parametrize("words", [*((c,) for c in COMMANDS), *SUBCOMMANDS])
def test_every_command_explains_itself_with_an_example(words, capsys):
    assert main.main([*words, "--help"]) == exits.OK
    shown = capsys.readouterr().out
    assert f"usage: switch {' '.join(words)}" in shown
    assert f"example:\n  switch {' '.join(words)}" in shown


def test_the_exit_codes_are_in_the_help(capsys):
    assert main.main(["--help"]) == exits.OK
    shown = capsys.readouterr().out
    assert "exit codes:" in shown
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("words", [[], ["nonsense"], ["load"], ["load", "--to", "x"]])
def test_bad_usage_is_exit_2(words, capsys):
    assert main.main(words) == exits.USAGE
    assert "usage: switch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (exits.CommandError("no\nsuch thing"), 2, "switch: no such thing\n"),
        (exits.CommandError("not so", 1), 1, "switch: not so\n"),
        (FileNotFoundError(2, "No such file", "x.csv"), 74, "switch: x.csv: No such "),
        (ConnectionResetError(104, "reset"), 74, "switch: reset\n"),
        (JournalDamaged("torn", commit=3), 74, "switch: torn (commit 3)\n"),
        (ConfigError("link.x: unknown"), 2, "switch: link.x: unknown\n"),
        (ZeroDivisionError("by zero"), 70, "switch: ZeroDivisionError: by zero ("),
        (KeyboardInterrupt(), 130, ""),
        (exits.Terminated(), 143, ""),
        (exits.OutputClosed(), 141, ""),
        (ExceptionGroup("", [ConfigError("link.x: bad")]), 2, "switch: link.x: bad\n"),
        (
            BaseExceptionGroup(
                "", [ExceptionGroup("", [OSError(5, "bad")]), exits.Terminated()]
            ),
            74,
            "switch: bad\n",
        ),
    ],
)
def test_how_a_failure_ends(error, exit_code, said, capsys, monkeypatch):
    def fail(arguments: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(version, "run", fail)
    assert main.main(["version"]) == exit_code
    shown = capsys.readouterr().err
    assert shown.startswith(said)
    assert shown.count("\n") == bool(said)


def test_debug_shows_where(capsys, monkeypatch):
    def fail(arguments: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(version, "run", fail)
    for words in (["--debug", "version"], ["version", "--debug"]):
        assert main.main(words) == exits.FAULT
        assert "Traceback" in capsys.readouterr().err


def test_the_handler_of_sigterm_is_given_back():
    before = signal.getsignal(signal.SIGTERM)
    main.main(["version"])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_run_cleanly(respond, cards_file, number, exit_code):
    responder = respond()
    words = ["load", "--to", f"127.0.0.1:{responder.port}", "--cards", cards_file]
    words += ["--seconds", "60", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "switch", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up_at = time.monotonic() + 60
    while not responder.requests and time.monotonic() < give_up_at:
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert errors == ""
    # what was measured until then
    assert '"answered"' in output


def test_an_output_nobody_reads_is_no_fault():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "switch", "config"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == exits.OUTPUT_CLOSED
    assert done.stderr == ""


def test_light_commands_import_nothing_heavy():
    code = (
        "import sys; from switch.cli.main import main; main(['version']);"
        "print([n for n in ('asyncio', 'aiohttp', 'rich', 'apsw', 'iso8583')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
