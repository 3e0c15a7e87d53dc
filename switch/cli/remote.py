"""Asking a running daemon over HTTP, with a token."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, address, print_json

if TYPE_CHECKING:
    from http.client import HTTPConnection

HTTP_DEFAULT: Final = "127.0.0.1:8580"
TOKEN_VARIABLE: Final = "SWITCH_TOKEN"
TIMEOUT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.5
TOKEN_FILE_BYTES_MAX: Final = 4096
PROBLEMS_SHOWN_MAX: Final = 20

# Names and values of what was answered, in the order of the answer.
Show = Callable[[Any], None]


def add_remote_command(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    example: str,
    changes: bool = False,
    once: bool = False,
) -> argparse.ArgumentParser:
    parser = add_command(subparsers, name, run, summary=summary, example=example)
    parser.add_argument(
        "--http",
        type=address,
        default=HTTP_DEFAULT,
        metavar="HOST:PORT",
        help="where the daemon serves HTTP (default %(default)s)",
    )
    add_token(parser)
    if changes:
        parser.add_argument(
            "--reason", required=True, metavar="TEXT", help="why; kept in the journal"
        )
    if once:
        parser.add_argument(
            "--key",
            metavar="KEY",
            help="of a command whose answer was lost: it is done once, and answered "
            "again (default: a new key)",
        )
    add_json(parser)
    return parser


def add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"a file with your token (default: the variable {TOKEN_VARIABLE})",
    )


def path_of(*names: str) -> str:
    return "/" + "/".join(quote(name, safe="") for name in names)


def ask(
    arguments: argparse.Namespace,
    method: str,
    path: str,
    *,
    query: Mapping[str, object] | None = None,
    body: Mapping[str, object] | None = None,
) -> Any:
    """The answer, decoded. Raises CommandError with what the daemon says otherwise."""
    headers = _headers(arguments)
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps({k: v for k, v in body.items() if v is not None}).encode()

    def act(connection: "HTTPConnection") -> None:
        connection.request(method, _with_query(path, query), data, headers)

    return _exchange(arguments, act)


def ask_once(
    arguments: argparse.Namespace, path: str, body: Mapping[str, object]
) -> Any:
    """As `ask`, with a key, so that it can be asked again."""
    import uuid

    key = arguments.key or str(uuid.uuid4())
    headers = _headers(arguments)
    headers |= {"Content-Type": "application/json", "Idempotency-Key": f'"{key}"'}

    def act(connection: "HTTPConnection") -> None:
        connection.request("POST", path, json.dumps(body).encode(), headers)

    return _exchange(
        arguments,
        act,
        lost=f"whether it was done is not known: the same again with --key {key}",
    )


def upload(
    arguments: argparse.Namespace,
    path: str,
    query: Mapping[str, object],
    chunks: Iterable[bytes],
    waiting: Callable[[], None],
) -> Any:
    """As `ask`, with a body that is sent as it is read. `waiting` is called now and
    then until the answer comes."""
    import select

    headers = _headers(arguments)
    headers |= {"Content-Type": "text/csv", "Transfer-Encoding": "chunked"}

    def act(connection: "HTTPConnection") -> None:
        # Refused before its end: the answer says why.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                "POST",
                _with_query(path, query),
                chunks,
                headers,
                encode_chunked=True,
            )
        while not select.select([connection.sock], [], [], POLL_SECONDS)[0]:
            waiting()

    return _exchange(
        arguments,
        act,
        lost="how much was imported is not known: the same again with --skip-existing "
        "goes on there",
    )


def _with_query(path: str, query: Mapping[str, object] | None) -> str:
    wanted = {k: v for k, v in (query or {}).items() if v is not None}
    return path + ("?" + urlencode(wanted) if wanted else "")


def _headers(arguments: argparse.Namespace) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if token := _token(arguments.token_file):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _exchange(
    arguments: argparse.Namespace,
    act: "Callable[[HTTPConnection], None]",
    *,
    lost: str = "",
) -> Any:
    """`lost` is said when the connection ends before the answer."""
    import http.client

    where = arguments.http
    connection = http.client.HTTPConnection(
        where.host, where.port, timeout=TIMEOUT_SECONDS
    )
    is_sent = False
    try:
        connection.connect()
        is_sent = True
        act(connection)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        more = f": {lost}" if lost and is_sent else ""
        raise exits.CommandError(
            f"{where}: {reason}{more}", exits.INPUT_OUTPUT
        ) from error
    finally:
        connection.close()
    return _decoded(f"{where}", response.status, text)


def _decoded(where: str, status: int, text: bytes) -> Any:
    try:
        answer = json.loads(text)
        if status < 400:
            return answer
        problem = answer["error"]
        message = problem["message"]
    except (ValueError, LookupError, TypeError):
        raise exits.CommandError(
            f"{where}: expected an answer of the switch, got something else (status "
            f"{status})",
            exits.INPUT_OUTPUT,
        ) from None
    for line in problem.get("problems", [])[:PROBLEMS_SHOWN_MAX]:
        print(line, file=sys.stderr)
    raise exits.CommandError(message, exits.INPUT_OUTPUT if status >= 500 else 2)


def _token(file: Path | None) -> str:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    with file.open("rb") as opened:
        token = opened.read(TOKEN_FILE_BYTES_MAX).decode("ascii", "replace").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise exits.CommandError(f"--token-file: expected a token in {file}, got none")
    return token


def show(arguments: argparse.Namespace, answer: Any) -> int:
    """One thing: a line for each of its values."""
    if arguments.json:
        print_json(answer)
        return exits.OK
    width = max(map(len, answer), default=0)
    for name, value in answer.items():
        print(f"{name:{width}}  {'' if value is None else value}")
    return exits.OK


def show_rows(
    arguments: argparse.Namespace, answer: Any, rows: str, columns: tuple[str, ...]
) -> int:
    """Several: a line for each, and how to ask for the next page."""
    if arguments.json:
        print_json(answer)
        return exits.OK
    table = [columns] + [
        tuple("" if row[name] is None else str(row[name]) for name in columns)
        for row in answer[rows]
    ]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    if answer["cursor"] is not None:
        print(f"more: --cursor {answer['cursor']}", file=sys.stderr)
    return exits.OK
