"""`switch keys`: what wraps the master key of the card numbers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json
from switch.cli.settings import add_data_settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch.config import Config
    from switch.keys.wrapping import WrappingKey

WRAPPED_EXAMPLE = "--data bank --set keys.wrapping_key_file=wrapping.keys"


def add(subparsers: Subparsers) -> None:
    group = subparsers.add_parser("keys", help="wrap the card numbers' key, rotate")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "new",
        run_new,
        summary="add a new wrapping key to a file, which is made if there is none",
        example="switch keys new wrapping.keys",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    add_json(parser)
    parser = add_command(
        actions,
        "rotate",
        run_rotate,
        summary="wrap the master key with the newest key of keys.wrapping_key_file; a "
        "running daemon goes on",
        example=f"switch keys rotate {WRAPPED_EXAMPLE}",
    )
    add_data_settings(parser)
    add_json(parser)
    parser = add_command(
        actions,
        "show",
        run_show,
        summary="say which key this is and which one wraps it, by fingerprint",
        example=f"switch keys show {WRAPPED_EXAMPLE}",
    )
    add_data_settings(parser)
    add_json(parser)


def run_new(arguments: argparse.Namespace) -> int:
    from switch.keys import wrapping

    key = wrapping.add(arguments.file)
    if arguments.json:
        print_json({"file": str(arguments.file), "wrapping_key": key.fingerprint})
    else:
        print(f"wrapping key {key.fingerprint} added to {arguments.file}")
    return exits.OK


def run_rotate(arguments: argparse.Namespace) -> int:
    from switch.keys import sealed_file

    config = load_settings(arguments).config
    file, wrapping = _files(config)
    if not wrapping:
        raise exits.CommandError(
            "expected the setting keys.wrapping_key_file, got none: `switch keys new` "
            "makes such a file"
        )
    before = sealed_file.wrapped_by(file)
    sealed_file.rewrap(file, wrapping)
    after = wrapping[-1].fingerprint
    if arguments.json:
        print_json({"file": str(file), "wrapping_key": after, "before": before})
    else:
        print(f"{file}: wrapped by {after}, before by {before or 'none'}")
    return exits.OK


def run_show(arguments: argparse.Namespace) -> int:
    from switch.keys import sealed_file

    file, wrapping = _files(load_settings(arguments).config)
    wrapped_by = sealed_file.wrapped_by(file)
    key = sealed_file.load(file, wrapping).fingerprint
    if arguments.json:
        print_json({"file": str(file), "key": key, "wrapping_key": wrapped_by})
    else:
        said = f"wrapped by {wrapped_by}" if wrapped_by else "in clear"
        print(f"{file}: key {key}, {said}")
    return exits.OK


def _files(config: "Config") -> "tuple[Path, Sequence[WrappingKey]]":
    from switch.journal.directory import DataDirectory
    from switch.keys import wrapping

    given = config.keys.wrapping_key_file
    keys = wrapping.load(given) if given else ()
    alone, shared = config.keys.pan_key_file, config.cluster.pan_key_file
    file = shared if config.cluster.name else alone
    if file:
        return Path(file), keys
    return DataDirectory.open(config.data_directory, create=False).pan_key, keys
