"""`switch serve`."""

import argparse

from switch.cli.options import Subparsers, add_command
from switch.cli.settings import add_settings, settings_loader


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "serve",
        run,
        summary="run the switch: listen, authorise, answer",
        example="switch serve --data bank --listen 0.0.0.0:8583\n"
        "  switch serve --config switch.toml   (SIGHUP: reads it again)",
    )
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    load = settings_loader(arguments)
    if load().config.cluster.name:
        from switch import clustered

        return clustered.serve(lambda: load().config)
    from switch import app

    return app.serve(lambda: load().config)
