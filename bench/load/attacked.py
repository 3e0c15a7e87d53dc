"""What a link notices of an attack on the one beside it, or of an import:
`scripts/bench attacks`.

A good link is driven alone and, in turn, beside each attack on another link of the same
switch. What counts is the ratio of the two, of neighbouring drives.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.load import machine, running, servers
from bench.load.attacks import ATTACKS
from bench.load.running import say
from bench.load.servers import BenchError, Cards, Server

ACCOUNT_COUNT = 1_000
# Not an attack: accounts are imported over HTTP, more than in the time of a drive.
IMPORT = "import"
IMPORTED_COUNT = 400_000
BALANCE = 10**13
QUANTILES = ("p50", "p99")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench attacks",
        description="Measures the p99 of a good link alone and beside an attacked one.",
        epilog="example: scripts/bench attacks --rounds 3 --attack echoes --json",
    )
    running.add_options(parser, seconds=3)
    parser.add_argument(
        "--rate", type=float, default=500.0, help="of the good link (default 500/s)"
    )
    parser.add_argument(
        "--attack",
        action="append",
        choices=sorted([*ATTACKS, IMPORT]),
        help="one of the attacks; may be given again (default: all)",
    )
    return parser.parse_args()


class Beside:
    """What goes on beside the good link."""

    def __init__(self, folder: Path, server: Server, victim: int) -> None:
        self.folder = folder
        self.server = server
        self.victim = victim
        self.imports = 0

    def begin(self, name: str) -> subprocess.Popen[bytes]:
        if name != IMPORT:
            words = ["-m", "bench.load.attacks", name, str(self.victim)]
            return subprocess.Popen([sys.executable, *words], cwd=servers.ROOT)
        self.imports += 1
        accounts = self.folder / "more.csv"
        with accounts.open("w") as file:
            file.write("account,currency,balance,credit_limit\n")
            file.writelines(
                f"I{self.imports:03d}{number:09d},EUR,0,0\n"
                for number in range(IMPORTED_COUNT)
            )
        return servers.begin_import(self.folder / "data", self.server, accounts)

    @contextlib.contextmanager
    def going_on(self, name: str) -> Iterator[None]:
        process = self.begin(name)
        try:
            yield
            if process.poll() is not None:
                raise BenchError(f"{name} ended by itself with {process.returncode}")
        finally:
            if name != IMPORT:
                process.kill()
            process.wait()


def measure(
    options: argparse.Namespace, server: Server, beside_it: Beside, cards: Cards
) -> dict[str, list[dict[str, float]]]:
    """For each attack the pairs of figures, of all rounds."""

    def drive() -> dict[str, float]:
        report = servers.drive(
            server.port, cards, options.seconds, 1, 64, rate=options.rate
        )
        return {name: report["latency_ms"][name] for name in QUANTILES}

    names = options.attack or [*ATTACKS, IMPORT]
    pairs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(1, options.rounds + 1):
        for name in names:
            alone = drive()
            with beside_it.going_on(name):
                beside = drive()
            pair = {f"alone_{key}": value for key, value in alone.items()}
            pair |= {f"beside_{key}": value for key, value in beside.items()}
            pair["ratio_p99"] = beside["p99"] / alone["p99"]
            pairs[name].append(pair)
            say(
                f"round {number} of {options.rounds}: {name:12}"
                f" p99 {alone['p99']:.2f} ms alone, {beside['p99']:.2f} ms beside"
            )
    return pairs


def medians(pairs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(pair[key] for pair in pairs) for key in pairs[0]}


def print_report(result: dict[str, Any]) -> None:
    for name, value in result["machine"].items():
        print(f"{name:18} {value}")
    print(
        f"\n{result['rate']:g} requests a second on the good link, {result['rounds']}"
        f" rounds of {result['seconds']:g} s, medians in ms:\n"
    )
    print(f"{'':14} {'p50 alone':>10} {'beside':>8} {'p99 alone':>10} {'beside':>8}")
    for name, row in result["attacks"].items():
        print(
            f"{name:14} {row['alone_p50']:>10.2f} {row['beside_p50']:>8.2f}"
            f" {row['alone_p99']:>10.2f} {row['beside_p99']:>8.2f}"
            f" {row['ratio_p99']:>6.1f} times"
        )


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    cards = servers.write_cards(folder, ACCOUNT_COUNT, BALANCE)
    data = folder / "data"
    servers.import_cards(data, cards)
    victim = servers.free_port()
    with servers.switch_running(data, folder / "log", {"attacked": victim}) as server:
        pairs = measure(options, server, Beside(folder, server, victim), cards)
    return {
        "machine": machine.describe(),
        "file_system": machine.file_system(folder),
        "rate": options.rate,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "attacks": {name: medians(found) for name, found in pairs.items()},
    }


if __name__ == "__main__":
    sys.exit(running.main(arguments(), run, print_report))
