"""`switch accounts import` and `switch cards import`: the same command twice."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, address, print_json
from switch.cli.remote import add_token, ask, path_of, upload
from switch.cli.settings import add_data_settings, load_settings

if TYPE_CHECKING:
    from switch.config import Config
    from switch.rows import ImportRefused

# of a file full of mistakes; the rest is counted
PROBLEMS_SHOWN_MAX: Final = 20
CHUNK_BYTES: Final = 1 << 16


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
        summary=f"import {what} from a file, or nothing if a row is bad; daemon "
        "stopped, or with --http running; into a cluster either way",
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
        help="import into the daemon that serves HTTP here",
    )
    add_token(parser)
    parser.add_argument("--reason", metavar="TEXT", help="why; needed with --http")
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help=f"pass over {what} that are there already: goes on with an import that "
        "was broken off",
    )
    add_json(parser)
    return actions


def run(arguments: argparse.Namespace) -> int:
    if arguments.http:
        count, existing = _into_daemon(arguments)
    else:
        config = load_settings(arguments).config
        work = _into_cluster if config.cluster.name else _into_data
        count, existing = work(arguments, config)
    if arguments.json:
        print_json({"imported": count, "existing": existing})
    else:
        more = f", {existing:,} were there" if existing else ""
        print(f"{count:,} {arguments.what} imported{more}")
    return exits.OK


def _into_daemon(arguments: argparse.Namespace) -> tuple[int, int]:
    from switch.cli.progress import progress

    if not arguments.reason:
        raise exits.CommandError("--reason: expected why it is imported, got nothing")
    path = path_of("api", "imports", arguments.what)
    existing = "skip" if arguments.skip_existing else None
    query = {"reason": arguments.reason, "existing": existing}
    with (
        arguments.file.open("rb") as file,
        progress(f"import {arguments.what}", 1.0) as advance,
    ):
        size = max(arguments.file.stat().st_size, 1)

        def chunks() -> Iterator[bytes]:
            # As fast as the daemon checks them: half of the work.
            sent = 0
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
                sent += len(chunk)
                advance(min(sent / size, 1.0) / 2, "checking")

        def waiting() -> None:
            last = None
            with suppress(exits.CommandError):
                last = ask(arguments, "GET", "/api/imports")["last"]
            if last is not None and last["state"] == "writing":
                rows = max(last["rows"] - last["existing"], 1)
                advance((1 + last["imported"] / rows) / 2, "writing")

        answer = upload(arguments, path, query, chunks(), waiting)
    return answer["imported"], answer["existing"]


def _into_cluster(arguments: argparse.Namespace, config: "Config") -> tuple[int, int]:
    from switch.cli.progress import progress
    from switch.cluster_imports import import_into_cluster
    from switch.rows import ImportRefused

    try:
        with progress(f"import {arguments.what}", 1.0) as advance:
            return import_into_cluster(
                config,
                arguments.what,
                arguments.file,
                advance,
                skip_existing=arguments.skip_existing,
            )
    except ImportRefused as error:
        raise _refused(arguments.file, error) from error


def _refused(file: Path, error: "ImportRefused") -> exits.CommandError:
    for problem in error.problems[:PROBLEMS_SHOWN_MAX]:
        print(f"{file}: {problem}", file=sys.stderr)
    return exits.CommandError(f"{file}: nothing imported: {error}")


def _into_data(arguments: argparse.Namespace, config: "Config") -> tuple[int, int]:
    from switch import imports
    from switch.cli.progress import progress
    from switch.rows import ImportRefused

    data = Path(config.data_directory)
    was_there = data.exists()
    work = {"accounts": imports.import_accounts, "cards": imports.import_cards}
    try:
        with (
            _stops_until_called() as committing,
            progress(f"import {arguments.what}", 1.0) as advance,
        ):
            return work[arguments.what](
                config,
                arguments.file,
                advance,
                committing,
                skip_existing=arguments.skip_existing,
            )
    except ImportRefused as error:
        raise _refused(arguments.file, error) from error
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
