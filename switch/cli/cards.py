"""`switch cards`."""

import argparse
import sys

from switch.cli import exits
from switch.cli.imports import add_import
from switch.cli.options import Subparsers
from switch.cli.remote import (
    add_remote_command,
    ask,
    ask_once,
    path_of,
    show,
    show_rows,
)

STATUSES = ("active", "restricted", "lost", "stolen", "closed")
COLUMNS = ("token", "account", "last_four", "expiry", "status")


def add(subparsers: Subparsers) -> None:
    actions = add_import(
        subparsers,
        "cards",
        columns="pan,account,expiry,status",
        hint="expiry as YYMM; status active, restricted, lost, stolen or closed",
    )
    parser = add_remote_command(
        actions,
        "list",
        run_list,
        summary="list the cards of an account, or all by token, as far as published",
        example="switch cards list ACC0001",
    )
    parser.add_argument(
        "account", metavar="ACCOUNT", nargs="?", help="default: of all accounts"
    )
    parser.add_argument("--cursor", metavar="CURSOR", help="of the page before")
    add_remote_command(
        actions,
        "show",
        run_show,
        summary="show a card of the running daemon",
        example="switch cards show 19040623cf317c7a79961fb7612388bf",
    ).add_argument("token", metavar="TOKEN")
    parser = add_remote_command(
        actions,
        "issue",
        run_issue,
        summary="issue a card in the running daemon; its number is read from standard "
        "input",
        example="switch cards issue ACC0001 --expiry 4912 --reason new <number.txt",
        changes=True,
        once=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--expiry", required=True, metavar="YYMM")
    parser.add_argument(
        "--status", choices=STATUSES, default="active", help="default %(default)s"
    )
    parser = add_remote_command(
        actions,
        "status",
        run_change,
        summary="change the status of a card in the running daemon",
        example="switch cards status 19040623cf317c7a79961fb7612388bf lost "
        '--reason "customer called"',
        changes=True,
    )
    parser.add_argument("token", metavar="TOKEN")
    parser.add_argument(
        "status", choices=STATUSES, metavar="STATUS", help=", ".join(STATUSES)
    )
    parser.set_defaults(expiry=None)
    parser = add_remote_command(
        actions,
        "expiry",
        run_change,
        summary="change the expiry of a card in the running daemon",
        example="switch cards expiry 19040623cf317c7a79961fb7612388bf 5012 "
        '--reason "renewed"',
        changes=True,
    )
    parser.add_argument("token", metavar="TOKEN")
    parser.add_argument("expiry", metavar="YYMM")
    parser.set_defaults(status=None)


def run_list(arguments: argparse.Namespace) -> int:
    query = {"account": arguments.account, "cursor": arguments.cursor}
    answer = ask(arguments, "GET", "/api/cards", query=query)
    return show_rows(arguments, answer, "cards", COLUMNS)


def run_show(arguments: argparse.Namespace) -> int:
    return show(arguments, ask(arguments, "GET", _path(arguments.token)))


def run_issue(arguments: argparse.Namespace) -> int:
    body = {
        "pan": _read_pan(),
        "account": arguments.account,
        "expiry": arguments.expiry,
        "status": arguments.status,
        "reason": arguments.reason,
    }
    return show(arguments, ask_once(arguments, "/api/cards", body))


def run_change(arguments: argparse.Namespace) -> int:
    body = {
        "status": arguments.status,
        "expiry": arguments.expiry,
        "reason": arguments.reason,
    }
    return show(arguments, ask(arguments, "PATCH", _path(arguments.token), body=body))


def _path(token: str) -> str:
    return path_of("api", "cards", token)


def _read_pan() -> str:
    """Not an argument: those are seen by every process of the machine."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("card number: ").strip()
    pan = sys.stdin.readline(64).strip()
    if not pan:
        raise exits.CommandError("expected a card number on standard input, got none")
    return pan
