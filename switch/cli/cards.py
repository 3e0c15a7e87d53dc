"""`switch cards`."""

from switch.cli.imports import add_import
from switch.cli.options import Subparsers


def add(subparsers: Subparsers) -> None:
    add_import(
        subparsers,
        "cards",
        columns="pan,account,expiry,status",
        hint="expiry as YYMM; status active, restricted, lost, stolen or closed",
    )
