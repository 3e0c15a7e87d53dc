"""Coverage-guided fuzzing of the native codec. `scripts/fuzz` runs this.

atheris drives libFuzzer over native modules that clang built with its coverage, ASan
and UBSan. Each target runs in a process of its own.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import atheris

from tests.fuzz.seeds import FOUND, written
from tests.fuzz.targets import TARGETS
from tests.style.sources import ROOT

INSTRUMENTED = ROOT / ".cache/fuzz/lib"
CORPUS = ROOT / ".cache/fuzz/corpus"
# No input takes a second. A machine that stalls is none of its own.
INPUT_SECONDS_MAX = 120
INPUT_SIZE_MAX = 4_096
MEMORY_MIB_MAX = 4_096


class Outcome(NamedTuple):
    target: str
    executions: int
    #: edges of the native modules that were reached
    coverage: int
    seconds: float
    #: where the input is that it failed on
    found: str | None
    ended_well: bool


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{INSTRUMENTED}{os.pathsep}{ROOT}",
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "0",
        # So that ASan sees each object of Python by itself.
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": str(Path(atheris.path()) / "asan_with_fuzzer.so"),
        # The interpreter frees little at its end.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def options(arguments: argparse.Namespace, corpora: list[Path]) -> list[str]:
    chosen = [
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-max_len={INPUT_SIZE_MAX}",
        "-print_final_stats=1",
        "-reload=0",
        *map(str, corpora),
    ]
    if arguments.seconds is not None:
        return [f"-max_total_time={arguments.seconds}", *chosen]
    # The same inputs each time, so that a verdict does not change by itself.
    return [f"-runs={arguments.executions}", "-seed=1", *chosen]


def fuzzed(target: str, arguments: argparse.Namespace) -> Outcome:
    FOUND.mkdir(exist_ok=True)
    before = set(FOUND.iterdir())
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        seeds = Path(temporary)
        written(target, seeds)
        corpora = [seeds]
        if arguments.seconds is not None:
            # What is found is kept for the next time.
            corpora.insert(0, CORPUS / target)
            corpora[0].mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.one", target),
                f"-artifact_prefix={FOUND}/{target}-",
                *options(arguments, corpora),
            ],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    found = sorted(set(FOUND.iterdir()) - before)
    executions = re.findall(r"number_of_executed_units: (\d+)", done.stdout)
    coverage = re.findall(r"cov: (\d+)", done.stdout)
    outcome = Outcome(
        target,
        int(executions[-1]) if executions else 0,
        int(coverage[-1]) if coverage else 0,
        round(time.monotonic() - started, 1),
        str(found[0].relative_to(ROOT)) if found else None,
        done.returncode == 0 and bool(executions) and bool(coverage),
    )
    if not outcome.ended_well:
        sys.stderr.write(done.stdout[-20_000:])
    return outcome


def said(outcome: Outcome) -> str:
    verdict = "clean" if outcome.ended_well else f"FAILED on {outcome.found}"
    return (
        f"{outcome.target:<10} {outcome.executions:>10} executions "
        f"{outcome.coverage:>6} edges {outcome.seconds:>8} s  {verdict}"
    )


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", add_help=False)
    parser.add_argument("--target", action="append", choices=[*TARGETS])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=int)
    length.add_argument("--executions", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def main(given: list[str] | None = None) -> int:
    arguments = parsed(given)
    outcomes: list[dict[str, Any]] = []
    ended_well = True
    for target in arguments.target or TARGETS:
        outcome = fuzzed(target, arguments)
        ended_well &= outcome.ended_well
        outcomes.append(outcome._asdict())
        print(said(outcome), file=sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(outcomes))
    return 0 if ended_well else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
