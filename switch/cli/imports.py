"""`switch accounts import` and `switch cards import`: the same command twice."""

import argparse
import sys
from pathlib import Path
from typing import Final

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json
from switch.cli.settings import add_data_settings, load_settings

# of a file full of mistakes; the rest is counted
PROBLEMS_SHOWN_MAX: Final = 20


def add_import(subparsers: Subparsers, what: str, *, columns: str, hint: str) -> None:
    group = subparsers.add_parser(what, help=f"import {what} (CSV: {columns})")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "import",
        run,
        summary=f"import {what} from a file, all of it or nothing; daemon stopped",
        example=f"switch {what} import {what}.csv --data bank",
    )
    parser.set_defaults(what=what)
    parser.add_argument(
        "file", type=Path, metavar="FILE.csv", help=f"columns {columns}; {hint}"
    )
    add_data_settings(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from switch import imports
    from switch.cli.progress import progress

    config = load_settings(arguments).config
    work = {"accounts": imports.import_accounts, "cards": imports.import_cards}
    try:
        with progress(f"import {arguments.what}", 1.0) as advance:
            count = work[arguments.what](config, arguments.file, advance)
    except imports.ImportRefused as error:
        for problem in error.problems[:PROBLEMS_SHOWN_MAX]:
            print(f"{arguments.file}: {problem}", file=sys.stderr)
        raise exits.CommandError(
            f"{arguments.file}: nothing imported: {error}"
        ) from error
    if arguments.json:
        print_json({"imported": count})
    else:
        print(f"{count:,} {arguments.what} imported")
    return exits.OK
