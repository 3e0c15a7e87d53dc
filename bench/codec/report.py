"""The codec beside others on one message: `scripts/bench codec`.

Everybody reads and writes the same bytes. In each round our codec and the others do an
operation one after the other; what counts is the ratio of these neighbours, of which
the report has the median.
"""

import argparse
import contextlib
import shutil
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from bench.codec import contenders, message
from bench.codec.contenders import OURS, PYTHON_RIVALS, RIVALS, WALK, Contender
from bench.load import machine, running
from bench.load.running import say

# Rivals in Python are slow, and nobody needs their last digits.
RIVAL_COUNT_DIVISOR = 10


class Row(NamedTuple):
    """One purpose. `theirs` is what stands for it in codecs without the like."""

    title: str
    ours: str
    theirs: str
    rivals: tuple[str, ...] = RIVALS


ROWS = (
    Row("lazy decode", "decode", "decode"),
    Row("decode, MTI and 6 fields", "read", "read"),
    Row("decode to a dict", "dict", "dict"),
    Row("encode from a dict", "encode", "encode"),
    Row("decode, change field 11, encode", "change", "change"),
    Row("decode, validate", "validate", "dict"),
    Row("iso8583.decode", "document decode", "dict", ("pyiso8583",)),
    Row("iso8583.encode", "document encode", "encode", ("pyiso8583",)),
)
WALKED = ROWS[0]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench codec",
        description="Times the codec beside others on an authorisation request: CPU"
        " time, ratios of neighbours, and instructions by callgrind.",
        epilog="example: scripts/bench codec --rival pyiso8583 --rival jPOS --json",
    )
    running.add_options(parser, seconds=0.05, rounds=15, what="slice")
    parser.add_argument(
        "--rival",
        action="append",
        choices=RIVALS,
        help="one of the others; may be given again (default: all)",
    )
    parser.add_argument(
        "--warm-up",
        type=float,
        default=2,
        metavar="SECONDS",
        help="of each operation in Java (default 2)",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=1000,
        help="operations whose instructions are counted; 0 leaves it out"
        " (default 1000)",
    )
    return parser.parse_args()


# -- measuring -----------------------------------------------------------------------

Slices = dict[str, list[float]]


def measure_round(
    ready: dict[str, Contender], seconds: float, slices: dict[str, Slices]
) -> None:
    """For each row and contender one more slice of nanoseconds."""
    for row in ROWS:
        found = slices[row.title]
        found.setdefault(OURS, []).append(ready[OURS].nanoseconds(row.ours, seconds))
        if row is WALKED:
            walked = ready[WALK].nanoseconds("walk", seconds)
            found.setdefault(WALK, []).append(walked)
        for name in row.rivals:
            if name in ready:
                theirs = ready[name].nanoseconds(row.theirs, seconds)
                found.setdefault(name, []).append(theirs)


def figures(slices: Slices) -> dict[str, dict[str, float]]:
    """`times`: how many times ours the others take."""
    ours = slices[OURS]
    result = {OURS: {"ns": statistics.median(ours)}}
    for name, theirs in slices.items():
        if name != OURS:
            pairs = zip(theirs, ours, strict=True)
            times = statistics.median(other / own for other, own in pairs)
            result[name] = {"ns": statistics.median(theirs), "times": times}
    return result


def count_instructions(
    commands: dict[str, list[str]], count: int, folder: Path
) -> dict[str, dict[str, float]]:
    """By contender and its operation. Two at a time: nothing moves these figures."""
    wanted = {
        OURS: (sorted({row.ours for row in ROWS}), count),
        WALK: (["walk"], count),
        **{
            name: (
                sorted({row.theirs for row in ROWS if name in row.rivals}),
                max(1, count // RIVAL_COUNT_DIVISOR),
            )
            for name in PYTHON_RIVALS
        },
    }

    def of(name: str) -> dict[str, float]:
        say(f"counting the instructions of {name}")
        own = folder / f"instructions {name}"
        own.mkdir()
        operations, times = wanted[name]
        return contenders.instructions(commands[name], operations, times, own)

    names = [name for name in wanted if name in commands]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(of, names), strict=True))


