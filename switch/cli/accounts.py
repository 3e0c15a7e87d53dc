"""`switch accounts`."""

from switch.cli.imports import add_import
from switch.cli.options import Subparsers


def add(subparsers: Subparsers) -> None:
    add_import(
        subparsers,
        "accounts",
        columns="account,currency,balance,credit_limit",
        hint="currencies in ISO 4217 letters, money in minor units",
    )
