"""The configuration as flags: what `serve` runs with and `config` shows."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from switch.cli import exits

if TYPE_CHECKING:
    from switch.config import Loaded

# flag → setting
FLAG_SETTINGS: Final = {
    "data": "data_directory",
    "listen": "link.address",
    "http": "http.listen",
    "spec": "link.spec",
    "framing": "link.framing",
}


def add_data_settings(parser: argparse.ArgumentParser) -> None:
    # no defaults here: they are the configuration's, below its file and environment
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a configuration file (TOML)"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="data directory, initialised when it is empty (default switch-data)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, as `switch config` names them",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    add_data_settings(parser)
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="where schemes connect; with several links, of the one named main "
        "(default 127.0.0.1:8583)",
    )
    parser.add_argument(
        "--http",
        metavar="HOST:PORT",
        help="where accounts, health and metrics are read (default 127.0.0.1:8580)",
    )
    parser.add_argument(
        "--spec",
        metavar="NAME",
        help="message specification: a shipped name or a file (default iso87-ascii)",
    )
    parser.add_argument(
        "--framing",
        metavar="NAME",
        help="binary2, binary4, ascii4 or bcd2 (default binary2)",
    )


def load_settings(arguments: argparse.Namespace) -> "Loaded":
    return settings_loader(arguments)()


def settings_loader(arguments: argparse.Namespace) -> "Callable[[], Loaded]":
    """What reads the file each time that it is called; raises ConfigError."""
    from switch.config import load

    flags: dict[str, Any] = {
        setting: getattr(arguments, flag, None)
        for flag, setting in FLAG_SETTINGS.items()
    }
    if flags["link.address"] is not None:
        flags["link.role"] = "listen"
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise exits.CommandError(f"--set: expected NAME=VALUE, got {text!r}")
        flags[name] = value
    return lambda: load(arguments.config, os.environ, flags)
