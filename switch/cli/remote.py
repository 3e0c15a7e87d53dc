"""Asking a running daemon over HTTP, with a token."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, address, print_json

HTTP_DEFAULT: Final = "127.0.0.1:8580"
TOKEN_VARIABLE: Final = "SWITCH_TOKEN"
TIMEOUT_SECONDS: Final = 60.0
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
    csv: bytes | None = None,
) -> Any:
    """The answer, decoded. Raises CommandError with what the daemon says otherwise."""
    import http.client

    where = arguments.http
    wanted = {k: v for k, v in (query or {}).items() if v is not None}
    headers = {"Accept": "application/json"}
    if token := _token(arguments.token_file):
        headers["Authorization"] = f"Bearer {token}"
    data = csv
    if csv is not None:
        headers["Content-Type"] = "text/csv"
    elif body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps({k: v for k, v in body.items() if v is not None}).encode()
    connection = http.client.HTTPConnection(
        where.host, where.port, timeout=TIMEOUT_SECONDS
    )
    try:
        connection.request(
            method, path + ("?" + urlencode(wanted) if wanted else ""), data, headers
        )
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise exits.CommandError(f"{where}: {reason}", exits.INPUT_OUTPUT) from error
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
