"""`switch backup`."""

import argparse
import os
from pathlib import Path
from typing import Final

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json
from switch.cli.settings import add_data_settings, load_settings

# As the follower: the answers come first.
NICE: Final = 10


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "backup",
        run,
        summary="copy a data directory, verified, beside the daemon that runs on it",
        example="switch backup /backups/2026-11-24 --data bank",
    )
    parser.add_argument(
        "target",
        type=Path,
        metavar="TO",
        help="the directory to make; nothing may be there",
    )
    parser.add_argument(
        "--with-key",
        action="store_true",
        help="put the card numbers' key into it: who has such a backup can read every "
        "card number, unless the key is wrapped",
    )
    add_data_settings(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from switch.backup import back_up
    from switch.cli.progress import progress

    config = load_settings(arguments).config
    os.nice(NICE)
    with progress("backup", 1.0) as advance:
        made = back_up(config, arguments.target, advance, with_key=arguments.with_key)
    if arguments.json:
        print_json(
            {
                "backup": str(arguments.target.absolute()),
                "taken_at": made.taken_at,
                "commit": made.commit,
                "published": made.published,
                "has_key": made.has_key,
            }
        )
        return exits.OK
    key = "with its key" if made.has_key else "without its key"
    print(f"{made.commit:,} commits verified, {key}: {arguments.target}")
    if not made.published:
        print("no published event was found: all are published again from it")
    return exits.OK
