"""Every operation that operators have over HTTP, as a table: the routes and the OpenAPI
document are both made of it."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from switch.admin import types
from switch.admin.tokens import Role

JSON: Final = "application/json"
CSV: Final = "text/csv"
BODY_BYTES_MAX: Final = 16 * 1024
KEY_HEADER: Final = "Idempotency-Key"

Method = Literal["GET", "POST", "PATCH"]


class Operation(Struct, frozen=True):
    """`name` is the handler's. `role`: who may; with `is_open`, whoever is on this
    machine, too. `body` is JSON of this type, or CSV of these columns. `takes_key`:
    may come with an Idempotency-Key."""

    name: str
    method: Method
    path: str
    role: Role
    summary: str
    answer: type[Struct] | None
    body: type[Struct] | str | None = None
    query: type[Struct] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    is_open: bool = False
    takes_key: bool = False

    @property
    def all_errors(self) -> tuple[int, ...]:
        """Every status that is no success and may be answered."""
        found = {401, 403, 503, *self.errors}
        found |= {400} if self.query or self.body else set()
        found |= {408, 413, 415, 422} if self.body else set()
        return tuple(sorted(found))


_ACCOUNT: Final = "/api/accounts/{account}"
_CARD: Final = "/api/cards/{token}"

OPERATIONS: Final = (
    Operation(
        "list_accounts", "GET", "/api/accounts", "viewer",
        "accounts by name, a page at a time; as far as published",
        types.Accounts, query=types.AccountsQuery,
    ),
    Operation(
        "open_account", "POST", "/api/accounts", "admin", "opens an account",
        types.Account, types.OpenAccount, status=201, errors=(409,), takes_key=True,
    ),
    Operation(
        "get_account", "GET", _ACCOUNT, "viewer",
        "the account, as far as answered; to this machine without a token",
        types.Account, errors=(404,), is_open=True,
    ),
    Operation(
        "change_account", "PATCH", _ACCOUNT, "operator",
        "blocks, unblocks or closes the account, changes its credit limit, or both",
        types.Account, types.ChangeAccount, errors=(404, 409),
    ),
    Operation(
        "adjust_balance", "POST", _ACCOUNT + "/adjustments", "operator",
        "adds to the balance, or takes from it",
        types.Adjustment, types.AdjustBalance, status=201, errors=(404,),
        takes_key=True,
    ),
    Operation(
        "list_cards",
        "GET",
        "/api/cards",
        "viewer",
        "cards by token, of an account or all, a page at a time; as far as published",
        types.Cards,
        query=types.CardsQuery,
    ),
    Operation(
        "issue_card", "POST", "/api/cards", "admin",
        "issues a card; its token names it from then on",
        types.Card, types.IssueCard, status=201, errors=(404, 409), takes_key=True,
    ),
    Operation(
        "get_card", "GET", _CARD, "viewer", "the card, as far as answered",
        types.Card, errors=(404,),
    ),
    Operation(
        "change_card", "PATCH", _CARD, "operator",
        "changes the card's status, its expiry or both",
        types.Card, types.ChangeCard, errors=(404,),
    ),
    Operation(
        "search_transactions", "GET", "/api/transactions", "viewer",
        "transactions, newest first; as far as published",
        types.Transactions, query=types.TransactionsQuery,
    ),
    Operation(
        "get_import", "GET", "/api/imports", "viewer",
        "how far the import is that runs, or what became of the last one",
        types.LastImport,
    ),
    Operation(
        "import_accounts", "POST", "/api/imports/accounts", "admin",
        "opens the accounts of a file; none if a row is bad",
        types.Imported, "account,currency,balance,credit_limit",
        types.ImportQuery, 201, errors=(409,),
    ),
    Operation(
        "import_cards", "POST", "/api/imports/cards", "admin",
        "issues the cards of a file; none if a row is bad",
        types.Imported, "pan,account,expiry,status",
        types.ImportQuery, 201, errors=(409,),
    ),
    Operation(
        "openapi", "GET", "/api/openapi.json", "viewer", "this document", None
    ),
)  # fmt: skip

_PATH_PARAMETERS: Final = {"account": types.AccountName, "token": types.CardToken}
_REFERENCE: Final = "#/components/schemas/{name}"


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    kinds = {
        kind
        for operation in OPERATIONS
        for kind in (operation.body, operation.query, operation.answer)
        if isinstance(kind, type)
    }
    _, components = msgspec.json.schema_components(
        sorted(kinds | {types.ErrorAnswer}, key=lambda kind: kind.__name__),
        ref_template=_REFERENCE,
    )
    components = _for_browsers(components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        described = _describe(operation, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    for operation in OPERATIONS:
        if operation.query is not None:
            components.pop(operation.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {"title": "switch", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"Role: {operation.role}.",
        "security": [*([{}] if operation.is_open else []), {"token": []}],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _schema(kind)}
            for name, kind in _PATH_PARAMETERS.items()
            if f"{{{name}}}" in operation.path
        ],
        "responses": {
            str(status): {
                "description": "done" if status < 400 else "not done, and why",
                "content": {JSON: {"schema": _reference(kind)}},
            }
            for status, kind in _answers(operation)
        },
    }
    if operation.takes_key:
        described["parameters"].append(
            {
                "name": KEY_HEADER,
                "in": "header",
                "required": False,
                "schema": _schema(types.OperationKey),
            }
        )
    if operation.query is not None:
        described["parameters"] += _query_parameters(schemas[operation.query.__name__])
    if isinstance(operation.body, str):
        text = {"type": "string", "description": f"columns {operation.body}"}
        described["requestBody"] = {
            "required": True, "content": {CSV: {"schema": text}},
        }  # fmt: skip
    elif operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": _reference(operation.body)}},
        }
    return described


def _answers(operation: Operation) -> list[tuple[int, type[Struct] | None]]:
    answers: list[tuple[int, type[Struct] | None]] = [
        (operation.status, operation.answer)
    ]
    return answers + [(status, types.ErrorAnswer) for status in operation.all_errors]


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": of_parameter,
        }
        for name, of_parameter in schema["properties"].items()
    ]


def _reference(kind: type[Struct] | None) -> dict[str, Any]:
    if kind is None:
        return {"type": "object"}
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def _schema(kind: Any) -> dict[str, Any]:
    schema: dict[str, Any] = _for_browsers(msgspec.json.schema(kind))
    return schema


def _for_browsers(schema: Any) -> Any:
    """Patterns as JSON Schema has them: `$` is the very end, Python's `\\Z`."""
    if isinstance(schema, dict):
        return {
            key: value.replace("\\Z", "$")
            if key == "pattern" and isinstance(value, str)
            else _for_browsers(value)
            for key, value in schema.items()
        }
    if isinstance(schema, list | tuple):
        return [_for_browsers(value) for value in schema]
    return schema