def add_instructions(
    rows: dict[str, dict[str, Any]], counted: dict[str, dict[str, float]]
) -> None:
    for row in ROWS:
        operations = {OURS: row.ours, WALK: "walk"}
        for name, found in rows[row.title].items():
            operation = operations.get(name, row.theirs)
            if operation in counted.get(name, {}):
                found["instructions"] = counted[name][operation]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    rivals = options.rival or list(RIVALS)
    commands, absent = contenders.commands(folder, rivals, options.warm_up)
    for name, reason in absent.items():
        say(f"without {name}: {reason}")
    slices: dict[str, Slices] = {row.title: {} for row in ROWS}
    with contextlib.ExitStack() as stack:
        ready = {}
        for name, command in commands.items():
            say(f"starting {name}")
            log = folder / f"{name}.log"
            ready[name] = stack.enter_context(contenders.running(command, log))
        for number in range(1, options.rounds + 1):
            measure_round(ready, options.seconds, slices)
            say(f"round {number} of {options.rounds}")
        versions = {name: contender.version for name, contender in ready.items()}
    rows = {title: figures(found) for title, found in slices.items()}
    if options.count and shutil.which("valgrind") is None:
        absent["instructions"] = "no valgrind on PATH"
    elif options.count:
        counted = count_instructions(commands, options.count, folder)
        add_instructions(rows, counted)
    return {
        "machine": machine.describe(),
        "message": describe_message(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": versions,
        "absent": absent,
        "rows": rows,
    }


def describe_message() -> dict[str, Any]:
    return {
        "spec": message.SPEC,
        "mti": message.MTI,
        "fields": list(message.FIELDS),
        "bytes": len(contenders.encoded()),
        "chip_data_bytes": len(message.chip_data()) // 2,
        "chip_data_tags": len(message.CHIP),
        "read": list(message.READ),
    }


# -- the report ----------------------------------------------------------------------


def time_of(nanoseconds: float) -> str:
    if nanoseconds < 1000:
        return f"{nanoseconds:.0f} ns"
    return f"{nanoseconds / 1000:.1f} µs"


def cell(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    times = found["times"]
    return f"{times:.{0 if times >= 20 else 1}f}×"


def table(result: dict[str, Any]) -> list[str]:
    """In Markdown, as the README has it."""
    rivals = [name for name in RIVALS if name in result["versions"]]
    rows = [["", "ours", "instructions", *rivals], ["---"] * (3 + len(rivals))]
    for title, row in result["rows"].items():
        counted = row[OURS].get("instructions")
        rows.append(
            [
                title,
                time_of(row[OURS]["ns"]),
                "" if counted is None else f"{counted:,.0f}",
                *(cell(row.get(name)) for name in rivals),
            ]
        )
    return ["| " + " | ".join(row) + " |" for row in rows]


def print_report(result: dict[str, Any]) -> None:
    for name, value in result["machine"].items():
        print(f"{name:18} {value}")
    for name, value in result["versions"].items():
        if name not in (OURS, WALK):
            print(f"{name:18} {value}")
    sent = result["message"]
    fields = ", ".join(map(str, sent["fields"]))
    print(
        f"\nThe message: {sent['mti']} in {sent['spec']}, {sent['bytes']} bytes,"
        f" {len(sent['fields'])} fields ({fields}),\n{sent['chip_data_bytes']} bytes of"
        f" chip data in {sent['chip_data_tags']} tags. The 6 fields read:"
        f" {', '.join(map(str, sent['read']))}."
    )
    print(
        f"{result['rounds']} rounds of slices of {result['seconds']:g} s, medians;"
        " ×: how many times ours the others take\n"
    )
    print("\n".join(table(result)))
    row = result["rows"][WALKED.title]
    print(
        f"\na bare walk in C: {time_of(row[WALK]['ns'])};"
        f" a lazy decode takes {1 / row[WALK]['times']:.2f} times that"
    )
    counts = {
        name: found["instructions"]
        for name, found in row.items()
        if "instructions" in found and name != OURS
    }
    if counts:
        print(
            "instructions of a decode: "
            + ", ".join(f"{name} {count:,.0f}" for name, count in counts.items())
        )
    for name, reason in result["absent"].items():
        print(f"without {name}: {reason}")


if __name__ == "__main__":
    sys.exit(running.main(arguments(), measure, print_report, durable=False))
