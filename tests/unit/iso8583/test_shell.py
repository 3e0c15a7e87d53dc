"""`python -m iso8583` as a user runs it."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import iso8583
from iso8583.guess import TWINS, rank
from tests.messages import fitting
from tests.unit.iso8583.test_jpos import OWN

CODECS = {name: iso8583.Codec(iso8583.load_spec(name)) for name in iso8583.spec_names()}
PAN = "9999990000000014"
TRACK = "9999990000000014=31122011"
FIELDS = {2: PAN, 4: "1500", 7: "1126130000", 11: "000017", 35: TRACK}
PROGRAM = (sys.executable, "-m", "iso8583")
ARGV = (sys.executable, (*PROGRAM, "specs"))


def message_of(name):
    return CODECS[name].encode(fitting(CODECS[name].spec, FIELDS))


def run(*arguments, given=b""):
    return subprocess.run(
        (*PROGRAM, *map(str, arguments)),
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
    )


def reply(*arguments, given=b"", exit_code=0):
    """What it says as JSON."""
    done = run(*arguments, "--json", given=given)
    assert done.returncode == exit_code, done.stderr
    return json.loads(done.stdout)


def test_hex_base64_and_files_of_them_are_read_alike(tmp_path):
    data = message_of("iso87-mixed")
    spelt = [data.hex().encode(), base64.b64encode(data)]
    for number, text in enumerate((*spelt, data)):
        (tmp_path / f"{number}").write_bytes(text)
    said = [
        *(reply(text.decode()) for text in spelt),
        *(reply(tmp_path / f"{number}") for number in range(3)),
        *(reply("-", given=text) for text in (*spelt, data)),
        reply(given=data),
    ]
    assert [one["format"] for one in said] == [
        *("hex", "base64"),
        *("hex", "base64", "binary") * 2,
        "binary",
    ]
    fields = [one["messages"][0]["fields"] for one in said]
    assert fields[0]["11"]["value"] == "000017"
    assert fields == fields[:1] * len(fields)


@pytest.mark.parametrize("name", CODECS)
def test_the_spec_is_guessed_or_given(name):
    data = message_of(name).hex()
    guessed, told = reply(data), reply("--spec", name, data)
    assert told["spec"] == name
    assert guessed["spec"] == TWINS.get(name, name)
    assert told["messages"][0]["mti"] == guessed["messages"][0]["mti"]


def test_the_spec_of_the_version_wins_where_another_reads_as_well():
    data = message_of("iso93-binary")
    best, *others = rank([data], CODECS.values())
    assert best.codec.spec.name == "iso93-binary"
    assert [one.codec.spec.name for one in others if not one.fault] == ["iso87-binary"]


def test_a_guess_names_what_would_do_as_well():
    text = run(message_of("iso93-ascii").hex()).stdout.decode()
    assert text.startswith(
        "hex; spec iso93-ascii, guessed; ambiguous: iso87-ascii would do as well\n"
        "MTI 1100\n"
    )


def test_card_data_is_masked_unless_asked_for():
    data = message_of("iso87-ascii")
    for flags in ((), ("--json",)):
        done = run(*flags, given=data)
        assert b"************0014" in done.stdout
        assert PAN.encode() not in done.stdout
        assert not done.stderr
        done = run(*flags, "--unmasked", given=data)
        assert TRACK.encode() in done.stdout
        assert b"warning: card data in clear" in done.stderr


def test_every_message_of_a_file_is_shown_with_its_place():
    data = message_of("iso87-ascii").hex()
    said = reply(given=f"# two\n{data}\n\n{data}  # again\n".encode())
    assert [one["place"] for one in said["messages"]] == ["line 2", "line 4"]


def test_a_broken_message_is_shown_as_far_as_a_given_spec_reads_it():
    data = message_of("iso87-ascii")[:-20]
    done = run("--spec", "iso87-ascii", "--format", "binary", given=data)
    assert done.returncode == 2
    assert b"System trace audit number: 000017" in done.stdout
    assert re.fullmatch(
        rb"iso8583: message: field \d+ at offset \d+: expected .*, got .*\n",
        done.stderr,
    )


def test_nothing_of_a_broken_message_is_shown_by_a_guess():
    # Packed digits of an ASCII message are anything's value, a card number's too.
    whole = message_of("iso87-binary").hex()
    ascii_text = message_of("iso87-ascii").hex()
    done = run(given=f"{whole}\n{whole}\n{ascii_text}".encode())
    assert done.returncode == 2
    assert PAN.encode().hex()[:12].encode() not in done.stdout
    assert b"--spec NAME shows what was read" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (["--spec", "nonesuch", "-"], b"", b"--spec: expected one of"),
        (["0800a"], b"", b"hex: line 1: expected an even number of hex digits"),
        ([PAN + "?"], b"", b"expected hex, base64, a file or -, got none of them"),
        ([], b"", b"input: expected messages, got none"),
        (["--format", "hex"], b"xyz", b"hex: line 1: expected hex digits"),
        (["convert", "nonesuch", "-o", "x"], b"", b"got 'nonesuch'"),
    ],
)
def test_input_that_cannot_be_used_is_one_line_without_the_input(
    arguments, given, said
):
    done = run(*arguments, given=given)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert said in done.stderr
    assert PAN.encode() not in done.stderr
    assert not done.stdout


def test_shipped_specs_are_listed():
    assert [one["name"] for one in reply("specs")] == iso8583.spec_names()
    lines = run("specs").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == iso8583.spec_names()


def test_any_spec_is_converted_to_json_and_then_read_by(tmp_path):
    out = tmp_path / "own.json"
    assert run("convert", OWN, "-o", out).returncode == 0
    assert iso8583.load_spec(out) == iso8583.load_spec(OWN)
    data = (OWN.with_suffix(".hex")).read_text().strip()
    said = reply("--spec", out, data)
    assert said["messages"][0]["fields"]["41"]["value"] == "TERM0001"


def test_what_could_not_be_converted_is_named(tmp_path):
    packager = tmp_path / "packager.xml"
    line = '<isofield id="5" length="6" name="x" class="org.jpos.iso.IFA_NONESUCH"/>'
    packager.write_text(
        OWN.read_text().replace("</isopackager>", f"{line}</isopackager>")
    )
    done = run("convert", packager, "-o", tmp_path / "out.json")
    assert done.returncode == 1
    assert b"left out: field 5: class IFA_NONESUCH" in done.stderr
    assert 4 in iso8583.load_spec(tmp_path / "out.json").fields


def test_a_file_that_cannot_be_written_is_an_error_of_output(tmp_path):
    done = run("convert", "iso87-ascii", "-o", tmp_path / "no" / "out.json")
    assert done.returncode == 74
    assert b"No such file or directory" in done.stderr


def test_every_help_has_an_example_that_works():
    for command in ([], ["decode"], ["specs"], ["convert"]):
        done = run(*command, "--help")
        assert done.returncode == 0
        assert b"example" in done.stdout
        assert b"exit codes:" in done.stdout
    message = re.search(rb"-m iso8583 ([0-9]+)\n", run("--help").stdout)
    assert message is not None
    said = reply(message[1].decode())
    assert said["spec"] == "iso87-binary"
    assert said["messages"][0]["mti"] == "0800"


def test_it_ends_when_interrupted(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        subprocess.Popen(
            (*PROGRAM, str(fifo)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        # Waits until the other side reads.
        fifo.open("wb"),
    ):
        out, errors = _interrupt(process)
    assert (process.returncode, out, errors) == (130, b"", b"")


def _interrupt(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Until it ends: a signal that comes just before it waits is seen when it has
    waited, which is for ever."""
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=20)
    raise AssertionError("it does not end")


def test_a_reader_that_went_away_is_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            (*PROGRAM, "specs"),
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_output_that_takes_nothing_is_told():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            (*PROGRAM, "specs"),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 74
    assert done.stderr == b"iso8583: standard output: No space left on device\n"


@pytest.mark.parametrize(("closed", "exit_code"), [(1, 74), (2, 0)])
def test_a_closed_output_is_told_where_it_can_be(closed, exit_code):
    done = subprocess.run(
        (sys.executable, "-c", f"import os; os.close({closed}); os.execv(*{ARGV!r})"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_code
    assert done.stderr == (
        b"iso8583: standard output: closed\n" if closed == 1 else b""
    )
