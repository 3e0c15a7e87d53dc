"""`switch decode`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_command,
    add_inclusive,
    add_json,
    load_codec,
    make_framing,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import iso8583
    from switch.link._framing import Framing
    from switch.link.guess import Candidate, Guess
    from switch.replay.inputs import Reading

AUTO: Final = "auto"
NONE: Final = "none"
FORMS: Final = ("hex", "base64", "binary", "pcap", "pcapng", "jpos")
WARNING: Final = "warning: card data in clear; keep it off disks, logs and tickets"
HINT: Final = " (--spec NAME with --framing NAME shows what was read)"


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "decode",
        run,
        summary="show the fields of messages, card data masked",
        example="switch decode capture.hex\n"
        "  switch decode --spec mastercard-cis --framing binary2 capture.hex",
    )
    parser.add_argument(
        "input",
        nargs="?",
        default="-",
        metavar="HEX|BASE64|FILE|-",
        help="a message, a file of them, or standard input (default)",
    )
    parser.add_argument(
        "--format",
        choices=(AUTO, *FORMS),
        default=AUTO,
        help="how the input is written: hex or base64, a record a line; binary, the "
        "bytes themselves; a network capture, or a log of jPOS (default: what makes "
        "messages)",
    )
    parser.add_argument(
        "--spec",
        default=AUTO,
        metavar="NAME",
        help="message specification: a shipped name or a file (default: guessed)",
    )
    parser.add_argument(
        "--framing",
        default=AUTO,
        metavar="NAME",
        help="length header before each message: binary2, binary4, ascii4, bcd2 or "
        "none (default: guessed)",
    )
    add_inclusive(parser)
    parser.add_argument(
        "--unmasked", action="store_true", help="show card data in clear"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from switch.replay.errors import CaptureError

    codecs, framings = _codecs(arguments.spec), _framings(arguments)
    try:
        found, reason = _readings(arguments, codecs[0])
        reading, guess = _choose(found, codecs, framings)
    except CaptureError as error:
        raise exits.CommandError(str(error)) from error
    if reason and not guess.best.whole:
        raise exits.CommandError(reason)
    if arguments.unmasked:
        print(f"switch: {WARNING}", file=sys.stderr)
    guessed = len(codecs) > 1 or len(framings) > 1
    decoded = list(_decode(reading, guess.best))
    guessed = guessed and any(one.message is not None for one in decoded)
    if not (guess.is_told or arguments.unmasked):
        # read as what it is not, a card number may be anything's value
        decoded = [one._replace(message=None) if one.fault else one for one in decoded]
    if arguments.json:
        print_json(_plain(reading, guess, decoded, arguments.unmasked))
    else:
        _print(reading, guess if guessed else None, decoded, arguments.unmasked)
    faults = [f"{one.place}: {one.fault}" for one in decoded if one.fault]
    if faults:
        sys.stdout.flush()
        raise exits.CommandError("; ".join(faults) + ("" if guess.is_told else HINT))
    return exits.OK


class Decoded(NamedTuple):
    """One message of the input, as far as it could be read."""

    place: str
    message: "iso8583.Message | None"
    fault: str


def _codecs(name: str) -> "list[iso8583.Codec]":
    from iso8583.guess import shipped_specs

    names = shipped_specs() if name == AUTO else [name]
    return [load_codec(one) for one in names]


def _framings(arguments: argparse.Namespace) -> "Sequence[Framing | None]":
    from switch.link.guess import all_framings

    if arguments.framing == NONE:
        return [None]
    if arguments.framing != AUTO:
        return [make_framing(arguments.framing, arguments.inclusive)]
    return [
        framing
        for framing in all_framings()
        if framing is None or framing.inclusive or not arguments.inclusive
    ]


def _readings(
    arguments: argparse.Namespace, codec: "iso8583.Codec"
) -> "tuple[list[Reading], str]":
    """And what to say if it makes no message: the argument may be anything then."""
    from iso8583.records import HEX_DIGITS
    from switch.replay.captures.text import BASE64, HEX
    from switch.replay.inputs import readings

    given: str = arguments.input
    form = None if arguments.format == AUTO else arguments.format
    if given == "-":
        return readings(sys.stdin.buffer.read(), "standard input", codec, form), ""
    if HEX_DIGITS.issuperset(given):
        return readings(given.encode(), "message", codec, form or HEX.name), ""
    try:
        return readings(Path(given).read_bytes(), given, codec, form), ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    # it may be mistyped hex, with a card in it: it isn't repeated
    nothing = (
        f"input: expected hex, base64, a file or -, got none of them ({reason.lower()})"
    )
    data = given.encode("utf-8", "replace")
    found = readings(data, "message", codec, form or BASE64.name)
    if found[0].fault:
        raise exits.CommandError(nothing)
    # many a misspelt file name is good base64, and means nothing
    return found, nothing


def _choose(
    found: "list[Reading]",
    codecs: "Sequence[iso8583.Codec]",
    framings: "Sequence[Framing | None]",
) -> "tuple[Reading, Guess]":
    """The reading that makes messages; if none does, the likeliest."""
    from switch.link.errors import NoFramesError
    from switch.link.guess import guess
    from switch.replay.errors import CaptureError

    made: list[tuple[Reading, Guess]] = []
    faults = []
    for reading in found:
        if reading.fault:
            faults.append(reading.fault)
            continue
        try:
            guessed = guess(
                reading.records,
                codecs[:1] if reading.is_bare else codecs,
                [None] if reading.is_bare else _framings_of(reading, framings),
                is_torn=reading.is_torn,
            )
        except NoFramesError as error:
            faults.append(f"{reading.form}: {error}")
            continue
        if guessed.best.whole:
            return reading, guessed
        made.append((reading, guessed))
    if found[0].fault or not made:
        raise CaptureError(faults[0])
    return max(made, key=lambda pair: pair[1].best.score)


def _framings_of(
    reading: "Reading", framings: "Sequence[Framing | None]"
) -> "list[Framing | None]":
    """A stream has headers: nothing else says where its messages end."""
    return [one for one in framings if one is not None or not reading.is_torn]


def _decode(reading: "Reading", best: "Candidate") -> "Iterator[Decoded]":
    import iso8583

    for frame in reading.frames(best.framing):
        if not frame.body:
            fault = f"expected whole {best.framing_name} frames, got other bytes"
            yield Decoded(frame.place, None, fault)
            continue
        try:
            yield Decoded(frame.place, best.codec.decode(frame.body), "")
        except iso8583.DecodeError as error:
            yield Decoded(frame.place, error.message, str(error))


def _plain(
    reading: "Reading", guess: "Guess", decoded: list[Decoded], unmasked: bool
) -> dict[str, object]:
    from iso8583.describe import message_plain

    messages: list[dict[str, object]] = []
    for one in decoded:
        plain: dict[str, object] = {"place": one.place}
        if one.fault:
            plain["error"] = one.fault
        if one.message is not None:
            plain |= message_plain(one.message, unmasked=unmasked)
        messages.append(plain)
    return {
        "format": reading.form,
        "framing": guess.best.framing_name,
        "spec": guess.best.spec,
        "why": guess.why(),
        "ambiguous": [
            {"framing": other.framing_name, "spec": other.spec}
            for other in guess.ambiguous
        ],
        "messages": messages,
        "notes": dict(reading.capture.notes) if reading.capture else {},
    }


def _print(
    reading: "Reading",
    guess: "Guess | None",
    decoded: list[Decoded],
    unmasked: bool,
) -> None:
    from switch.cli.tree import print_message

    if guess is not None:
        print(f"{reading.form}; {guess.why()}")
    shown = [one for one in decoded if one.message is not None]
    for one in shown:
        assert one.message is not None
        title = one.place if len(shown) > 1 else ""
        print_message(one.message, unmasked=unmasked, title=title)
    if reading.capture is not None:
        for note, count in reading.capture.notes.items():
            print(f"{note}: {count}", file=sys.stderr)
