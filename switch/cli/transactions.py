"""`switch transactions`."""

import argparse

from switch.cli.options import Subparsers, count_in
from switch.cli.remote import add_remote_command, ask, show_rows

# query parameter → what to give
FILTERS = {
    "account": "ACCOUNT",
    "card": "TOKEN",
    "rrn": "RRN",
    "stan": "STAN",
    "amount": "MINOR",
    "from": "TIME",
    "to": "TIME",
}
COLUMNS = (
    *("id", "at", "kind", "account", "last_four", "amount", "currency"),
    *("balance_change", "held_change", "response_code", "stan", "rrn"),
)
ROWS_MAX = 500


def add(subparsers: Subparsers) -> None:
    group = subparsers.add_parser("transactions", help="look up transactions")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_remote_command(
        actions,
        "search",
        run,
        summary="search transactions of the running daemon, newest first; times as "
        "2026-11-24T23:00:00Z",
        example="switch transactions search --account ACC0001 --stan 000017",
    )
    for name, what in FILTERS.items():
        parser.add_argument(f"--{name}", dest=f"filter_{name}", metavar=what)
    parser.add_argument("--limit", type=count_in(1, ROWS_MAX), metavar="ROWS")
    parser.add_argument("--cursor", metavar="CURSOR", help="of the page before")


def run(arguments: argparse.Namespace) -> int:
    query = {name: getattr(arguments, f"filter_{name}") for name in FILTERS}
    query |= {"limit": arguments.limit, "cursor": arguments.cursor}
    answer = ask(arguments, "GET", "/api/transactions", query=query)
    return show_rows(arguments, answer, "transactions", COLUMNS)
