"""`switch decode`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_command,
    add_inclusive,
    add_json,
    add_spec,
    load_codec,
    make_framing,
    print_json,
)

if TYPE_CHECKING:
    import iso8583
    from switch.replay.captures import Chunk

AUTO: Final = "auto"
NONE: Final = "none"
# what captures mostly have, tried when the bytes are no message by themselves
AUTO_FRAMING: Final = "binary2"


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "decode",
        run,
        summary="show the fields of messages, card data masked",
        example="switch decode --spec mastercard-cis capture.hex",
    )
    parser.add_argument(
        "input",
        nargs="?",
        default="-",
        metavar="HEX|FILE|-",
        help="a message in hex, a file with one a line, or standard input (default)",
    )
    add_spec(parser)
    parser.add_argument(
        "--framing",
        default=AUTO,
        metavar="NAME",
        help="length header before each message: binary2, binary4, ascii4, bcd2, none "
        "or auto (default: none, or binary2 where that fits)",
    )
    add_inclusive(parser)
    parser.add_argument(
        "--unmasked", action="store_true", help="show card data in clear"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    import iso8583
    from switch.replay.errors import CaptureError

    codec = load_codec(arguments.spec)
    shown: list[dict[str, object]] = []
    faults: list[str] = []
    try:
        for frame in _frames(arguments.input):
            message: iso8583.Message | None
            try:
                message, fault = _decode(codec, frame, arguments), ""
            except iso8583.DecodeError as error:
                message, fault = error.message, str(error)
                faults.append(f"{frame.place}: {error}")
            if arguments.json:
                shown.append(_plain(frame.place, message, fault, arguments.unmasked))
            elif message is not None:
                _print(message, unmasked=arguments.unmasked)
    except CaptureError as error:
        raise exits.CommandError(str(error)) from error
    if arguments.json:
        print_json({"messages": shown})
    if faults:
        sys.stdout.flush()
        raise exits.CommandError("; ".join(faults))
    return exits.OK


def _frames(given: str) -> "Iterator[Chunk]":
    from switch.replay.captures.text import HEX_DIGITS, parse_lines

    if given == "-":
        yield from parse_lines(sys.stdin, "standard input")
    elif HEX_DIGITS.issuperset(given):
        yield from parse_lines([given], "message")
    else:
        # the argument may be mistyped hex, with a card in it: it isn't repeated
        try:
            lines = Path(given).read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise exits.CommandError(
                "input: expected hex digits, a file or -, got neither "
                f"({(error.strerror or str(error)).lower()})"
            ) from None
        yield from parse_lines(lines, given)


def _decode(
    codec: "iso8583.Codec", frame: "Chunk", arguments: argparse.Namespace
) -> "iso8583.Message":
    import iso8583
    from switch.replay.captures.cutting import cut_header
    from switch.replay.errors import CaptureError

    name = arguments.framing
    if name == NONE:
        return codec.decode(frame.data)
    framing = make_framing(AUTO_FRAMING if name == AUTO else name, arguments.inclusive)
    body = cut_header(frame.data, framing)
    if name == AUTO:
        try:
            return codec.decode(frame.data)
        except iso8583.DecodeError:
            if body is None:
                raise
    if body is None:
        raise CaptureError(
            f"{frame.place}: expected one whole {name} frame, got "
            f"{len(frame.data)} bytes"
        )
    return codec.decode(body)


def _plain(
    place: str, message: "iso8583.Message | None", fault: str, unmasked: bool
) -> dict[str, object]:
    from iso8583.describe import masked

    plain: dict[str, object] = {"place": place}
    if fault:
        plain["error"] = fault
    if message is None:
        return plain
    specified = message.codec.spec.fields
    shown = masked(message, unmasked=unmasked)
    plain["mti"] = shown.pop("mti")
    plain["fields"] = {
        str(number): {"name": specified[int(number)].name, "value": value}
        for number, value in shown.items()
    }
    return plain


def _print(message: "iso8583.Message", *, unmasked: bool) -> None:
    import iso8583

    text = iso8583.describe(message, unmasked=unmasked)
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    head, *fields = text.splitlines()
    tree = Tree(Text(head, style="bold"), guide_style="dim")
    for line in fields:
        name, _, value = line.partition(": ")
        tree.add(Text.assemble((f"{name}: ", "cyan"), value))
    Console(highlight=False).print(tree)
