"""What the benchmarks of `scripts/bench` share: their options, and a run from an empty
folder to its report."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import machine, servers
from bench.load.servers import BenchError

Result = dict[str, Any]


def add_options(
    parser: argparse.ArgumentParser,
    seconds: float,
    rounds: int = 5,
    what: str = "drive",
) -> None:
    parser.add_argument(
        "--seconds",
        type=float,
        default=seconds,
        help=f"length of a {what} (default {seconds:g})",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=rounds,
        help=f"rounds of {what}s (default {rounds})",
    )
    parser.add_argument("--directory", type=Path, default=servers.ROOT / ".cache/bench")
    parser.add_argument("--json", action="store_true")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Path], Result],
    print_report: Callable[[Result], None],
    *,
    durable: bool = True,
) -> int:
    """The exit code. `durable`: the figures mean something on a disk only."""
    options.directory.mkdir(parents=True, exist_ok=True)
    kind = machine.file_system(options.directory)
    if durable and kind in machine.MEMORY_FILE_SYSTEMS:
        say(f"error: {options.directory} is on {kind}, where nothing is durable")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.directory))
    try:
        result = measure(options, folder)
    except (BenchError, subprocess.SubprocessError) as error:
        say(f"error: {error}")
        return 1
    finally:
        servers.remove(folder)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print_report(result)
    return 0
