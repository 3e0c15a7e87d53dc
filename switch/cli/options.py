"""What several commands have in common: argument types, help, output."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from switch.cli import exits

if TYPE_CHECKING:
    import iso8583
    from switch.link._framing import Framing
    from switch.link.settings import Address
    from switch.replay.request import Station

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]

SPEC_DEFAULT: Final = "iso87-ascii"
FRAMING_DEFAULT: Final = "binary2"


def add_command(
    subparsers: Subparsers, name: str, run: Run, *, summary: str, example: str
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spec",
        default=SPEC_DEFAULT,
        metavar="NAME",
        help="message specification: a shipped name or a file (default %(default)s)",
    )


def add_framing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--framing",
        default=FRAMING_DEFAULT,
        metavar="NAME",
        help="binary2, binary4, ascii4 or bcd2 (default %(default)s)",
    )
    add_inclusive(parser)


def add_inclusive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inclusive", action="store_true", help="frame lengths count the header too"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        type=address,
        required=True,
        metavar="HOST:PORT",
        help="where the switch listens",
    )


def add_answers(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument(
        "--timeout",
        type=number_above(0),
        default=5.0,
        metavar="S",
        help="how long to wait for an answer (default %(default)g)",
    )
    parser.add_argument("--sign-on", action="store_true", help="sign on (0800) first")


def address(text: str) -> "Address":
    from switch.link.settings import Address

    try:
        return Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count_in(low: int, high: int) -> Callable[[str], int]:
    """A whole number argument between `low` and `high`, both included."""

    def count(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {low} to {high}, got {text!r}"
            )
        return value

    return count


def number_above(low: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low < value < float("inf"):
            raise argparse.ArgumentTypeError(
                f"expected a number above {low:g}, got {text!r}"
            )
        return value

    return number


def load_codec(name: str) -> "iso8583.Codec":
    import iso8583

    try:
        return iso8583.Codec(iso8583.load_spec(name))
    except ValueError as error:
        raise exits.CommandError(f"--spec: {error}") from error


def load_station(
    name: str, codec: "iso8583.Codec", header: "dict[str, str] | None" = None
) -> "Station":
    """How this scheme asks for a sign-on and the like."""
    import iso8583
    from switch.replay.request import Station

    try:
        dialect = iso8583.load_dialect(name, codec.spec)
    except ValueError as error:
        raise exits.CommandError(f"--spec: {error}") from error
    return Station(dialect.network, header or {})


def make_framing(name: str, inclusive: bool) -> "Framing":
    from switch.link._framing import Framing

    try:
        return Framing(name, inclusive)
    except ValueError as error:
        raise exits.CommandError(f"--{error}") from error


def print_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")


def print_figures(rows: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
