"""Checks journal.pml with Spin: as it is, in all its states; and with each step left
out, until there is a counterexample.

usage: python -m tests.model.check [--short] [NAME...]

Needs spin and gcc (Debian's packages of these names), and memory for some tens of
millions of states.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MODEL = Path(__file__).with_name("journal.pml")
MEMORY_MIB_MAX = 9000
DEPTH_MAX = 4_000_000
SECONDS_MAX = 1200
INCOMPLETE = "Search not completed|out of memory|max search depth too small"
SMALL = ("N=2", "MA=1", "MB=1", "RETRY=0", "TAKES=1")


class Case(NamedTuple):
    name: str
    defines: tuple[str, ...]
    is_sound: bool


def broken(name: str, *more: str) -> Case:
    defines = (*SMALL, f"BREAK_{name.upper().replace('-', '_')}", *more)
    return Case(name, defines, is_sound=False)


CASES = [
    Case("small", SMALL, is_sound=True),
    Case("retries", (*SMALL[:3], "RETRY=1", "TAKES=1"), is_sound=True),
    Case("suspicion", (*SMALL, "SUSPICION"), is_sound=True),
    Case("both-shards", ("N=1", *SMALL[1:4], "TAKES=2"), is_sound=True),
    Case("three-rows", ("N=3", *SMALL[1:]), is_sound=True),
    # What must be possible: else all of it would show nothing.
    Case("reach-chain", (*SMALL, "REACH_CHAIN"), is_sound=False),
    Case("reach-move", (*SMALL, "REACH_MOVE"), is_sound=False),
    broken("answers-before-append"),
    broken("no-fence-read"),
    broken("fence-read-before"),
    broken("other-fence"),
    broken("tail-before-fence"),
    broken("others-fence"),
    broken("holes", "BREAK_PIPELINED"),
    broken("pipelined"),
    broken("no-write-back"),
    broken("plain-seal"),
    broken("no-reading-again"),
    broken("merely-higher"),
    broken("fence-removed"),
    broken("move-in-flight"),
    broken("move-unreleased"),
    broken("appends-after-move"),
    broken("publishes-what-it-read"),
]


def check(case: Case) -> tuple[bool, str]:
    """Whether it came out as it should, and what came out."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        flags = [f"-D{define}" for define in case.defines]
        run(directory, "spin", *flags, "-a", str(MODEL))
        # Breadth first finds a short counterexample.
        search = "-DCOLLAPSE" if case.is_sound else "-DBFS"
        run(
            directory,
            *("gcc", "-O2", "-w", "-DSAFETY", "-DNOCLAIM", "-DVECTORSZ=2048"),
            *(f"-DMEMLIM={MEMORY_MIB_MAX}", search, "-o", "pan", "pan.c"),
        )
        output = run(directory, "./pan", "-E", f"-m{DEPTH_MAX}", "-w24")
    states = re.search(r"(\d+) states, stored", output)
    is_whole = not re.search(INCOMPLETE, output)
    errors = re.search(r"errors: (\d+)", output)
    found = errors is not None and errors[1] != "0"
    counted = f"{int(states[1]):,} states" if states else "no states"
    what = "a counterexample" if found else "sound" if is_whole else "not finished"
    expected = "sound" if case.is_sound else "a counterexample"
    return what == expected, f"{what}, {counted}"


def run(directory: Path, *words: str) -> str:
    done = subprocess.run(
        words,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode and words[0] != "./pan":
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model.check")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these cases")
    parser.add_argument(
        "--short", action="store_true", help="without the largest sound ones"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}")
    failed = []
    for case in CASES:
        is_long = case.is_sound and case.name != "small"
        if arguments.names and case.name not in arguments.names:
            continue
        if arguments.short and is_long:
            continue
        began_at = time.monotonic()
        is_right, text = check(case)
        mark = "" if is_right else "  <-- not as expected"
        seconds = time.monotonic() - began_at
        print(f"{case.name}: {text}, {seconds:.0f} s{mark}", flush=True)
        if not is_right:
            failed.append(case.name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
