"""The codec from the shell: `python -m iso8583`.

Exit codes:

0    done
1    done, but a spec could not be converted whole
2    arguments or input that cannot be used, a broken message among them
74   a file or standard output failed
130  Ctrl-C
141  the reader of our output went away
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from iso8583.errors import DecodeError, SpecError
from iso8583.records import DECODERS, HEX_DIGITS, Record, read_records

if TYPE_CHECKING:
    from iso8583._codec import Codec, Message

__all__ = ["main"]

OK: Final = 0
NOT_SO: Final = 1
USAGE: Final = 2
INPUT_OUTPUT: Final = 74
INTERRUPTED: Final = 130
OUTPUT_CLOSED: Final = 141

PROGRAM: Final = "python -m iso8583"
DECODE: Final = "decode"
AUTO: Final = "auto"
BINARY: Final = "binary"
FORMS: Final = (*DECODERS, BINARY)
INPUT: Final = "hex, base64, a file or -"
WARNING: Final = "warning: card data in clear; keep it off disks, logs and tickets"
EXIT_CODES: Final = """\
exit codes:
  0 done; 1 a spec could not be converted whole; 2 arguments or input that cannot
  be used, a broken message among them; 74 a file failed; 130 Ctrl-C
"""


class CommandError(Exception):
    """What is said instead of a result: one line, and how to exit."""

    def __init__(self, text: str, exit_code: int = USAGE) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parsers()
    if not given and sys.stdin is not None and sys.stdin.isatty():
        parser.print_help()
        return USAGE
    if not given or given[0] not in (*commands, "-h", "--help"):
        given.insert(0, DECODE)
    try:
        parsed = parser.parse_args(given)
        exit_code: int = parsed.run(parsed)
        _flush()
    except CommandError as error:
        return _end(str(error), error.exit_code)
    except BrokenPipeError:
        return _end("", OUTPUT_CLOSED)
    except OSError as error:
        return _end(
            f"{error.filename or 'standard output'}: {error.strerror}", INPUT_OUTPUT
        )
    except KeyboardInterrupt:
        return _end("", INTERRUPTED)
    return exit_code


def _say(text: str) -> None:
    if sys.stdout is None:
        raise CommandError("standard output: closed", INPUT_OUTPUT)
    sys.stdout.write(f"{text}\n")


def _tell(text: str) -> None:
    """Of what went otherwise than asked; a closed standard error changes nothing."""
    if sys.stderr is not None:
        sys.stderr.write(f"iso8583: {' '.join(text.split())}\n")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _end(text: str, exit_code: int) -> int:
    if text:
        _tell(text)
    try:
        _flush()
    except OSError:
        # What it did not take would be tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return exit_code


def _parsers() -> tuple[argparse.ArgumentParser, list[str]]:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Reads ISO 8583 messages and specs. Without a command: decode.",
        epilog=f"examples:\n"
        f"  {PROGRAM} 08008220000000000000040000000000000011261300000000170001\n"
        f"  {PROGRAM} --spec iso87-binary messages.hex\n"
        f"  {PROGRAM} specs\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return subparsers.add_parser(
            name,
            help=summary,
            description=summary[:1].upper() + summary[1:] + ".",
            epilog=f"example:\n  {PROGRAM} {example}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    decode = add(
        DECODE,
        "show the fields of messages, card data masked",
        f"decode --spec visa-base1 message.bin\n  base64 message.bin | {PROGRAM}",
    )
    decode.set_defaults(run=_decode)
    decode.add_argument(
        "input",
        nargs="?",
        default="-",
        metavar="HEX|BASE64|FILE|-",
        help="a message, a file of them, or standard input (default); messages "
        "alone, with no length before them",
    )
    decode.add_argument(
        "--spec",
        default=AUTO,
        metavar="NAME",
        help="a shipped name or a file (default: the shipped one that reads every "
        "message whole and makes most sense of its fields)",
    )
    decode.add_argument(
        "--format",
        choices=(AUTO, *FORMS),
        default=AUTO,
        help="hex or base64, a message a line; binary, one message (default: what "
        "makes messages)",
    )
    decode.add_argument(
        "--unmasked", action="store_true", help="show card data in clear"
    )
    specs = add("specs", "list the specs that come with the package", "specs --json")
    specs.set_defaults(run=_specs)
    for one in (decode, specs):
        one.add_argument("--json", action="store_true", help="answer as JSON")
    convert = add(
        "convert",
        "write any spec that can be loaded as JSON of this package",
        "convert packager.xml -o acme.json",
    )
    convert.set_defaults(run=_convert)
    convert.add_argument("file", metavar="FILE", help="a file, or a shipped name")
    convert.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the file to write"
    )
    return parser, list(subparsers.choices)


class _Found(NamedTuple):
    """The input read in one form by the spec that fits it best."""

    form: str
    records: list[Record]
    codec: Codec
    score: float
    fault: str
    #: the other specs that read it whole
    others: list[str]


def _decode(arguments: argparse.Namespace) -> int:
    codecs = _codecs(arguments.spec)
    found = _read(arguments, codecs)
    if arguments.unmasked:
        _tell(WARNING)
    messages: list[tuple[str, Message | None, str]] = []
    for place, data in found.records:
        try:
            message = found.codec.decode(data, partial=True)
        except DecodeError as error:
            messages.append((place, None, str(error)))
            continue
        fault = "" if message.fault is None else str(message.fault)
        # By a spec that it is not of, a card number may be anything's value.
        is_shown = not fault or len(codecs) == 1 or arguments.unmasked
        messages.append((place, message if is_shown else None, fault))
    if arguments.json:
        _print_json(_plain(found, messages, arguments.unmasked))
    else:
        if len(codecs) > 1:
            _say(_reason(found))
        _show(messages, arguments.unmasked)
    faults = [f"{place}: {fault}" for place, _, fault in messages if fault]
    if faults:
        _flush()
        hint = " (--spec NAME shows what was read)" if len(codecs) > 1 else ""
        raise CommandError("; ".join(faults) + hint)
    return OK


def _codecs(name: str) -> list[Codec]:
    from iso8583._codec import Codec
    from iso8583.spec import load_spec, spec_names

    try:
        names = spec_names() if name == AUTO else [name]
        return [Codec(load_spec(one)) for one in names]
    except SpecError as error:
        raise CommandError(f"--spec: {error}") from None


def _read(arguments: argparse.Namespace, codecs: list[Codec]) -> _Found:
    """The first form in which a spec reads everything; if none does, the likeliest."""
    content, forms, nothing = _content(arguments.input)
    if arguments.format != AUTO:
        forms = (arguments.format,)
    tried, faults = [], []
    for form in forms:
        try:
            records = read_records(content, form)
        except ValueError as error:
            faults.append(f"{form}: {error}")
            continue
        if records:
            tried.append(_rank(form, records, codecs))
    whole = [one for one in tried if not one.fault]
    if nothing and not whole:
        raise CommandError(nothing)
    if not tried:
        raise CommandError(
            faults[0] if faults else "input: expected messages, got none"
        )
    return whole[0] if whole else max(tried, key=lambda one: one.score)


def _content(given: str) -> tuple[bytes, Sequence[str], str]:
    """The input, the forms that it may have, and what to say if it is no message."""
    if given == "-":
        if sys.stdin is None:
            raise CommandError("standard input: closed", INPUT_OUTPUT)
        return sys.stdin.buffer.read(), FORMS, ""
    if given and HEX_DIGITS.issuperset(given):
        return given.encode(), ("hex",), ""
    try:
        return Path(given).read_bytes(), FORMS, ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file's name"
    # It may be mistyped hex, with a card in it: it is not repeated.
    nothing = f"input: expected {INPUT}, got none of them ({reason.lower()})"
    return given.encode("utf-8", "replace"), ("hex", "base64"), nothing


def _rank(form: str, records: list[Record], codecs: list[Codec]) -> _Found:
    from iso8583.guess import rank

    best, *others = rank([one.data for one in records], codecs)
    names = (
        [] if best.fault else [one.codec.spec.name for one in others if not one.fault]
    )
    return _Found(form, records, best.codec, best.score, best.fault, names)


def _reason(found: _Found) -> str:
    parts = [f"{found.form}; spec {found.codec.spec.name}, guessed"]
    if found.fault:
        parts.append(f"but {found.fault}")
    elif found.others:
        parts.append(f"ambiguous: {', '.join(found.others)} would do as well")
    return "; ".join(parts)


def _show(messages: list[tuple[str, Message | None, str]], unmasked: bool) -> None:
    from iso8583.describe import describe

    for place, message, _ in messages:
        if message is not None:
            if len(messages) > 1:
                _say(f"{place}:")
            _say(describe(message, unmasked=unmasked))


def _plain(
    found: _Found, messages: list[tuple[str, Message | None, str]], unmasked: bool
) -> dict[str, object]:
    from iso8583.describe import message_plain

    plains = []
    for place, message, fault in messages:
        plain: dict[str, object] = {"place": place}
        if fault:
            plain["error"] = fault
        if message is not None:
            plain |= message_plain(message, unmasked=unmasked)
        plains.append(plain)
    return {
        "format": found.form,
        "spec": found.codec.spec.name,
        "ambiguous": found.others,
        "messages": plains,
    }


def _specs(arguments: argparse.Namespace) -> int:
    from iso8583.spec import load_spec, spec_names

    names = spec_names()
    described = {name: load_spec(name).description for name in names}
    if arguments.json:
        _print_json(
            [{"name": name, "description": text} for name, text in described.items()]
        )
    else:
        width = max(map(len, names))
        for name, text in described.items():
            _say(f"{name:<{width}}  {text}")
    return OK


def _convert(arguments: argparse.Namespace) -> int:
    from iso8583.spec import load_spec, save_spec

    left_out: list[str] = []
    try:
        spec = load_spec(arguments.file, left_out)
    except SpecError as error:
        raise CommandError(str(error)) from None
    save_spec(spec, arguments.output)
    for fault in left_out:
        _tell(f"left out: {fault}")
    _say(f"{arguments.output}: spec {spec.name}, {len(spec.fields)} fields")
    return NOT_SO if left_out else OK


def _print_json(value: object) -> None:
    is_for_people = sys.stdout is not None and sys.stdout.isatty()
    _say(json.dumps(value, indent=2 if is_for_people else None))
