"""pyiso8583's interface beside pyiso8583, the real one: nothing differs.

The same program runs under both, each in its own process, and has to print the same.
DOCUMENTS_CALLS=3000000 makes it call that often instead of 100,000 times, from seeds
that no run before had.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iso8583 import specs
from iso8583._specdict import trust_versions
from tests.properties.codec_reference import installed
from tests.properties.documents_program import answer

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests/unit/iso8583/test_documents.py"
PROGRAM = str(ROOT / "tests/properties/documents_program.py")
CALLS_AT_ONCE = 50_000
CALLS = int(os.environ.get("DOCUMENTS_CALLS", 2 * CALLS_AT_ONCE))
FIRST_SEED = 1 if "DOCUMENTS_CALLS" not in os.environ else random.randrange(1 << 40)
SECONDS_MAX = 60 + CALLS // 1000

# What runs the program under this package, with edits noticed in either way.
PRELUDE = """
import runpy, sys
from iso8583._specdict import trust_versions
trust_versions(sys.argv[1] == "versions")
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(command: list[str], path: Path, **pipes: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(path)},
        **pipes,
    )


def start_theirs(*arguments: str, **pipes: Any) -> subprocess.Popen[str]:
    # Without site: in the environment of the tests `iso8583` is this package.
    return start([sys.executable, "-S", PROGRAM, *arguments], installed(), **pipes)


def start_ours(way: str, *arguments: str) -> subprocess.Popen[str]:
    return start([sys.executable, "-c", PRELUDE, way, PROGRAM, *arguments], ROOT)


def finished(process: subprocess.Popen[str]) -> str:
    with process:
        output, _ = process.communicate()
    assert process.returncode == 0
    return output


def first_difference(way: str, seed: str, ours: str, theirs: str) -> str:
    pairs = zip(ours.splitlines(), theirs.splitlines(), strict=False)
    call = next(at for at, (our, their) in enumerate(pairs) if our != their)
    arguments = (seed, str(call + 1), str(call))
    shown = [finished(start_ours(way, *arguments)), finished(start_theirs(*arguments))]
    # What was given is on the first line, and very long: it has the whole spec.
    our, their = (text.partition("\n\n")[2] for text in shown)
    how = f"documents_program.py {' '.join(arguments)}"
    return f"{how}\nours: {our}\npyiso8583's: {their}"


@pytest.mark.parametrize("way", ["versions", "contents"])
@pytest.mark.timeout(SECONDS_MAX)
def test_a_program_written_for_pyiso8583_cannot_tell(way):
    calls = 0
    for seed in range(FIRST_SEED, FIRST_SEED + CALLS):
        # Each way of noticing edits has seeds of its own.
        arguments = (str(2 * seed + (way == "contents")), str(CALLS_AT_ONCE))
        processes = start_ours(way, *arguments), start_theirs(*arguments)
        ours, theirs = map(finished, processes)
        if ours != theirs:
            pytest.fail(first_difference(way, arguments[0], ours, theirs))
        calls += ours.count("\n")
        if calls >= CALLS // 2:
            break
    assert calls >= CALLS // 2


def test_what_is_said_of_pyiso8583_holds_of_it():
    command = [sys.executable, "-P", "-m", "pytest", "-q", "--noconftest"]
    command += ["-c", os.devnull, "-p", "no:cacheprovider", "--import-mode=importlib"]
    output = finished(start([*command, str(VECTORS)], installed()))
    assert " passed" in output


# ---- what hypothesis finds


class Pyiso8583:
    """The real one: answers a question a line."""

    def __init__(self) -> None:
        self._process = start_theirs("ask", stdin=subprocess.PIPE)

    def ask(self, question: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def pyiso8583() -> Iterator[Pyiso8583]:
    process = Pyiso8583()
    yield process
    process.close()


@pytest.fixture(autouse=True, scope="module")
def versions_are_trusted_again() -> Iterator[None]:
    yield
    trust_versions(True)


# Either way of noticing edits.
each_way = pytest.mark.parametrize("by_version", [True, False])


def alike(pyiso8583: Pyiso8583, question: Any) -> None:
    theirs = pyiso8583.ask(question)
    # Last: encoding changes the document.
    assert repr(answer(question)) + "\n" == theirs


NAMES = st.sampled_from(["ascii", "latin-1", "cp500", "utf-8", "b", "bcd", "nosuch"])


def field_specs() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "data_enc": NAMES,
            "len_enc": NAMES,
            "len_type": st.integers(0, 4),
            "max_len": st.integers(0, 30),
        },
        optional={
            "desc": st.just("some field"),
            "len_count": st.sampled_from(["bytes", "nibbles"]),
            "left_pad": st.sampled_from(["", "0", "F", "a", "00"]),
            "right_pad": st.sampled_from(["", "0", "F", "a", "00"]),
        },
    )


KEYS = ["h", "t", "p", "1", *map(str, range(2, 12)), "66", "70", "128", "129", "192"]


@st.composite
def edited_specs(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    spec = {key: dict(specs.default[key]) for key in KEYS if key in specs.default}
    spec |= draw(st.dictionaries(st.sampled_from(KEYS[4:]), field_specs()))
    for key in draw(st.sets(st.sampled_from(KEYS[1:4]))):
        spec[key]["data_enc"] = draw(NAMES)
    return spec


def texts() -> st.SearchStrategy[str]:
    return st.one_of(
        st.text("0123456789ABCDEF", max_size=30), st.text(max_size=12)
    ).filter(lambda text: not any("\ud800" <= mark <= "\udfff" for mark in text))


@each_way
@given(
    spec=edited_specs(),
    document=st.dictionaries(st.sampled_from(KEYS), texts(), max_size=8),
    mti=st.sampled_from(["0100", "0800", "080", "01x0"]),
)
@settings(max_examples=200)
def test_any_document_comes_to_the_same(pyiso8583, by_version, spec, document, mti):
    trust_versions(by_version)
    alike(pyiso8583, {"spec": spec, "encode": {"t": mti, **document}})


HEADS = st.sampled_from(
    [
        "",
        "30313030",
        b"0100\x70\x00\x00\x00\x00\x00\x00\x00".hex(),
        b"0100\xf0\x00\x00\x00\x00\x00\x00\x00\xa0\x00\x00\x00\x00\x00\x00\x01".hex(),
        b"01007000000000000000".hex(),
    ]
)


@each_way
@given(spec=edited_specs(), head=HEADS, rest=st.binary(max_size=60))
@settings(max_examples=200)
def test_any_bytes_come_to_the_same(pyiso8583, by_version, spec, head, rest):
    trust_versions(by_version)
    alike(pyiso8583, {"spec": spec, "decode": head + rest.hex()})


@each_way
@given(
    edits=st.lists(st.tuples(st.sampled_from(KEYS[4:8]), field_specs()), max_size=4),
)
@settings(max_examples=100)
def test_every_edit_is_seen_by_the_next_call(pyiso8583, by_version, edits):
    trust_versions(by_version)
    # Fields 2 to 5, as the spec has them at first.
    data = b"0100\x78" + bytes(7) + b"010" + b"0" * (6 + 12 + 12)
    spec = {key: dict(specs.default[key]) for key in specs.default}
    for key, properties in edits:
        alike(pyiso8583, {"spec": spec, "decode": data.hex()})
        spec[key].update(properties)
        alike(pyiso8583, {"spec": spec, "decode": data.hex()})
