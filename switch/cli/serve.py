"""`switch serve`."""

import argparse

from switch.cli.options import Subparsers, add_command
from switch.cli.settings import add_settings, load_settings


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "serve",
        run,
        summary="run the switch: listen, authorise, answer",
        example="switch serve --data bank --listen 0.0.0.0:8583",
    )
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    config = load_settings(arguments).config
    from switch import app

    return app.serve(config)
