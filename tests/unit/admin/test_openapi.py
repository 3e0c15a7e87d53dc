"""The OpenAPI document, held against the handlers: whatever fits it, or does not, is
answered as it says, and never with a fault."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from switch.admin import types
from switch.admin.operations import OPERATIONS, openapi
from tests.unit.admin.served import HOST, Served
from tests.unit.link.in_memory import KEYS, PANS

DOCUMENT = openapi("1")
# Every case has a token: what is answered without is for `test_http.py`.
SCHEMA = schemathesis.openapi.from_dict(
    DOCUMENT
    | {
        "paths": {
            path: {
                method: operation | {"security": []}
                for method, operation in methods.items()
            }
            for path, methods in DOCUMENT["paths"].items()
        }
    }
)
# Not that what fits the document is taken: that a reason holds no card number, or that
# an account is not there yet, is nothing that a schema can say.
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
TOKENS = [KEYS.pan_hash(PANS[name].encode()).hex() for name in ("active", "lost")]
KNOWN = {
    "account": (types.AccountName, ["main", "euro"]),
    "token": (types.CardToken, TOKENS),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, token): a server on a loop of its own."""
    ready = threading.Event()
    state: dict[str, Any] = {}

    async def serve():
        bank = Served(tmp_path_factory.mktemp("openapi"))
        stop = asyncio.Event()
        async with bank.serving() as port:
            state.update(
                address=f"http://{HOST}:{port}",
                token=bank.token["admin"],
                stop=(asyncio.get_running_loop(), stop),
            )
            ready.set()
            await stop.wait()
        bank.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    yield state["address"], state["token"]
    loop, stop = state["stop"]
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@schemathesis.hook
def map_path_parameters(_context, parameters):
    """Of the names and tokens that fit the document, half are of what is there."""
    for name, (kind, values) in KNOWN.items():
        text = (parameters or {}).get(name)
        if isinstance(text, str) and fits(text, kind) and sum(text.encode()) % 2:
            parameters[name] = values[len(text) % 2]
    return parameters


def fits(text, kind):
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


@SCHEMA.parametrize()
@settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck),
    derandomize=True,
)  # fmt: skip
def test_the_handlers_answer_as_the_document_says(served, case):
    address, token = served
    with requests.Session() as session:
        case.call_and_validate(
            base_url=address,
            session=session,
            headers={"Authorization": f"Bearer {token}"},
            checks=CHECKS,
        )


def test_every_operation_is_in_the_document_and_no_other():
    described = {
        (method.upper(), path)
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    }
    assert described == {(each.method, each.path) for each in OPERATIONS}


def test_the_document_is_served_as_it_is(served):
    address, token = served
    answer = requests.get(
        f"{address}/api/openapi.json",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    assert answer.json() == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1")
