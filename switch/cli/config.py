"""`switch config`."""

import argparse
import sys

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


def run(arguments: argparse.Namespace) -> int:
    from switch.config import effective, to_toml

    loaded = load_settings(arguments)
    if arguments.json:
        print_json(effective(loaded.config))
    else:
        sys.stdout.write(to_toml(loaded.config, loaded.sources).lstrip("\n"))
    return exits.OK
