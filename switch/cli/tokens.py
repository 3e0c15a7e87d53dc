"""`switch tokens`: who may administer the daemon over HTTP."""

import argparse
from typing import TYPE_CHECKING

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json
from switch.cli.settings import add_data_settings, load_settings

if TYPE_CHECKING:
    from switch.admin.tokens import TokenFile

ROLES = ("viewer", "operator", "admin")


def add(subparsers: Subparsers) -> None:
    group = subparsers.add_parser("tokens", help="say who may administer over HTTP")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "add",
        run_add,
        summary="make a token and print it, this once; a running daemon takes it at "
        "once",
        example="switch tokens add maria --role operator --data bank",
    )
    parser.add_argument("name", metavar="NAME", help="stands in what its owner changes")
    parser.add_argument("--role", choices=ROLES, required=True)
    add_data_settings(parser)
    add_json(parser)
    parser = add_command(
        actions,
        "list",
        run_list,
        summary="list the names and roles of the tokens",
        example="switch tokens list --data bank",
    )
    add_data_settings(parser)
    add_json(parser)
    parser = add_command(
        actions,
        "revoke",
        run_revoke,
        summary="end a token; a running daemon refuses it at once",
        example="switch tokens revoke maria --data bank",
    )
    parser.add_argument("name", metavar="NAME")
    add_data_settings(parser)


def run_add(arguments: argparse.Namespace) -> int:
    token = _file(arguments).add(arguments.name, arguments.role)
    if arguments.json:
        print_json({"name": arguments.name, "role": arguments.role, "token": token})
    else:
        print(token)
    return exits.OK


def run_list(arguments: argparse.Namespace) -> int:
    tokens = _file(arguments).tokens()
    if arguments.json:
        print_json(
            [{"name": t.name, "role": t.role, "added_at": t.added_at} for t in tokens]
        )
        return exits.OK
    for token in tokens:
        print(f"{token.name:32}  {token.role:8}  {token.added_at}")
    return exits.OK


def run_revoke(arguments: argparse.Namespace) -> int:
    _file(arguments).revoke(arguments.name)
    return exits.OK


def _file(arguments: argparse.Namespace) -> "TokenFile":
    from switch.admin.tokens import TokenFile
    from switch.journal.directory import TOKENS_NAME, DataDirectory

    config = load_settings(arguments).config
    if config.admin.tokens_file:
        return TokenFile(config.admin.tokens_file)
    if config.cluster.name:
        from switch.cluster_store import node_directory

        # That of a node is no data directory: its journal is elsewhere.
        return TokenFile(node_directory(config) / TOKENS_NAME)
    return TokenFile(DataDirectory.open(config.data_directory).tokens)
