"""`python -m tests.servers.local up|status|down`, as `scripts/cluster` starts it."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from switch.cli import exits
from switch.cli.options import count_in, number_above
from tests.servers.common import ServerError
from tests.servers.local import commands
from tests.servers.local.layout import DIRECTORY, NODES_MAX

SHARDS_MAX = 1024


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/cluster",
        description="A whole cluster on this machine: Cassandra, etcd, Kafka, NSQ and "
        "nodes of the switch, on loopback addresses, with traffic to all nodes.",
        epilog="example:\n  scripts/cluster up --seconds 60",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_up(_add(actions, "up", "start it, import a demo bank, show it", commands.up))
    _add(actions, "status", "say what runs, and who owns which shard", commands.status)
    down = _add(actions, "down", "stop it, also after a crash", commands.down)
    down.add_argument(
        "--remove", action="store_true", help="remove the data that was kept, too"
    )
    return parser


def _add(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name, help=summary, description=f"{summary}.".capitalize(), allow_abbrev=False
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--directory",
        type=Path,
        default=DIRECTORY,
        metavar="DIR",
        help="where its files are (default .cache/cluster)",
    )
    return parser


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=number_above(0),
        metavar="S",
        help="end after so long, once it is ready (default: on Ctrl-C)",
    )
    parser.add_argument(
        "--nodes",
        type=count_in(1, NODES_MAX),
        default=3,
        metavar="N",
        help="nodes of the switch (default %(default)s)",
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="one Cassandra and one etcd instead of three each, for small machines",
    )
    parser.add_argument(
        "--shards",
        type=count_in(1, SHARDS_MAX),
        default=24,
        metavar="N",
        help="of a cluster that is made (default %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=number_above(0),
        default=20.0,
        metavar="R",
        help="messages a second to each node, on average (default %(default)g)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the data, and go on with it next time",
    )
    parser.add_argument(
        "-d",
        "--detach",
        action="store_true",
        help="come back when it is ready, and leave it running",
    )


def main() -> int:
    # The cluster's own files say all that it wants changed.
    for name in [name for name in os.environ if name.startswith("SWITCH_")]:
        del os.environ[name]
    arguments = build_parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except (ServerError, AssertionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return exits.INPUT_OUTPUT


if __name__ == "__main__":
    sys.exit(main())
