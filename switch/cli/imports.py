"""`switch accounts import` and `switch cards import`: the same command twice."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, address, print_json
from switch.cli.remote import add_token, ask, path_of
from switch.cli.settings import add_data_settings, load_settings

# of a file full of mistakes; the rest is counted
PROBLEMS_SHOWN_MAX: Final = 20


def add_import(
    subparsers: Subparsers, what: str, *, columns: str, hint: str
) -> Subparsers:
    """The group of commands, for the others of it."""
    group = subparsers.add_parser(what, help=f"import {what} (CSV: {columns}), others")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "import",
        run,
        summary=f"import {what} from a file, all of it or nothing; daemon stopped, or "
        "with --http running",
        example=f"switch {what} import {what}.csv --data bank",
    )
    parser.set_defaults(what=what)
    parser.add_argument(
        "file", type=Path, metavar="FILE.csv", help=f"columns {columns}; {hint}"
    )
    add_data_settings(parser)
    parser.add_argument(
        "--http",
        type=address,
        metavar="HOST:PORT",
        help="import into the daemon that serves HTTP here, up to 20,000 rows",
    )
    add_token(parser)
    parser.add_argument("--reason", metavar="TEXT", help="why; needed with --http")
    add_json(parser)
    return actions


def run(arguments: argparse.Namespace) -> int:
    count = _into_daemon(arguments) if arguments.http else _into_data(arguments)
    if arguments.json:
        print_json({"imported": count})
    else:
        print(f"{count:,} {arguments.what} imported")
    return exits.OK


def _into_daemon(arguments: argparse.Namespace) -> int:
    from switch.admin.imports import IMPORT_BYTES_MAX

    if not arguments.reason:
        raise exits.CommandError("--reason: expected why it is imported, got nothing")
    path = path_of("api", "imports", arguments.what)
    with arguments.file.open("rb") as file:
        # One byte more than it takes: the daemon says what it expects.
        data = file.read(IMPORT_BYTES_MAX + 1)
    query = {"reason": arguments.reason}
    count: int = ask(arguments, "POST", path, query=query, csv=data)["imported"]
    return count


def _into_data(arguments: argparse.Namespace) -> int:
    from switch import imports
    from switch.cli.progress import progress
    from switch.rows import ImportRefused

    config = load_settings(arguments).config
    data = Path(config.data_directory)
    was_there = data.exists()
    work = {"accounts": imports.import_accounts, "cards": imports.import_cards}
    try:
        with (
            _stops_until_called() as committing,
            progress(f"import {arguments.what}", 1.0) as advance,
        ):
            return work[arguments.what](config, arguments.file, advance, committing)
    except ImportRefused as error:
        for problem in error.problems[:PROBLEMS_SHOWN_MAX]:
            print(f"{arguments.file}: {problem}", file=sys.stderr)
        raise exits.CommandError(
            f"{arguments.file}: nothing imported: {error}"
        ) from error
    except (KeyboardInterrupt, exits.Terminated) as stop:
        made = "" if was_there or not data.exists() else f"; {data} was made, and empty"
        raise type(stop)(f"nothing imported{made}") from None


@contextmanager
def _stops_until_called() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM work until what this yields is called."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def ignore() -> None:
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield ignore
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
