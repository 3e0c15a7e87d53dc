"""`switch accounts`."""

import argparse

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

STATUSES = ("active", "blocked", "closed")
COLUMNS = (
    *("account", "currency", "balance", "held", "credit_limit", "available"),
    "status",
)


def add(subparsers: Subparsers) -> None:
    actions = add_import(
        subparsers,
        "accounts",
        columns="account,currency,balance,credit_limit",
        hint="currencies in ISO 4217 letters, money in minor units",
    )
    add_remote_command(
        actions,
        "list",
        run_list,
        summary="list the accounts by name, as far as published",
        example="switch accounts list",
    ).add_argument("--cursor", metavar="CURSOR", help="of the page before")
    add_remote_command(
        actions,
        "show",
        run_show,
        summary="show an account of the running daemon",
        example="switch accounts show ACC0001",
    ).add_argument("account", metavar="ACCOUNT")
    parser = add_remote_command(
        actions,
        "create",
        run_create,
        summary="open an account in the running daemon",
        example='switch accounts create ACC0009 --currency EUR --reason "new customer"',
        changes=True,
        once=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--currency", required=True, metavar="LETTERS")
    for name, words in (("balance", "first balance"), ("limit", "credit limit")):
        parser.add_argument(
            f"--{name}",
            type=int,
            default=0,
            metavar="MINOR",
            help=f"{words} in minor units (default 0)",
        )
    _add_changes(actions)


def _add_changes(actions: Subparsers) -> None:
    parser = add_remote_command(
        actions,
        "limit",
        run_limit,
        summary="change the credit limit of an account in the running daemon",
        example='switch accounts limit ACC0001 75000 --reason "agreed by phone"',
        changes=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument(
        "credit_limit", type=int, metavar="LIMIT", help="in minor units"
    )
    parser = add_remote_command(
        actions,
        "status",
        run_status,
        summary="block, unblock or close an account in the running daemon; all its "
        "cards are declined",
        example='switch accounts status ACC0001 blocked --reason "fraud suspected"',
        changes=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument(
        "status", choices=STATUSES, metavar="STATUS", help=", ".join(STATUSES)
    )
    parser = add_remote_command(
        actions,
        "adjust",
        run_adjust,
        summary="add to the balance of an account in the running daemon, or take from "
        "it",
        example='switch accounts adjust ACC0001 -2500 --reason "fee of July"',
        changes=True,
        once=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument(
        "amount", type=int, metavar="AMOUNT", help="in minor units; may be negative"
    )


def run_list(arguments: argparse.Namespace) -> int:
    answer = ask(arguments, "GET", "/api/accounts", query={"cursor": arguments.cursor})
    return show_rows(arguments, answer, "accounts", COLUMNS)


def run_show(arguments: argparse.Namespace) -> int:
    path = path_of("api", "accounts", arguments.account)
    return show(arguments, ask(arguments, "GET", path))


def run_create(arguments: argparse.Namespace) -> int:
    body = {
        "account": arguments.account,
        "currency": arguments.currency,
        "balance": arguments.balance,
        "credit_limit": arguments.limit,
        "reason": arguments.reason,
    }
    return show(arguments, ask_once(arguments, "/api/accounts", body))


def run_limit(arguments: argparse.Namespace) -> int:
    body = {"credit_limit": arguments.credit_limit, "reason": arguments.reason}
    path = path_of("api", "accounts", arguments.account)
    return show(arguments, ask(arguments, "PATCH", path, body=body))


def run_status(arguments: argparse.Namespace) -> int:
    body = {"status": arguments.status, "reason": arguments.reason}
    path = path_of("api", "accounts", arguments.account)
    return show(arguments, ask(arguments, "PATCH", path, body=body))


def run_adjust(arguments: argparse.Namespace) -> int:
    body = {"amount": arguments.amount, "reason": arguments.reason}
    path = path_of("api", "accounts", arguments.account, "adjustments")
    return show(arguments, ask_once(arguments, path, body))
