"""The operations over HTTP: who may, what changes, and how a mistake is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from switch.admin.operations import BODY_BYTES_MAX, OPERATIONS
from switch.admin.tokens import ROLES
from switch.journal.errors import JournalError
from tests.unit.admin.served import entries, run
from tests.unit.link.in_memory import KEYS, PANS

NEW_PAN = "9999990000000030"
TOKEN = KEYS.pan_hash(PANS["active"].encode()).hex()
WHY = {"reason": "asked for"}
MAIN = {
    "account": "main", "currency": "GBP", "balance": 10_000, "held": 0,
    "credit_limit": 0, "available": 10_000, "status": "active",
}  # fmt: skip


# -- who


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_an_operation_is_its_roles_and_those_above(tmp_path, operation):
    path = operation.path.format(account="main", token=TOKEN)

    async def script(client):
        statuses = {}
        for role in ROLES:
            answer = await client.ask(operation.method, path, role=role)
            statuses[role] = answer.status
            if answer.status == 403:
                assert answer.message == (
                    f"expected a token of role {operation.role}, got {role}"
                )
        wrong = await client.ask(operation.method, path, token="switch_wrong")
        return statuses, wrong

    statuses, wrong = run(tmp_path, script)
    allowed = ROLES[ROLES.index(operation.role) :]
    assert {role for role, status in statuses.items() if status != 403} == {*allowed}
    assert 401 not in statuses.values()
    assert wrong.status == 401
    assert wrong.headers["WWW-Authenticate"] == "Bearer"


def test_without_a_token_this_machine_sees_an_account_and_nothing_else(tmp_path):
    async def script(client):
        return [
            await client.ask(
                each.method,
                each.path.format(account="main", token=TOKEN),
                role=None,
                headers=headers,
            )
            for headers in ({}, {"Host": "evil.example"})
            for each in OPERATIONS
        ]

    answers = run(tmp_path, script)
    here, elsewhere = answers[: len(OPERATIONS)], answers[len(OPERATIONS) :]
    assert {each.status for each in elsewhere} == {401}
    seen = [a for a, each in zip(here, OPERATIONS, strict=True) if a.status != 401]
    assert [(answer.status, answer.content) for answer in seen] == [(200, MAIN)]


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer  ", "switch_abc"])
def test_what_is_no_bearer_token_is_refused(tmp_path, header):
    async def script(client):
        return await client.ask(
            "GET", "/api/accounts", role=None, headers={"Authorization": header}
        )

    assert run(tmp_path, script).status == 401


def test_a_right_token_under_another_scheme_is_refused(tmp_path):
    async def script(client):
        header = {"Authorization": f"Basic {client.served.token['admin']}"}
        return await client.ask("GET", "/api/accounts", role=None, headers=header)

    assert run(tmp_path, script).status == 401


def test_tokens_that_cannot_be_read_are_a_fault_and_let_nobody_in(tmp_path):
    async def script(client):
        client.served.tokens.path.chmod(0o644)
        return await client.ask("GET", "/api/accounts")

    answer = run(tmp_path, script)
    assert (answer.status, answer.message) == (503, "the tokens cannot be read")


# -- what changes


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"status": "blocked"}, 200),
        ({"status": "blocked", "credit_limit": 7}, 200),
        ({"status": "closed"}, 409),
        ({"status": "closed", "credit_limit": 7}, 409),
        ({"status": "lost"}, 422),
        ({}, 422),
    ],
)
def test_an_account_is_blocked_or_closed_as_a_whole(tmp_path, change, status):
    async def script(client):
        path = "/api/accounts/main"
        answer = await client.ask("PATCH", path, {**change, **WHY}, role="operator")
        client.served.project()
        listed = await client.ask("GET", "/api/accounts", role="viewer")
        return answer, listed, list(entries(client.served))

    answer, listed, kept = run(tmp_path, script)
    assert answer.status == status
    if status == 200:
        assert {**MAIN, **change, "available": answer.content["available"]} == (
            answer.content
        )
        assert answer.content in listed.content["accounts"]
    assert len(kept) == (len(change) if status == 200 else 0)


def test_an_account_is_opened_changed_and_adjusted(tmp_path):
    async def script(client):
        opened = await client.ask(
            "POST", "/api/accounts",
            {"account": "new one", "currency": "EUR", "balance": 70, **WHY},
        )  # fmt: skip
        path = "/api/accounts/new%20one"
        limit = await client.ask(
            "PATCH", path, {"credit_limit": 30, **WHY}, role="operator"
        )
        adjusted = await client.ask(
            "POST", path + "/adjustments", {"amount": -5, **WHY}, role="operator"
        )
        again = await client.ask("GET", path, role="viewer")
        return opened, limit, adjusted, again, list(entries(client.served))

    opened, limit, adjusted, again, kept = run(tmp_path, script)
    assert (opened.status, opened.content["available"]) == (201, 70)
    assert (limit.status, limit.content["available"]) == (200, 100)
    assert (adjusted.status, adjusted.content["amount"]) == (201, -5)
    assert adjusted.content["balance"] == again.content["balance"]
    assert (adjusted.content["account"], adjusted.content["currency"]) == (
        *("new one", "EUR"),
    )
    assert again.content["balance"] == 65
    assert [(entry.name, entry.operator, entry.reason) for entry in kept] == [
        ("account_opened", "admin", "asked for"),
        ("limit_changed", "operator", "asked for"),
        ("adjusted", "operator", "asked for"),
    ]
    assert adjusted.content["id"].endswith(f"-{kept[-1].sequence}")


def test_a_card_is_issued_and_found_by_the_next_request(tmp_path):
    async def script(client):
        answer = await client.ask(
            "POST", "/api/cards",
            {"pan": NEW_PAN, "account": "euro", "expiry": "3012", **WHY},
        )  # fmt: skip
        token = answer.content["token"]
        seen = await client.ask("GET", f"/api/cards/{token}", role="viewer")
        shard = client.served.directory.shard(bytes.fromhex(token))
        return answer, seen, client.served.node.states[shard].card(bytes.fromhex(token))

    answer, seen, card = run(tmp_path, script)
    assert answer.status == 201
    assert answer.content == seen.content == {
        "token": KEYS.pan_hash(NEW_PAN.encode()).hex(), "account": "euro",
        "last_four": "0030", "expiry": "3012", "status": "active",
    }  # fmt: skip
    assert KEYS.unseal(card.sealed_pan, bytes.fromhex(answer.content["token"])) == (
        NEW_PAN.encode()
    )


def test_status_and_expiry_of_a_card_change_together(tmp_path):
    async def script(client):
        path = f"/api/cards/{TOKEN}"
        answers = [
            await client.ask("PATCH", path, {**change, **WHY}, role="operator")
            for change in (
                {"status": "lost", "expiry": "3111"},
                {"status": "lost"},
                {"expiry": "3111"},
                {},
            )
        ]
        return answers, list(entries(client.served))

    (both, *same, neither), kept = run(tmp_path, script)
    assert (both.content["status"], both.content["expiry"]) == ("lost", "3111")
    assert [answer.content for answer in same] == [both.content] * 2
    assert neither.status == 422
    # what was so already is no change, and has no entry
    assert [entry.name for entry in kept] == [
        "card_status_changed",
        "card_expiry_changed",
    ]


def test_nothing_is_said_to_be_done_before_it_is_durable(tmp_path):
    async def script(client):
        path = "/api/accounts/main/adjustments"
        asked = asyncio.create_task(client.ask("POST", path, {"amount": 5, **WHY}))
        node = client.served.node
        await client.served.submitted.wait()
        looked = asyncio.create_task(client.ask("GET", "/api/accounts/main"))
        health = await client.ask("GET", "/healthz")
        before = (
            asked.done(),
            looked.done(),
            health.status,
            list(entries(client.served)),
        )
        node.write()
        answers = await asked, await looked
        return before, answers, list(entries(client.served))

    before, (asked, looked), kept = run(tmp_path, script, commits=False)
    assert before == (False, False, 200, [])
    assert asked.content["balance"] == looked.content["balance"] == 10_005
    assert looked.content["balance"] == 10_005
    assert len(kept) == 1


def test_a_journal_that_fails_is_told_and_nothing_is_said_to_be_done(tmp_path):
    async def script(client):
        path = "/api/accounts/main/adjustments"
        asked = asyncio.create_task(client.ask("POST", path, {"amount": 5, **WHY}))
        node = client.served.node
        await client.served.submitted.wait()
        node.group.stop(JournalError("disk full"))
        return await asked, await client.ask("POST", path, {"amount": 5, **WHY})

    for answer in run(tmp_path, script, commits=False):
        assert (answer.status, answer.message) == (
            503,
            "the journal cannot be written",
        )


# -- mistakes


MISTAKES = [
    ("POST", "/api/accounts", {"account": "main", "currency": "EUR"}, 409, "new one"),
    ("POST", "/api/accounts", {"account": "x", "currency": "QQQ"}, 422, "currency"),
    ("POST", "/api/accounts", {"account": "x", "currency": "eur"}, 422, "$.currency"),
    ("POST", "/api/accounts", {"account": " x", "currency": "EUR"}, 422, "$.account"),
    ("POST", "/api/accounts", {"account": "é", "currency": "EUR"}, 422, "$.account"),
    ("POST", "/api/accounts", {"currency": "EUR"}, 422, "account"),
    ("PATCH", "/api/accounts/nobody", {"credit_limit": 1}, 404, "expected one that is"),
    ("PATCH", "/api/accounts/%C3%A9", {"credit_limit": 1}, 404, "expected one that is"),
    ("PATCH", "/api/accounts/main", {"credit_limit": -1}, 422, "$.credit_limit"),
    ("PATCH", "/api/accounts/main", {"credit_limit": 10**17 + 1}, 422, "credit_limit"),
    ("PATCH", "/api/accounts/main", {"credit_limit": "1"}, 422, "$.credit_limit"),
    ("PATCH", "/api/accounts/main", {"credit_limit": 1, "x": 1}, 422, "no field but"),
    ("POST", "/api/accounts/main/adjustments", {"amount": 0}, 422, "amount"),
    ("POST", "/api/accounts/nobody/adjustments", {"amount": 1}, 404, "account"),
    ("PATCH", f"/api/cards/{TOKEN}", {"status": "gone"}, 422, "$.status"),
    ("PATCH", f"/api/cards/{TOKEN}", {"expiry": "3013"}, 422, "$.expiry"),
    ("PATCH", f"/api/cards/{'0' * 32}", {"status": "lost"}, 404, "card"),
    ("PATCH", "/api/cards/x", {"status": "lost"}, 404, "token of a card"),
    ("POST", "/api/cards", {"pan": PANS["lost"], "account": "main", "expiry": "3012"},
     409, "pan: expected a new one"),
    ("POST", "/api/cards", {"pan": NEW_PAN, "account": "nobody", "expiry": "3012"},
     404, "account"),
    ("POST", "/api/cards", {"pan": NEW_PAN + "x", "account": "main", "expiry": "3012"},
     422, "$.pan"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "said"), MISTAKES)
def test_a_mistake_is_told_and_changes_nothing(
    tmp_path, method, path, body, status, said
):
    async def script(client):
        answer = await client.ask(method, path, {**body, **WHY})
        return answer, list(entries(client.served))

    answer, kept = run(tmp_path, script)
    assert answer.status == status
    assert said in answer.message
    assert kept == []


@pytest.mark.parametrize(
    "reason",
    [
        "",
        " ",
        "x" * 201,
        "é" * 101,
        "line\nbreak",
        "4000001234567899",
        "4000 0012 3456 7899 stolen",
        "4000.0012.3456.7899",
        "track 123456789012345678901234567890",
    ],
)
def test_a_reason_that_may_not_be_kept_is_refused_and_not_repeated(
    tmp_path, reason, caplog
):
    async def script(client):
        body = {"amount": 1, "reason": reason}
        answer = await client.ask("POST", "/api/accounts/main/adjustments", body)
        return answer, list(entries(client.served))

    answer, kept = run(tmp_path, script)
    assert (answer.status, kept) == (422, [])
    assert "reason" in answer.message
    assert len(reason) < 3 or reason not in answer.message + caplog.text


def test_a_card_number_in_the_wrong_place_is_not_repeated(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    async def script(client):
        return [
            await client.ask("GET", f"/api/accounts/{NEW_PAN}"),
            await client.ask("GET", f"/api/cards/{NEW_PAN}"),
            await client.ask("GET", f"/api/transactions?card={NEW_PAN}"),
            await client.ask("GET", f"/api/transactions?{NEW_PAN}=1"),
            await client.ask(
                "PATCH", f"/api/cards/{TOKEN}", {"status": NEW_PAN, **WHY}
            ),
            await client.ask("PATCH", f"/api/cards/{TOKEN}", {NEW_PAN: 1, **WHY}),
            await client.ask("POST", "/api/cards", {"pan": NEW_PAN, "account": NEW_PAN,
                                                   "expiry": "3012", **WHY}),
        ]  # fmt: skip

    for answer in run(tmp_path, script):
        assert 400 <= answer.status < 500
        assert NEW_PAN not in str(answer.content)
    assert NEW_PAN not in caplog.text


def test_no_token_is_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    async def script(client):
        await client.ask("GET", "/api/accounts", token="switch_wrong-one")
        await client.ask("POST", "/api/accounts", role="viewer")
        await client.ask("POST", "/api/accounts/main/adjustments", {"amount": 1, **WHY})
        return list(client.served.token.values())

    tokens = run(tmp_path, script)
    text = caplog.text + str([vars(record) for record in caplog.records])
    assert "refused: no valid token" in text
    assert "refused: not of the role" in text
    assert "'operation': 'adjust_balance', 'operator': 'admin'" in text
    for token in [*tokens, "switch_wrong-one"]:
        assert token not in text


def test_a_body_has_a_size_a_type_and_a_form(tmp_path):
    async def script(client):
        def post(data, kind="application/json"):
            return client.ask(
                "POST", "/api/accounts", data=data, headers={"Content-Type": kind}
            )

        return [
            await post(b"{" + b" " * BODY_BYTES_MAX),
            await post(b"{}", "text/plain"),
            await post(b"{"),
            await post(b"\xff"),
            await post(b"[]"),
            await client.ask("GET", "/api/accounts?limit=0"),
            await client.ask("GET", "/api/accounts?limit=1&limit=2"),
            await client.ask("GET", "/api/accounts?colour=red"),
            await client.ask("GET", "/api/transactions?from=yesterday"),
            await client.ask("GET", "/api/transactions?to=0.5"),
            await client.ask("GET", "/api/transactions?from=2026-01-01T00:00:00"),
        ]

    answers = run(tmp_path, script)
    assert [answer.status for answer in answers] == [
        *(413, 415, 400, 400, 422, 400, 400, 400, 400, 400, 400)
    ]
    for answer in answers:
        assert "expected" in answer.message


# -- once


KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}
ONCE: dict[str, dict[str, Any]] = {
    "/api/accounts": {"account": "new", "currency": "EUR", "balance": 7, **WHY},
    "/api/accounts/main/adjustments": {"amount": -5, **WHY},
    "/api/cards": {"pan": NEW_PAN, "account": "euro", "expiry": "3012", **WHY},
}


@pytest.mark.parametrize("path", ONCE)
def test_the_same_key_gets_the_first_answer_again(tmp_path, path):
    """Also when the account has moved on since."""

    async def script(client):
        first = await client.ask("POST", path, ONCE[path], headers=KEY)
        for name, limit in (("main", 4), ("new", 4)):
            await client.ask(
                "PATCH", f"/api/accounts/{name}", {"credit_limit": limit, **WHY}
            )
        await client.ask("POST", "/api/accounts/main/adjustments", {"amount": 1, **WHY})
        before = len(list(entries(client.served)))
        bare = {"Idempotency-Key": KEY["Idempotency-Key"].strip('"')}
        again = [
            await client.ask("POST", path, ONCE[path], headers=headers)
            for headers in (KEY, bare)
        ]
        return first, again, before, len(list(entries(client.served)))  # fmt: skip

    first, again, before, after = run(tmp_path, script)
    assert first.status == 201
    assert [(each.status, each.content) for each in again] == [
        (201, first.content)
    ] * 2  # fmt: skip
    assert before == after


def test_a_key_is_of_one_request_and_of_one_operator(tmp_path):
    path = "/api/accounts/main/adjustments"

    async def script(client):
        ask = client.ask
        body = ONCE[path]
        answers = {
            "first": await ask("POST", path, body, headers=KEY),
            "amount": await ask("POST", path, body | {"amount": 5}, headers=KEY),
            "reason": await ask("POST", path, body | {"reason": "x"}, headers=KEY),
            "account": await ask(
                "POST", "/api/accounts/euro/adjustments", body, headers=KEY
            ),
            "card": await ask("POST", "/api/cards", ONCE["/api/cards"], headers=KEY),
            "operator": await ask("POST", path, body, headers=KEY, role="operator"),
            "none": await ask("POST", path, body),
        }
        return answers, list(entries(client.served))

    answers, kept = run(tmp_path, script)
    assert {name: answer.status for name, answer in answers.items()} == {
        "first": 201, "amount": 422, "reason": 422, "account": 422, "card": 422,
        "operator": 201, "none": 201,
    }  # fmt: skip
    assert "expected a new one for another request" in answers["amount"].message
    assert [entry.value for entry in kept] == [9_995, 9_990, 9_985]
    assert NEW_PAN not in repr([entry.encode() for entry in kept])


def test_a_retry_while_the_first_is_being_written_waits_for_it(tmp_path):
    path = "/api/accounts/main/adjustments"

    async def script(client):
        asked = asyncio.create_task(
            client.ask("POST", path, ONCE[path], headers=KEY)
        )  # fmt: skip
        await client.served.submitted.wait()
        again = asyncio.create_task(
            client.ask("POST", path, ONCE[path], headers=KEY)
        )  # fmt: skip
        await client.ask("GET", "/healthz")
        before = asked.done(), again.done()
        client.served.node.write()
        answers = await asked, await again
        return before, answers, list(entries(client.served))

    before, answers, kept = run(tmp_path, script, commits=False)
    assert before == (False, False)
    assert answers[0].content == answers[1].content
    assert len(kept) == 1


@pytest.mark.parametrize("key", ["", '""', "two words", 'a"b', "a" * 129, "é"])
def test_what_is_no_key_is_refused(tmp_path, key):
    path = "/api/accounts/main/adjustments"

    async def script(client):
        answer = await client.ask(
            "POST", path, ONCE[path], headers={"Idempotency-Key": key}
        )
        return answer, list(entries(client.served))

    answer, kept = run(tmp_path, script)
    assert (answer.status, kept) == (400, [])


def test_a_mistake_is_not_remembered(tmp_path):
    """Nothing was done: the same request is decided anew."""
    body = ONCE["/api/cards"] | {"account": "new"}

    async def script(client):
        refused = await client.ask("POST", "/api/cards", body, headers=KEY)
        await client.ask("POST", "/api/accounts", ONCE["/api/accounts"])
        return refused, await client.ask("POST", "/api/cards", body, headers=KEY)

    refused, done = run(tmp_path, script)
    assert (refused.status, done.status) == (404, 201)
