"""`switch journal`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json

if TYPE_CHECKING:
    from switch.audit import Verdict


def add(subparsers: Subparsers) -> None:
    group = subparsers.add_parser(
        "journal", help="look into the journal of a data directory or a cluster"
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = add_command(
        actions,
        "verify",
        run_verify,
        summary="derive every balance and hold again, and say whether all of it fits",
        example="switch journal verify bank",
    )
    dump = add_command(
        actions,
        "dump",
        run_dump,
        summary="print the journal's entries, oldest first",
        example="switch journal dump bank --json | jq .kind",
    )
    verify.add_argument("directory", type=Path, metavar="DIR", nargs="?")
    verify.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the journal of the cluster of this configuration; nodes may run",
    )
    dump.add_argument("directory", type=Path, metavar="DIR")
    for parser in (verify, dump):
        add_json(parser)


def run_verify(arguments: argparse.Namespace) -> int:
    from switch.cli.progress import progress

    if (arguments.directory is None) == (arguments.config is None):
        raise exits.CommandError("expected a data directory or --config, one of them")
    with progress("verify", 1.0) as advance:
        verdict = _verify(arguments, advance)
    if arguments.json:
        said: dict[str, object] = {
            "ok": verdict.ok,
            "entries": verdict.entries,
            "accounts": verdict.accounts,
            "problems": list(verdict.problems),
        }
        if verdict.taken_over:
            said["taken_over"] = verdict.taken_over
        print_json(said)
    else:
        for problem in verdict.problems:
            print(problem)
        word = "ok" if verdict.ok else f"NOT ok, {len(verdict.problems)} problems"
        print(f"{word}: {verdict.entries:,} entries, {verdict.accounts:,} accounts")
        if verdict.taken_over:
            print(
                f"{verdict.taken_over:,} older entries were dropped: what they came to "
                "is taken from checkpoints"
            )
    return exits.OK if verdict.ok else exits.NOT_SO


def _verify(
    arguments: argparse.Namespace, advance: "Callable[[float, str], None]"
) -> "Verdict":
    if arguments.directory is not None:
        from switch import audit

        return audit.verify(arguments.directory, advance)
    import os

    from switch.cluster_audit import verify_cluster
    from switch.config import load

    return verify_cluster(load(arguments.config, os.environ).config, advance)


def run_dump(arguments: argparse.Namespace) -> int:
    import json

    from switch import audit

    for entry in audit.dump(arguments.directory):
        if arguments.json:
            sys.stdout.write(json.dumps(entry, separators=(",", ":")) + "\n")
        else:
            print("  ".join(f"{name}={value}" for name, value in entry.items()))
    return exits.OK
