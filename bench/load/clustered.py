"""A cluster beside what its Cassandra can do at all: `scripts/bench cluster`.

One Cassandra and one etcd, on which three things are driven in turn, round by round: a
driver that writes each authorisation by itself, as many outstanding; the switch; and a
bare loop that appends the very commits of the switch and reads a fence behind each.
What counts are the ratios. Then one request at a time, a node that is killed, and the
cold path. All of it shares the cores of one machine; Cassandra takes the most of them.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from bench.load import machine, running, servers
from bench.load.running import say
from bench.load.servers import BenchError, Cards
from switch.ownership import rendezvous
from tests.end_to_end.clustered import ClusterOfNodes
from tests.servers import cassandra as cassandra_server
from tests.servers import etcd as etcd_server
from tests.servers.cassandra import Cassandra
from tests.servers.etcd import Etcd

ACCOUNT_COUNT = 300
BALANCE = 10**13
SHARDS = 64
LEASE_S = 5
OUTSTANDING = 1024
CONNECTIONS = 4
# Of what goes on while a node is killed: far below what two can do.
KILL_RATE = 50.0
KILL_AFTER_S, KILL_SECONDS = 3.0, 25.0
SETTLE_SECONDS_MAX = 120.0
Figures = dict[str, float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench cluster",
        description="Measures a cluster beside the bare driver of its Cassandra.",
        epilog="example: scripts/bench cluster --rounds 2 --seconds 4 --json",
    )
    running.add_options(parser, seconds=5, rounds=3)
    parser.add_argument(
        "--cassandra", type=int, choices=[1, 3], default=3, help="servers (default 3)"
    )
    parser.add_argument(
        "--etcd", type=int, choices=[1, 3], default=3, help="servers (default 3)"
    )
    parser.add_argument(
        "--nodes", type=int, choices=[1, 3], default=3,
        help="of the switch; with 3, one alone is measured as well (default 3)",
    )  # fmt: skip
    parser.add_argument(
        "--compiler", choices=["quick", "whole"], default="quick",
        help="Java's: quick begins fast, whole ends faster (default quick)",
    )  # fmt: skip
    parser.add_argument(
        "--read-model", action="store_true",
        help="on each node, which takes a core that others need (default none)",
    )  # fmt: skip
    return parser.parse_args()


class BenchCluster(ClusterOfNodes):
    """With the shards and the lease of a configuration that says nothing of them."""

    VALUES: ClassVar[dict[str, object]] = {"shards": SHARDS, "lease": LEASE_S}
    has_read_model = False

    def write_config(self, data: Path, node: str, **others: object) -> Path:
        path = super().write_config(data, node, **(self.VALUES | others))
        setting = f"read_model = {json.dumps(self.has_read_model)}"
        text = path.read_text()
        assert "[cluster]\n" in text
        path.write_text(text.replace("[cluster]\n", f"[cluster]\n{setting}\n"))
        return path

    def wait_settled(self) -> None:
        """Until every shard is where it is wanted, and open there."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            status = self.status()
            names = [member["node"] for member in status["members"]]
            if set(names) == {n for n, node in self.nodes.items() if node.process}:
                strays = sum(
                    not each["is_open"]
                    or each["owner"] != rendezvous.wanted(each["shard"], names)
                    for each in status["shards"]
                )
                if not strays:
                    return
            if time.monotonic() > deadline:
                raise BenchError("shards do not come to where they are wanted")

    def import_file(self, what: str, path: Path) -> None:
        done = self.run(what, "import", path)
        if done.returncode != 0:
            raise BenchError(f"import of {what}: {done.stderr}")


class Costs:
    """CPU seconds of each kind of process, between two looks."""

    def __init__(self, pids: Callable[[], dict[str, list[int]]]) -> None:
        self._pids = pids
        self._before = self._look()

    def _look(self) -> dict[str, float]:
        return {
            kind: sum(map(servers.cpu_seconds_of, pids))
            for kind, pids in self._pids().items()
        }

    def per(self, done: float) -> Figures:
        after = self._look()
        return {
            f"{kind}_cpu_us": (after[kind] - before) / done * 1e6
            for kind, before in self._before.items()
        }


