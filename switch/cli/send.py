"""`switch send`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from switch.cli import exits
from switch.cli.options import (
    Subparsers,
    add_answers,
    add_command,
    add_framing,
    add_json,
    add_spec,
    add_target,
    load_codec,
    load_station,
    make_framing,
    print_json,
)

if TYPE_CHECKING:
    import iso8583
    from switch.replay.client import Answer
    from switch.replay.compose import Composer, Fields
    from switch.replay.request import Station

FILE_MARK: Final = "@"
# a value, or a template: nobody types more
FILE_SIZE_MAX: Final = 1 << 20

NOTES: Final = """
fields:
  mti=0100 and NUMBER=VALUE. Values that are too short are filled up: 4=1500 is
  000000001500, and 49=EUR is 978. Made unless they are given: 7, 11, 12, 13 and 37;
  NUMBER= leaves a field out.

cards:
  Use test cards. A shell keeps what is typed in its history, and other users see it in
  the list of processes: 2=@FILE reads the value from the first line of a file.
"""


def add(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "send",
        run,
        summary="send one message and show its answer",
        example="switch send --to 127.0.0.1:8583 mti=0100 2=@card.txt 3=000000 4=1500 "
        "32=123456 49=EUR --expect 39=00",
    )
    parser.epilog = f"{parser.epilog}\n{NOTES}"
    parser.usage = "%(prog)s --to HOST:PORT [options] FIELD=VALUE ..."
    _take_fields_anywhere(parser)
    add_target(parser)
    parser.add_argument(
        "--template",
        type=Path,
        metavar="FILE",
        help="fields from a file (JSON or TOML: a table of FIELD = VALUE); those on "
        "the command line win",
    )
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="what the answer must have, or the exit code is 1: a value, 00|10 for "
        "several, >1000, 10..20, 99* as in file names, * for any, nothing for none",
    )
    add_answers(parser)
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="PART=HEX",
        help="a part of the message header, where the specification has one: "
        "source=123456",
    )
    add_spec(parser)
    add_framing(parser)
    add_json(parser)


def _take_fields_anywhere(parser: argparse.ArgumentParser) -> None:
    """argparse takes positional arguments in one place only, and quotes those of
    another in its error: a card number may be among them."""
    parse = parser.parse_known_args

    def parse_known_args(
        args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        known, rest = parse(args, namespace)
        known.fields = [word for word in rest if not word.startswith("-")]
        return known, [word for word in rest if word.startswith("-")]

    parser.parse_known_args = parse_known_args  # type: ignore[method-assign,assignment]


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from switch.ledger.currencies import NUMBERS
    from switch.replay.client import is_request, reject_text
    from switch.replay.compose import Composer
    from switch.replay.errors import RequestError, SessionError

    codec = load_codec(arguments.spec)
    header = _header(arguments.header)
    composer = Composer(codec, NUMBERS, header=header)
    try:
        expected = _pairs(arguments.expect, "--expect")
        composer.check(expected)
        message = composer.compose(_given(arguments))
    except RequestError as error:
        raise exits.CommandError(str(error)) from error
    if not is_request(message.mti):
        raise exits.CommandError(
            f"mti: expected a request or an advice, which somebody answers (third "
            f"digit 0, 2 or 4), got {message.mti}"
        )
    try:
        station = load_station(arguments.spec, codec, header)
        answer = asyncio.run(_ask(arguments, message, station))
    except SessionError as error:
        raise exits.CommandError(str(error), exits.INPUT_OUTPUT) from error
    differences = [] if answer is None else _compare(composer, expected, answer)
    if answer is not None and answer.message.rejected:
        differences.insert(0, reject_text(answer.message))
    if arguments.json:
        print_json(_plain(message, answer, differences))
    else:
        _print(message, answer, differences, arguments.timeout)
    return exits.OK if answer is not None and not differences else exits.NOT_SO


async def _ask(
    arguments: argparse.Namespace, message: "iso8583.Message", station: "Station"
) -> "Answer | None":
    from switch.replay.client import Client

    to, framing = arguments.to, make_framing(arguments.framing, arguments.inclusive)
    client = Client(to.host, to.port, message.codec, framing, station=station)
    async with client:
        if arguments.sign_on:
            await client.sign_on()
        return await client.ask(message.encode(), message, arguments.timeout)


def _header(given: list[str]) -> dict[str, str]:
    parts = dict(text.partition("=")[::2] for text in given)
    if not all(parts.values()):
        raise exits.CommandError("--header: expected PART=HEX, got one without a value")
    return parts


def _given(arguments: argparse.Namespace) -> "Fields":
    template = {} if arguments.template is None else _template(arguments.template)
    pairs = _pairs(arguments.fields, "field")
    return template | {
        name: _from_file(value) if value.startswith(FILE_MARK) else value
        for name, value in pairs.items()
    }


def _pairs(given: list[str], what: str) -> "Fields":
    from switch.replay.compose import field_name

    pairs: Fields = {}
    for position, text in enumerate(given, start=1):
        name, equals, value = text.partition("=")
        if not equals:
            # it isn't repeated: it may be a card number
            raise exits.CommandError(
                f"{what} {position}: expected FIELD=VALUE, got {len(text)} characters "
                "without ="
            )
        pairs[field_name(name)] = value
    return pairs


def _from_file(value: str) -> str:
    lines = _read(Path(value.removeprefix(FILE_MARK))).splitlines()
    return lines[0].strip() if lines else ""


def _template(path: Path) -> "Fields":
    import msgspec

    from switch.replay.compose import field_names

    text = _read(path)
    decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
    try:
        return field_names(decode(text, type=dict[str, str | int]))
    except msgspec.MsgspecError as error:
        raise exits.CommandError(f"{path}: {error}") from None


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(FILE_SIZE_MAX + 1)
    except UnicodeDecodeError:
        raise exits.CommandError(f"{path}: expected UTF-8 text") from None
    if len(text) > FILE_SIZE_MAX:
        raise exits.CommandError(f"{path}: expected at most {FILE_SIZE_MAX} characters")
    return text


def _compare(composer: "Composer", expected: "Fields", answer: "Answer") -> list[str]:
    from switch.replay.expect import compare

    return [str(one) for one in compare(composer, expected, answer.message)]


def _plain(
    message: "iso8583.Message",
    answer: "Answer | None",
    differences: list[str],
) -> dict[str, object]:
    from iso8583.describe import message_plain

    plain: dict[str, object] = {
        "answered": answer is not None,
        "request": message_plain(message),
    }
    if answer is not None:
        plain["answer"] = message_plain(answer.message)
        plain["time_ms"] = round(answer.elapsed_ms, 3)
    return plain | {"differences": differences}


def _print(
    message: "iso8583.Message",
    answer: "Answer | None",
    differences: list[str],
    timeout_s: float,
) -> None:
    from switch.cli.tree import print_message
    from switch.replay.response import response_text

    print_message(message)
    print()
    if answer is None:
        print(f"no answer within {timeout_s:g} s")
        return
    print_message(answer.message)
    code = answer.message.get(39, "")
    said = f"{code} {response_text(code)}" if code else "no field 39"
    print(f"\n{said}, after {answer.elapsed_ms:.2f} ms")
    for one in differences:
        print(one)
