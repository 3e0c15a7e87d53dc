"""The demonstration around a daemon that is only played."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from switch.cli import demo_daemon, demo_view, exits
from switch.cli.demo_view import PlainView
from switch.cli.main import main

VERDICT = {"ok": True, "entries": 7, "accounts": 300, "problems": []}
FAKE = str(Path(__file__).with_name("fake_switch.py"))
# As a process of its own, with the daemon that is only played.
PROGRAM = (
    "import sys; from switch.__main__ import main; from switch.cli import demo_daemon;"
    f"demo_daemon.SWITCH = (sys.executable, {FAKE!r}); sys.exit(main())"
)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv("FAKE_VERDICT", json.dumps(VERDICT))
    monkeypatch.setenv("FAKE_PID_FILE", str(tmp_path / "pid"))
    monkeypatch.setattr(demo_daemon, "SWITCH", (sys.executable, FAKE))
    return directory


def daemon_runs(tmp_path):
    try:
        os.kill(int((tmp_path / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_it_shows_traffic_and_leaves_nothing(temporary, tmp_path, capsys):
    assert main(["demo", "--seconds", "1.5", "--rate", "50"]) == exits.OK
    shown = capsys.readouterr().out
    assert "the switch listens on  127.0.0.1:" in shown
    assert "0800 sign-on → 00 approved" in shown
    assert "0100 authorisation ************" in shown
    assert "0800 sign-off → 00 approved" in shown
    assert "journal verify: ok, 7 entries, 300 accounts" in shown
    assert "999999" not in shown
    assert [*temporary.iterdir()] == []
    assert not daemon_runs(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_it_well(temporary, tmp_path, capsys, monkeypatch, number):
    played: list[str] = []

    class Interrupted(PlainView):
        """Somebody who has seen enough after a few lines."""

        def show(self, exchange):
            super().show(exchange)
            played.append(exchange.what)
            if len(played) == 5:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(demo_view, "make_view", Interrupted)
    assert main(["demo", "--rate", "50"]) == exits.OK
    assert "journal verify: ok" in capsys.readouterr().out
    assert [*temporary.iterdir()] == []
    assert not daemon_runs(tmp_path)


def spawn(temporary, *words, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "demo", "--rate", "50", *words],
        env={**os.environ, "TMPDIR": str(temporary), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_reader_that_goes_away_ends_it_well(temporary, tmp_path):
    with spawn(temporary) as process:
        lines = iter(process.stdout.readline, b"")
        assert any(b"sign-on" in line for line in lines)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == exits.OUTPUT_CLOSED
    assert [*temporary.iterdir()] == []
    assert not daemon_runs(tmp_path)


def test_a_terminal_without_its_characters_is_no_fault(temporary):
    narrow = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    with spawn(temporary, "--seconds", "0.5", **narrow) as process:
        shown, errors = process.communicate()
    assert process.returncode == exits.OK
    assert b"0800 sign-on ? 00 approved" in shown
    assert errors == b""


def test_a_journal_that_does_not_fit_is_told(temporary, monkeypatch, capsys):
    verdict = {**VERDICT, "ok": False, "problems": ["account A: balance 1, entries 2"]}
    monkeypatch.setenv("FAKE_VERDICT", json.dumps(verdict))
    assert main(["demo", "--seconds", "0.5"]) == exits.NOT_SO
    shown = capsys.readouterr().out
    assert "journal verify: NOT ok" in shown
    assert "account A: balance 1, entries 2" in shown


def test_a_daemon_that_does_not_start_is_told(temporary, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_BROKEN", "1")
    assert main(["demo", "--seconds", "0.5"]) == exits.FAULT
    said = "switch: daemon: ended with exit code 74: switch: the disk is full\n"
    assert capsys.readouterr().err == said
    assert [*temporary.iterdir()] == []


def test_a_directory_of_ones_own_is_kept(temporary, tmp_path, capsys):
    kept = tmp_path / "bank"
    kept.mkdir()
    assert main(["demo", "--seconds", "0.5", "--data", str(kept)]) == exits.OK
    assert kept.exists()
    assert [*temporary.iterdir()] == []


def test_a_taken_port_is_passed_over(monkeypatch):
    # an address on which nobody else is given a port meanwhile
    monkeypatch.setattr(demo_daemon, "HOST", "127.85.83.1")
    with socket.create_server((demo_daemon.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert demo_daemon.free_ports(port, 0) == [0, 0]
    assert demo_daemon.free_ports(port, 0) == [port, 0]


def test_a_port_that_somebody_takes_at_the_last_moment_is_passed_over(
    temporary, monkeypatch, capsys
):
    """Two demonstrations begin at once, and both see that the port is free."""
    monkeypatch.setenv("FAKE_OUTRUN", "1")
    # Somebody else's, who answers there all the time.
    monkeypatch.setattr(demo_daemon, "free_ports", lambda *wanted: list(wanted))
    assert main(["demo", "--seconds", "0.5"]) == exits.OK
    shown = capsys.readouterr().out
    assert "the switch listens on  127.0.0.1:" in shown
    assert "127.0.0.1:8583" not in shown
