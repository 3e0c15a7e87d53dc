"""The load benchmark. See `scripts/bench --help`."""

import argparse
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import machine, running, servers
from bench.load.running import say
from bench.load.servers import BenchError, Cards, Server

CONNECTIONS = 4
WINDOW = 64
ACCOUNT_COUNT = 10_000
BALANCE = 10**13
# Instructions are counted under an emulator, some 50 times slower.
INSTRUCTIONS_SECONDS = 3.0

Drive = Callable[[], dict[str, Any]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    running.add_options(parser, seconds=5)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    return parser.parse_args()


class Comparison:
    """The three servers on one set of cards, a new data directory for each drive."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.cards = servers.write_cards(folder, ACCOUNT_COUNT, BALANCE)
        self.ceiling = servers.build_ceiling(folder)
        self.plain = servers.build_environment("bench")
        self.imported = folder / "imported"
        servers.import_cards(self.imported, self.cards)
        self.drives: dict[str, Drive] = {
            "ceiling": self.drive_ceiling,
            "plain": self.drive_plain,
            "switch": self.drive_switch,
        }

    def run(self, rounds: int) -> dict[str, list[dict[str, Any]]]:
        """Interleaved, so that what changes on the machine meanwhile meets all."""
        reports: dict[str, list[dict[str, Any]]] = {name: [] for name in self.drives}
        for number in range(1, rounds + 1):
            for name, drive in self.drives.items():
                report = drive()
                reports[name].append(report)
                rate = report["answered_per_second"]
                say(f"round {number} of {rounds}: {name:8} {rate:>10,.0f}/s")
        return reports

    def drive_ceiling(self) -> dict[str, Any]:
        data, port = self._data(), servers.free_port()
        command = servers.ceiling_command(self.ceiling, port, data)
        with servers.running(command, port, self._log("ceiling")) as server:
            return self._measure(server)

    def drive_plain(self) -> dict[str, Any]:
        data, port = self._data(), servers.free_port()
        command = servers.plain_command(self.plain, port, data, self.cards)
        with servers.running(command, port, self._log("plain")) as server:
            return self._measure(server)

    def drive_switch(self) -> dict[str, Any]:
        data = self._data()
        data.rmdir()
        shutil.copytree(self.imported, data)
        with servers.switch_running(data, self._log("switch")) as server:
            report = self._measure(server)
            # A quick server of declines would be a poor comparison.
            if report["approved"] != report["answered"]:
                raise BenchError(f"not all were approved: {report}")
            return report

    def instructions_per_message(self) -> float | None:
        """User-mode instructions of the ceiling for one message."""
        if shutil.which("valgrind") is None:
            return None
        data, port = self._data(), servers.free_port()
        log = self._log("instructions")
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command = tool + servers.ceiling_command(self.ceiling, port, data)
        with servers.running(command, port, log) as server:
            servers.drive(
                server.port, self.cards, INSTRUCTIONS_SECONDS, CONNECTIONS, WINDOW
            )
        text = log.read_text()
        counted = re.search(r"Collected : (\d+)", text)
        messages = re.search(r'"messages": (\d+)', text)
        if counted is None or messages is None:
            return None
        return int(counted[1]) / int(messages[1])

    def _data(self) -> Path:
        data = self.folder / "data"
        servers.remove(data)
        data.mkdir()
        return data

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _measure(self, server: Server) -> dict[str, Any]:
        before = server.cpu_seconds()
        report = servers.drive(
            server.port, self.cards, self.seconds, CONNECTIONS, WINDOW
        )
        spent = server.cpu_seconds() - before
        report["cpu_us_per_message"] = spent / report["answered"] * 1e6
        return report


def medians(reports: list[dict[str, Any]]) -> dict[str, float]:
    rates = [report["answered_per_second"] for report in reports]
    return {
        "answered_per_second": statistics.median(rates),
        "answered_per_second_min": min(rates),
        "answered_per_second_max": max(rates),
        "cpu_us_per_message": statistics.median(
            report["cpu_us_per_message"] for report in reports
        ),
        **{
            f"latency_ms_{name}": statistics.median(
                report["latency_ms"][name] for report in reports
            )
            for name in ("p50", "p99", "p999")
        },
    }


# -- a million accounts --------------------------------------------------------------


def restart_scenario(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """Import, start, serve, and start again: after a clean stop and after kill -9."""
    say(f"{count:,} accounts with a card each: writing the files")
    cards = servers.write_cards(folder, count, BALANCE)
    data, log = folder / "many", folder / "many.log"
    result: dict[str, Any] = {"accounts": count}

    def timed(name: str, *command: str) -> None:
        start = time.monotonic()
        servers.run(*servers.SWITCH, *command, "--data", str(data))
        result[name] = time.monotonic() - start
        say(f"{name}: {result[name]:.1f}")

    timed("accounts_import_seconds", "accounts", "import", str(cards.accounts))
    timed("cards_import_seconds", "cards", "import", str(cards.cards))
    for name, kill in (("first", False), ("clean", True), ("killed", False)):
        result[name] = _start_and_drive(data, log, cards, seconds, kill=kill)
        ready, memory = result[name]["ready_seconds"], result[name]["memory_mib"]
        say(f"start ({name}): ready after {ready:.1f} s with {memory:,.0f} MiB")
    return result


def _start_and_drive(
    data: Path, log: Path, cards: Cards, seconds: float, *, kill: bool
) -> dict[str, float]:
    start = time.monotonic()
    with servers.switch_running(data, log) as server:
        result = {
            "ready_seconds": time.monotonic() - start,
            "memory_mib": server.memory_mib(),
        }
        report = servers.drive(server.port, cards, seconds, CONNECTIONS, WINDOW)
        result["answered"] = report["answered"]
        result["memory_mib_after_load"] = server.memory_mib()
        if kill:
            server.process.kill()
    return result


# -- the report ----------------------------------------------------------------------


def ratio(figures: dict[str, dict[str, float]], rival: str) -> float:
    key = "answered_per_second"
    return figures["switch"][key] / figures[rival][key]


def print_report(result: dict[str, Any]) -> None:
    for name, value in result["machine"].items():
        print(f"{name:18} {value}")
    sync = result["sync_latency"]
    print(f"{'file system':18} {result['file_system']}")
    print(
        f"{'fdatasync':18} append {sync['append_us_p50']:.0f} µs"
        f" (p99 {sync['append_us_p99']:.0f}),"
        f" overwrite {sync['overwrite_us_p50']:.0f} µs"
        f" (p99 {sync['overwrite_us_p99']:.0f})"
    )
    print(
        f"\n{CONNECTIONS} connections with {WINDOW} requests outstanding each,"
        f" {result['rounds']} rounds of {result['seconds']:g} s, medians:\n"
    )
    print(
        f"{'':8} {'messages/s':>12} {'min':>10} {'max':>10}"
        f" {'p50 ms':>8} {'p99 ms':>8} {'CPU µs':>8}"
    )
    for name, row in result["servers"].items():
        print(
            f"{name:8} {row['answered_per_second']:>12,.0f}"
            f" {row['answered_per_second_min']:>10,.0f}"
            f" {row['answered_per_second_max']:>10,.0f}"
            f" {row['latency_ms_p50']:>8.2f} {row['latency_ms_p99']:>8.2f}"
            f" {row['cpu_us_per_message']:>8.2f}"
        )
    print(
        f"\nswitch: {result['switch_to_ceiling']:.0%} of the ceiling,"
        f" {result['switch_to_plain']:.1f} times the plain server"
    )
    instructions = result["ceiling_instructions_per_message"]
    counted = "n/a (no valgrind)" if instructions is None else f"{instructions:,.0f}"
    print(f"ceiling: {counted} user-mode instructions a message")
    if result["restart"]:
        _print_restart(result["restart"])


def _print_restart(restart: dict[str, Any]) -> None:
    print(
        f"\n{restart['accounts']:,} accounts with a card each: imported in"
        f" {restart['accounts_import_seconds']:.1f} s"
        f" + {restart['cards_import_seconds']:.1f} s"
    )
    starts = {
        "first": "first start",
        "clean": "after a clean stop",
        "killed": "after kill -9",
    }
    for name, title in starts.items():
        row = restart[name]
        print(
            f"{title:18} ready after {row['ready_seconds']:.1f} s,"
            f" {row['memory_mib']:,.0f} MiB;"
            f" {row['memory_mib_after_load']:,.0f} MiB"
            f" after {row['answered']:,} messages more"
        )


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    comparison = Comparison(folder, options.seconds)
    description = machine.describe()
    description["pyiso8583"] = servers.plain_version(comparison.plain)
    reports = comparison.run(options.rounds)
    figures = {name: medians(rounds) for name, rounds in reports.items()}
    restart = None
    if options.accounts:
        restart = restart_scenario(folder, options.accounts, options.seconds)
    return {
        "machine": description,
        "file_system": machine.file_system(folder),
        "sync_latency": machine.sync_latency(folder),
        "connections": CONNECTIONS,
        "window": WINDOW,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "servers": figures,
        "switch_to_ceiling": ratio(figures, "ceiling"),
        "switch_to_plain": ratio(figures, "plain"),
        "ceiling_instructions_per_message": comparison.instructions_per_message(),
        "restart": restart,
    }


if __name__ == "__main__":
    sys.exit(running.main(arguments(), measure, print_report))
