"""The operations over HTTP: who asks, what is asked for, and the answer as JSON.

Rule 1: nothing but the account of this machine's own requests is shown, and nothing
        changed, without a token whose role may.
Rule 2: no token, card number or body is in a log or an answer.
Rule 3: a body is read up to its bound, and within BODY_SECONDS_MAX; one of an import
        as it is taken, with no longer pause than that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar, get_args

import msgspec
from aiohttp import web

from switch.admin import types
from switch.admin.cluster import ClusterDesk, NoSearch
from switch.admin.desk import Desk
from switch.admin.errors import STATUS_OF, AdminError, ImportBad
from switch.admin.imports import Imports
from switch.admin.operations import (
    BODY_BYTES_MAX,
    CSV,
    JSON,
    KEY_HEADER,
    OPERATIONS,
    Operation,
    openapi,
)
from switch.admin.search import Search
from switch.admin.tokens import Caller, TokenFile, TokensError
from switch.journal.port import JournalError
from switch.keys.port import PAN_DIGITS_MAX, PAN_DIGITS_MIN
from switch.ledger import ChangeRefused
from switch.observe.http import error_response, is_from_this_machine, json_response
from switch.observe.log import event, mask_digits
from switch.shard._group import OverCapacity

_log = logging.getLogger("switch.admin")

BODY_SECONDS_MAX: Final = 30.0
# Nobody, for what is open: this machine.
LOCAL: Final = Caller("", "viewer")
# The parameters of queries that are numbers, and no bound of theirs has more digits.
NUMBERS: Final = {"limit", "amount"}
NUMBER_DIGITS_MAX: Final = 18

Kind = TypeVar("Kind", bound=msgspec.Struct)
Handler = Callable[[web.Request, Caller], Awaitable[Any]]


class Admin:
    def __init__(
        self,
        desk: Desk | ClusterDesk,
        importer: Imports,
        search: Search | NoSearch,
        tokens: TokenFile,
        version: str,
    ) -> None:
        self._desk = desk
        self._importer = importer
        self._search = search
        self._tokens = tokens
        self._document = openapi(version)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route(operation.method, operation.path, self._answering(operation))
            for operation in OPERATIONS
        ]

    def _answering(
        self, operation: Operation
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        handler: Handler = getattr(self, "_" + operation.name)

        async def answer(request: web.Request) -> web.Response:
            try:
                caller = self._caller(request, operation)
                result = await handler(request, caller)
            except ImportBad as error:
                return error_response(
                    error.status, str(error),
                    problems=error.problems, count=error.count,
                )  # fmt: skip
            except AdminError as error:
                return error_response(error.status, mask_digits(str(error)))
            except ChangeRefused as error:
                return error_response(STATUS_OF[error.why], mask_digits(str(error)))
            except OverCapacity as error:
                return error_response(503, str(error))
            except JournalError:
                return error_response(503, "the journal cannot be written")
            if operation.method != "GET":
                event(
                    _log, logging.INFO, "changed",
                    operation=operation.name, operator=caller.name,
                )  # fmt: skip
            return json_response(msgspec.to_builtins(result), operation.status)

        return answer

    # -- who asks

    def _caller(self, request: web.Request, operation: Operation) -> Caller:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token and operation.is_open and is_from_this_machine(request):
            return LOCAL
        try:
            caller = self._tokens.find(token.strip())
        except TokensError as error:
            event(_log, logging.ERROR, "no token can be looked up", reason=error)
            raise AdminError(503, "the tokens cannot be read") from None
        if scheme.lower() != "bearer" or caller is None:
            event(_log, logging.WARNING, "refused: no valid token", peer=request.remote)
            raise AdminError(
                401, "expected a bearer token that is valid, got "
                + ("another" if token else "none"),
            )  # fmt: skip
        if not caller.may(operation.role):
            event(
                _log, logging.WARNING, "refused: not of the role", peer=request.remote,
                operator=caller.name, role=caller.role, operation=operation.name,
            )  # fmt: skip
            raise AdminError(
                403, f"expected a token of role {operation.role}, got {caller.role}"
            )
        return caller

    # -- the operations

    async def _list_accounts(self, request: web.Request, _caller: Caller) -> Any:
        return await self._search.accounts(_query(request, types.AccountsQuery))

    async def _open_account(self, request: web.Request, caller: Caller) -> Any:
        body = await _body(request, types.OpenAccount)
        return await self._desk.open_account(caller.name, body, _key(request))

    async def _get_account(self, request: web.Request, _caller: Caller) -> Any:
        return await self._desk.account(request.match_info["account"])

    async def _change_account(self, request: web.Request, caller: Caller) -> Any:
        body = await _body(request, types.ChangeAccount)
        name = request.match_info["account"]
        return await self._desk.change_account(caller.name, name, body)

    async def _adjust_balance(self, request: web.Request, caller: Caller) -> Any:
        body = await _body(request, types.AdjustBalance)
        name = request.match_info["account"]
        return await self._desk.adjust(caller.name, name, body, _key(request))

    async def _list_cards(self, request: web.Request, _caller: Caller) -> Any:
        return await self._search.cards(_query(request, types.CardsQuery))

    async def _issue_card(self, request: web.Request, caller: Caller) -> Any:
        body = await _body(request, types.IssueCard)
        return await self._desk.issue_card(caller.name, body, _key(request))

    async def _get_card(self, request: web.Request, _caller: Caller) -> Any:
        return await self._desk.card(_token(request))

    async def _change_card(self, request: web.Request, caller: Caller) -> Any:
        body = await _body(request, types.ChangeCard)
        return await self._desk.change_card(caller.name, _token(request), body)

    async def _search_transactions(self, request: web.Request, _caller: Caller) -> Any:
        return await self._search.transactions(_query(request, types.TransactionsQuery))

    async def _get_import(self, _request: web.Request, _caller: Caller) -> Any:
        return types.LastImport(self._importer.status)

    async def _import_accounts(self, request: web.Request, caller: Caller) -> Any:
        return await self._import(request, caller, "accounts")

    async def _import_cards(self, request: web.Request, caller: Caller) -> Any:
        return await self._import(request, caller, "cards")

    async def _import(
        self, request: web.Request, caller: Caller, what: types.Imports
    ) -> types.Imported:
        query = _query(request, types.ImportQuery)
        _expect_type(request, CSV)
        return await self._importer.run(what, caller.name, query, _chunks(request))

    async def _openapi(self, _request: web.Request, _caller: Caller) -> Any:
        return self._document


def _token(request: web.Request) -> str:
    token = request.match_info["token"]
    if len(token) != 32 or not set(token) <= set("0123456789abcdef"):
        raise AdminError(404, "expected the token of a card, got something else")
    return token


def _key(request: web.Request) -> str | None:
    # -- draft-ietf-httpapi-idempotency-key-header, 2.1: a string of structured fields,
    # which has quotes; many clients send none.
    sent = request.headers.getall(KEY_HEADER, [])
    if not sent:
        return None
    try:
        (text,) = sent
        return msgspec.convert(text, types.OperationKey).strip('"')
    except (ValueError, msgspec.ValidationError):
        raise AdminError(
            400,
            f"{KEY_HEADER}: expected one of 1 to 128 printable ASCII characters "
            "without blanks, quotes and backslashes, got something else",
        ) from None


def _query(request: web.Request, kind: type[Kind]) -> Kind:
    if len(request.query) != len(set(request.query)):
        raise AdminError(400, "query: expected each parameter once")
    try:
        return msgspec.convert(
            {name: _number(name, text) for name, text in request.query.items()}, kind
        )
    except msgspec.ValidationError as error:
        raise AdminError(400, f"query: {_without_values(error)}") from None


def _number(name: str, text: str) -> str | int:
    # Not all that Python takes for a number, nor numbers where a time is expected.
    is_number = text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX
    return int(text) if name in NUMBERS and is_number else text


async def _body(request: web.Request, kind: type[Kind]) -> Kind:
    data = await _data(request, JSON, BODY_BYTES_MAX)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise AdminError(422, f"body: {_without_values(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AdminError(400, "body: expected JSON, got something else") from None


async def _data(request: web.Request, content_type: str, size_max: int) -> bytes:
    _expect_type(request, content_type)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > size_max:
                    raise AdminError(
                        413, f"body: expected at most {size_max:,} bytes, got more"
                    )
    except TimeoutError:
        raise AdminError(
            408, f"body: expected all of it within {BODY_SECONDS_MAX:g} s"
        ) from None
    return bytes(data)


def _expect_type(request: web.Request, content_type: str) -> None:
    if request.content_type != content_type:
        raise AdminError(415, f"body: expected {content_type}, got another type")


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                chunk = await request.content.readany()
        except TimeoutError:
            raise AdminError(
                408, f"body: expected more of it within {BODY_SECONDS_MAX:g} s"
            ) from None
        if not chunk:
            return
        yield chunk


# Texts with a pattern, and what to say of it: nobody wants to read that.
_PATTERNS: Final = (
    (types.Stan, "six digits"),
    (types.Rrn, "1 to 12 printable characters"),
    (types.CardToken, "the token of a card, 32 hexadecimal digits"),
    (types.Currency, "three letters of ISO 4217"),
    (types.Expiry, "YYMM"),
    (types.AccountName, "printable ASCII that begins and ends with no blank"),
    (types.Pan, f"{PAN_DIGITS_MIN} to {PAN_DIGITS_MAX} digits"),
)
# What msgspec says of a value that it repeats, or says without saying what it expects.
_SAID_BETTER: Final = (
    *(
        (
            f"Expected `str` matching regex {meta.pattern!r}",
            f"expected {words}, got something else",
        )
        for kind, words in _PATTERNS
        for meta in get_args(kind)[1:]
    ),
    ("Invalid enum value", "expected one of its values, got another"),
    ("Invalid RFC3339", "expected an RFC 3339 time with a zone, got something else"),
    ("Object contains unknown field", "expected no field but its own, got another"),
    ("Object missing required field", "expected all that is required, got it without"),
)


def _without_values(error: msgspec.ValidationError) -> str:
    """What was wrong, and where; not what came: it may be a card number."""
    what, at, where = str(error).partition(" - at ")
    for begin, better in _SAID_BETTER:
        if what.startswith(begin):
            # The name of a field of ours is told, one of theirs is not.
            missing = what.removeprefix(begin) if begin.endswith("d field") else ""
            what = better + ("" if "unknown" in begin else missing)
    return mask_digits(what[:1].lower() + what[1:] + at + where)
