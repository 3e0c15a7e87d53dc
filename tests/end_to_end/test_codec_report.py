"""`scripts/bench codec` runs, and compares what it says it compares.

No figure is looked at: those are for a quiet machine.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

import iso8583
from bench.codec import contenders, message, report
from bench.codec.contenders import OURS, RIVALS, WALK, AbsentError
from bench.load.servers import BenchError
from tests.end_to_end.harness import ROOT

CODEC = contenders.codec()
DATA = contenders.encoded()
SHORT = ("--seconds", "0.001", "--rounds", "2", "--warm-up", "0.001", "--json")


def run(tmp_path, *options, path=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if path is not None:
        environment["PATH"] = str(path)
    command = [sys.executable, "-m", "bench.codec.report", *SHORT, *options]
    command += ["--directory", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The first time it installs packages and fetches jars.
@pytest.mark.timeout(900)
def test_each_rival_has_its_figures_or_the_reason_why_not(tmp_path):
    result = run(tmp_path, "--count", "0")
    there = {name for name in RIVALS if name not in result["absent"]}
    assert {"pyiso8583", "iso8583sim"} <= there
    assert all(reason for reason in result["absent"].values())
    assert set(result["rows"]) == {row.title for row in report.ROWS}
    for row in report.ROWS:
        figures = result["rows"][row.title]
        assert set(figures) - {OURS, WALK} == there & set(row.rivals)
        assert all(found["ns"] > 0 for found in figures.values())
        assert (WALK in figures) == (row is report.WALKED)
    assert result["message"]["bytes"] == len(DATA)
    report.print_report(result)


@pytest.fixture
def path_without_tools(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gcc", "as", "ld"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def test_what_is_not_on_the_machine_is_left_out_and_said(
    tmp_path, path_without_tools, capsys
):
    result = run(tmp_path, "--rival", "jPOS", path=path_without_tools)
    assert result["absent"] == {
        "jPOS": "no java on PATH",
        "instructions": "no valgrind on PATH",
    }
    report.print_report(result)
    assert "without jPOS: no java on PATH\n" in capsys.readouterr().out


def test_a_jar_that_is_another_one_is_not_run(tmp_path):
    jar = tmp_path / "jpos.jar"
    jar.write_bytes(b"another")
    with pytest.raises(BenchError, match="SHA-256 must be 00, got "):
        contenders.check(jar, "00")


def test_jars_that_cannot_be_fetched_are_left_out_and_leave_nothing(
    tmp_path, monkeypatch
):
    programs = {"java": "", "javac": "", "mvn": "echo no network; exit 1"}
    for name, program in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(contenders, "ROOT", tmp_path)
    with pytest.raises(AbsentError, match="could not fetch the jars: no network"):
        contenders.fetch_jars()
    assert list((tmp_path / ".cache").iterdir()) == []


def test_a_ratio_is_the_median_of_those_of_neighbours():
    # The machine was twice as slow in the second round.
    slices = {OURS: [10.0, 20.0, 10.0], "jPOS": [30.0, 60.0, 40.0]}
    assert report.figures(slices) == {
        OURS: {"ns": 10.0},
        "jPOS": {"ns": 40.0, "times": 3.0},
    }


# -- the walk ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Whether the walk in C takes bytes for a whole message."""
    folder = tmp_path_factory.mktemp("walk")
    binary = contenders.build_walk(folder)

    def walks(data):
        contenders.write_message(folder / "message", data)
        done = subprocess.run(
            [binary, folder / "message"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            assert done.stderr == "error: the message is not whole\n"
        return done.returncode == 0

    return walks


def decodes(data):
    try:
        CODEC.decode(data)
    except iso8583.DecodeError:
        return False
    return True


def test_the_walk_refuses_what_is_cut_or_too_long(walks):
    assert walks(DATA)
    assert not walks(DATA + b"0")
    cuts = {*range(24), *range(24, len(DATA), 7), len(DATA) - 1}
    assert not any(walks(DATA[:cut]) for cut in cuts)


def test_the_walk_checks_what_a_decode_checks(walks):
    seen = set()
    for at in range(0, len(DATA), 2):
        for byte in (DATA[at] ^ 0x40, ord("9")):
            data = DATA[:at] + bytes([byte]) + DATA[at + 1 :]
            # Of a field that the message has not, the walk knows no layout.
            if set(message.FIELDS).issuperset(bits(data)):
                assert walks(data) == decodes(data), f"byte {at} is {byte}"
                seen.add(decodes(data))
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("came", "broken"),
    [
        # All that follows is where the length says; `:` comes behind `9`.
        (b"16" + message.FIELDS[2].encode(), b"20" + b"4" * 20),
        (b"06" + message.FIELDS[32].encode(), b"0:" + b"1" * 10),
    ],
)
def test_the_walk_refuses_a_length_that_no_field_has(walks, came, broken):
    assert DATA.count(came) == 1
    data = DATA.replace(came, broken)
    assert not decodes(data)
    assert not walks(data)


def bits(data):
    """The fields that the primary bitmap says are there."""
    bitmap = int.from_bytes(data[4:12], "big")
    return [number for number in range(1, 65) if bitmap >> (64 - number) & 1]


@pytest.mark.timeout(300)
def test_instructions_are_counted_of_the_operation_alone(tmp_path):
    contenders.write_message(tmp_path / "message", DATA)
    command = [str(contenders.build_walk(tmp_path)), str(tmp_path / "message")]
    if shutil.which("valgrind") is None:
        with pytest.raises(FileNotFoundError):
            contenders.instructions(command, ["walk"], 1, tmp_path)
        return
    few = contenders.instructions(command, ["walk"], 1_000, tmp_path)["walk"]
    many = contenders.instructions(command, ["walk"], 100_000, tmp_path)["walk"]
    fields = len(message.FIELDS)
    assert 5 * fields < many < 100 * fields
    assert few == pytest.approx(many, rel=0.05)
