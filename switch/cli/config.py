"""`switch config`."""

import argparse
import os
import sys
from pathlib import Path

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json
from switch.cli.settings import add_settings, load_settings


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "config",
        run,
        summary="print the effective configuration, and where each setting came from",
        example="switch config --listen 0.0.0.0:8583 > switch.toml",
    )
    add_settings(parser)
    add_json(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    check = add_command(
        actions,
        "check",
        run_check,
        summary="say what is wrong with a configuration file, one line a problem",
        example="switch config check switch.toml",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    add_json(check)


def run(arguments: argparse.Namespace) -> int:
    from switch.config import effective, to_toml

    loaded = load_settings(arguments)
    if arguments.json:
        print_json(effective(loaded.config))
    else:
        sys.stdout.write(to_toml(loaded.config, loaded.sources).lstrip("\n"))
    return exits.OK


def run_check(arguments: argparse.Namespace) -> int:
    from switch.check import check
    from switch.config import ConfigError

    problems: list[str] = []
    links: list[str] = []
    try:
        links += check(arguments.file, os.environ).links
    except ConfigError as error:
        problems += error.problems
    if arguments.json:
        print_json({"ok": not problems, "problems": problems, "links": links})
    elif problems:
        print("\n".join(problems))
    else:
        print(f"{arguments.file}: ok, links: {', '.join(links)}")
    return exits.USAGE if problems else exits.OK