class Bench:
    def __init__(
        self,
        options: argparse.Namespace,
        folder: Path,
        cassandra: Cassandra,
        etcd: Etcd,
    ) -> None:
        self.options = options
        self.cassandra = cassandra
        self.etcd = etcd
        self.cluster = BenchCluster(folder, cassandra, etcd)
        self.cluster.has_read_model = options.read_model
        self.cards: Cards = servers.write_cards(folder, ACCOUNT_COUNT, BALANCE)

    def begin(self) -> None:
        self.cluster.init()
        self.cluster.start("a")
        say("importing accounts and cards")
        self.cluster.import_file("accounts", self.cards.accounts)
        self.cluster.import_file("cards", self.cards.cards)
        # What is done once, and what Java's compiler has not seen yet.
        self._drive(["a"], OUTSTANDING, self.options.seconds)

    def grow(self) -> None:
        self.cluster.start("b", "c")
        self.cluster.wait_settled()
        self._drive(["a", "b", "c"], OUTSTANDING, self.options.seconds)

    # -- the rounds

    def rounds(self, names: Sequence[str]) -> Figures:
        found = []
        for number in range(1, self.options.rounds + 1):
            figures = self._round(names)
            found.append(figures)
            say(
                f"{len(names)} nodes, round {number} of {self.options.rounds}:"
                f" raw {figures['raw_per_second']:,.0f}/s,"
                f" switch {figures['switch_per_second']:,.0f}/s,"
                f" bare {figures['bare_per_second']:,.0f}/s"
            )
        return {
            name: statistics.median(each[name] for each in found) for name in found[0]
        }

    def _round(self, names: Sequence[str]) -> Figures:
        heads = {name: self._metric(name, "journal_head") for name in names}
        commits = sum(heads.values())
        costs = Costs(self._pids)
        reports = self._drive(names, OUTSTANDING, self.options.seconds)
        answered = sum(report["answered"] for report in reports)
        switch = sum(report["answered_per_second"] for report in reports)
        own = costs.per(answered)
        commits = sum(self._metric(name, "journal_head") for name in names) - commits
        raw, raw_costs = self._bare(names[0], heads[names[0]], "raw")
        bare, bare_costs = self._bare(names[0], heads[names[0]], "appends", len(names))
        return {
            "switch_per_second": switch,
            "raw_per_second": raw["per_second"],
            "bare_per_second": bare["per_second"],
            "switch_to_raw": switch / raw["per_second"],
            "switch_to_bare": switch / bare["per_second"],
            "p50_ms": max(report["latency_ms"]["p50"] for report in reports),
            "p99_ms": max(report["latency_ms"]["p99"] for report in reports),
            "authorisations_per_commit": answered / max(commits, 1),
            "bare_entries_per_commit": bare["entries_per_commit"],
            "bytes_per_entry": bare["bytes_per_entry"],
            **{f"switch_{name}": value for name, value in own.items()},
            "raw_cassandra_cpu_us": raw_costs["cassandra_cpu_us"],
            "raw_own_cpu_us": raw["own_cpu_us"],
            "bare_cassandra_cpu_us": bare_costs["cassandra_cpu_us"],
            "bare_own_cpu_us": bare["own_cpu_us"],
        }

    def alone(self) -> Figures:
        """One request at a time, of a node that has all shards."""
        found = []
        for _ in range(self.options.rounds):
            head = self._metric("a", "journal_head")
            (report,) = self._drive(["a"], 1, self.options.seconds)
            bare, _ = self._bare("a", head, "alone")
            answer = report["latency_ms"]["p50"]
            ratio = answer / bare["both_p50_ms"]
            found.append({"answer_p50_ms": answer, **bare, "ratio": ratio})
        return {
            name: statistics.median(each[name] for each in found) for name in found[0]
        }

    # -- what befalls

    def takeover(self) -> Figures:
        """A node is killed; how long the worst request waited."""
        found: list[dict[str, Any]] = []
        load = threading.Thread(
            target=lambda: found.extend(
                self._drive(["a"], OUTSTANDING, KILL_SECONDS, KILL_RATE)
            )
        )
        load.start()
        time.sleep(KILL_AFTER_S)
        self.cluster.nodes["c"].kill()
        load.join()
        self.cluster.wait_settled()
        if not found:
            raise BenchError("requests stayed unanswered while a node was killed")
        return {
            "lease_s": float(LEASE_S),
            "longest_wait_s": found[0]["latency_ms"]["max"] / 1000,
            "declined": float(found[0]["declined"]),
        }

    def cold(self) -> Figures:
        text = servers.run(
            *(sys.executable, "-m", "bench.load.cold", "--keyspace", "cold"),
            *("--contact-points", *self.cassandra.addresses),
            *("--endpoints", *self.etcd.endpoints),
            *("--copies", str(self.cassandra.replication)),
        )
        figures: Figures = json.loads(text)
        parts = max(figures["lock_ms"], figures["read_ms"]) + figures["append_ms"]
        figures["ratio"] = figures["cold_ms"] / parts
        figures["ratio_with_epoch"] = figures["cold_ms"] / (parts + figures["epoch_ms"])
        return figures

    # -- the parts

    def _drive(
        self, names: Sequence[str], outstanding: int, seconds: float, rate: float = 0.0
    ) -> list[dict[str, Any]]:
        """At all of these nodes at once; so many in all."""
        connections = min(CONNECTIONS, outstanding)
        window = max(1, outstanding // len(names) // connections)
        ports = [self.cluster.nodes[name].port for name in names]

        def drive(port: int) -> dict[str, Any]:
            return servers.drive(
                port, self.cards, seconds, connections, window, rate=rate
            )

        with ThreadPoolExecutor(len(ports)) as pool:
            return list(pool.map(drive, ports))

    def _bare(
        self, node: str, head: float, mode: str, loops: int = 1
    ) -> tuple[Figures, Figures]:
        """Its figures, and what it cost Cassandra."""
        members = {each["node"]: each for each in self.cluster.status()["members"]}
        costs = Costs(self._pids)
        text = servers.run(
            *(sys.executable, "-m", "bench.load.bare", mode),
            *("--contact-points", *self.cassandra.addresses),
            *("--keyspace", self.cluster.keyspace),
            *("--copies", str(self.cassandra.replication)),
            *("--session", members[node]["session"], "--after", str(int(head))),
            *("--seconds", str(self.options.seconds), "--loops", str(loops)),
            *("--outstanding", str(OUTSTANDING)),
        )
        figures: Figures = json.loads(text)
        return figures, costs.per(figures.get("done", 1))

    def _metric(self, node: str, name: str) -> float:
        return self.cluster.nodes[node].metrics_of(f"switch_{name}")

    def _pids(self) -> dict[str, list[int]]:
        nodes = self.cluster.nodes.values()
        return {
            "cassandra": _running(self.cassandra.nodes),
            "etcd": _running(self.etcd.members),
            "nodes": [node.pid for node in nodes if node.process is not None],
        }


def _running(group: Sequence[Any]) -> list[int]:
    return [each.process.pid for each in group if each.process is not None]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    cassandra_server.get()
    etcd_server.get()
    for name in ("cassandra", "etcd", "cluster"):
        (folder / name).mkdir()
    say("starting Cassandra and etcd")
    with (
        Cassandra(
            folder / "cassandra",
            options.cassandra,
            is_quick=options.compiler == "quick",
        ) as cassandra,
        Etcd(folder / "etcd", options.etcd) as etcd,
    ):
        bench = Bench(options, folder / "cluster", cassandra, etcd)
        with bench.cluster:
            return {
                "machine": machine.describe(),
                "file_system": machine.file_system(folder),
                **_figures(bench),
            }


def _figures(bench: Bench) -> dict[str, Any]:
    options = bench.options
    bench.begin()
    found: dict[str, Any] = {
        "cassandra": options.cassandra,
        "etcd": options.etcd,
        "read_model": options.read_model,
        "outstanding": OUTSTANDING,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "one_node": bench.rounds(["a"]),
        "one_outstanding": bench.alone(),
    }
    say("the cold path")
    found["cold_path"] = bench.cold()
    if options.nodes == 3:
        bench.grow()
        found["three_nodes"] = bench.rounds(["a", "b", "c"])
        say("a node is killed")
        found["takeover"] = bench.takeover()
    return found


TITLES = {
    "one_node": "one node of the switch",
    "three_nodes": "three nodes, each asked for cards of all",
    "one_outstanding": "one request at a time, one node",
    "cold_path": "a shard that nobody has",
    "takeover": "a node is killed",
}


def print_report(result: dict[str, Any]) -> None:
    for name, value in result["machine"].items():
        print(f"{name:26} {value}")
    print(f"{'file system':26} {result['file_system']}")
    read_model = "a read model" if result["read_model"] else "no read model"
    print(
        f"\n{result['cassandra']} Cassandra, {result['etcd']} etcd,"
        f" {read_model} on a node;"
        f" {result['outstanding']} outstanding, {result['rounds']} rounds of"
        f" {result['seconds']:g} s, medians"
    )
    for part, title in TITLES.items():
        if part in result:
            print(f"\n{title}:\n")
            for name, value in result[part].items():
                print(f"{name:28} {value:>12,.3f}")


if __name__ == "__main__":
    sys.exit(running.main(arguments(), measure, print_report))
