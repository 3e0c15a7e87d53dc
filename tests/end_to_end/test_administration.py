"""Operators at work on a running daemon: over HTTP, and with the commands."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import (
    EXPIRY,
    HOST,
    ROOT,
    SWITCH,
    WAIT_SECONDS_MAX,
    Client,
    Daemon,
    environment,
    events,
    make_bank,
    pan_of,
    request,
    run_switch,
    verify,
    wait_until,
)

BALANCE = 10_000
NEW_PAN = pan_of(500)
IMPORTED = 25_000


class Operator:
    """What somebody with a token sees of the daemon."""

    def __init__(self, daemon: Daemon, name: str, role: str) -> None:
        self.daemon = daemon
        done = run_switch("tokens", "add", name, "--role", role, "--data", daemon.data)
        assert done.returncode == 0, done.stderr
        self.token = done.stdout.strip()

    def ask(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        data: bytes | str | None = None
        if isinstance(body, str):
            data, headers["Content-Type"] = body.encode(), "text/csv"
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body), "application/json"
        connection = http.client.HTTPConnection(
            HOST, self.daemon.http_port, timeout=WAIT_SECONDS_MAX
        )
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def run(
        self, *words: str | Path, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """A command of ours, on the running daemon."""
        return subprocess.run(
            [*SWITCH, *map(str, words), "--http", f"{HOST}:{self.daemon.http_port}"],
            cwd=ROOT,
            env=environment() | {"SWITCH_TOKEN": self.token},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS_MAX,
            check=False,
        )

    def done(self, *words: str | Path, stdin: str = "") -> Any:
        done = self.run(*words, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as daemon:
        daemon.pans = make_bank(daemon.data, 3, BALANCE)
        daemon.start()
        yield daemon


@pytest.fixture
def operator(daemon: Daemon) -> Operator:
    return Operator(daemon, "maria", "admin")


def card_token(operator: Operator, account: str) -> str:
    """As the read model has it, which is a little behind."""
    path = f"/api/cards?account={account}"
    wait_until(lambda: operator.ask("GET", path)[1].get("cards"), "rows")
    token: str = operator.ask("GET", path)[1]["cards"][0]["token"]
    return token


def test_a_blocked_card_a_raised_limit_and_an_adjustment_count_from_then_on(
    daemon, operator
):
    token = card_token(operator, "A0")
    why = {"reason": "customer called"}
    with Client(daemon.port) as client:

        def code(stan: int, account: int, amount: int) -> str:
            message = request("0100", stan, daemon.pans[account], amount)
            return client.ask(message)[39]

        assert code(1, 0, 100) == "00"
        status, card = operator.ask(
            "PATCH", f"/api/cards/{token}", {"status": "restricted", **why}
        )
        assert (status, card["status"]) == (200, "restricted")
        assert code(2, 0, 100) == "62"

        assert code(3, 1, BALANCE + 1) == "51"
        status, account = operator.ask(
            "PATCH", "/api/accounts/A1", {"credit_limit": 1, **why}
        )
        assert (status, account["available"]) == (200, BALANCE + 1)
        assert code(4, 1, BALANCE + 1) == "00"

        assert code(5, 2, BALANCE + 500) == "51"
        status, done = operator.ask(
            "POST", "/api/accounts/A2/adjustments", {"amount": 500, **why}
        )
        assert (status, done["balance"]) == (201, BALANCE + 500)
        assert code(6, 2, BALANCE + 500) == "00"
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]
    changes = [each for each in events(daemon.data) if "operator" in each]
    assert [each["kind"] for each in changes] == [
        *("card_status_changed", "limit_changed", "adjusted")
    ]
    assert {(each["operator"], each["reason"]) for each in changes} == {
        ("maria", "customer called")
    }
    assert changes[0]["card_token"] == token
    assert changes[2]["balance_change"] == 500
    assert changes[2]["id"] == done["id"]
    assert operator.token not in daemon.log_text()


def test_what_was_answered_is_there_after_a_kill(daemon, operator):
    """kill -9 right after the answer; and again, so that each kind had its turn."""
    why = {"reason": "test of loss"}
    token = card_token(operator, "A0")
    for amount in (7, 11):
        status, _ = operator.ask(
            "POST", "/api/accounts/A1/adjustments", {"amount": amount, **why}
        )
        daemon.kill()
        assert status == 201
        daemon.start()
    assert daemon.account("A1")["balance"] == BALANCE + 18
    body = {"pan": NEW_PAN, "account": "A1", "expiry": EXPIRY, **why}
    assert operator.ask("POST", "/api/cards", body)[0] == 201
    daemon.kill()
    daemon.start()
    change = {"status": "stolen", **why}
    assert operator.ask("PATCH", f"/api/cards/{token}", change)[0] == 200
    daemon.kill()
    daemon.start()
    with Client(daemon.port) as client:
        assert client.ask(request("0100", 1, NEW_PAN, 5))[39] == "00"
        assert client.ask(request("0100", 2, daemon.pans[0], 5))[39] == "43"
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_an_operation_with_a_key_is_done_once_whatever_is_lost(daemon, operator):
    """The answer is the first one after a kill, after a clean stop (which goes by the
    snapshots), and when the account has moved on."""
    why = {"reason": "test of loss"}
    operations: dict[str, dict[str, Any]] = {
        "/api/accounts/A1/adjustments": {"amount": -7, **why},
        "/api/accounts": {"account": "N1", "currency": "EUR", "balance": 50, **why},
        "/api/cards": {"pan": NEW_PAN, "account": "A1", "expiry": EXPIRY, **why},
    }
    first = {}
    for number, (path, body) in enumerate(operations.items()):
        first[path] = operator.ask("POST", path, body, f"key-{number}")
        assert first[path][0] == 201

    def again() -> None:
        path = "/api/accounts/N1/adjustments"
        assert operator.ask("POST", path, {"amount": 1, **why})[0] == 201
        for number, (path, body) in enumerate(operations.items()):
            got = operator.ask("POST", path, body, f"key-{number}")
            assert got == first[path]
            status, _ = operator.ask(
                "POST", path, body | {"reason": "another"}, f"key-{number}"
            )
            assert status == 422

    again()
    daemon.kill()
    daemon.start()
    again()
    assert daemon.stop() == 0
    daemon.start()
    again()
    assert daemon.account("A1")["balance"] == BALANCE - 7
    assert daemon.account("N1")["balance"] == 53
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_a_blocked_account_declines_all_its_cards_and_a_closed_one_has_nothing(
    daemon, operator
):
    path, why = "/api/accounts/A0", {"reason": "fraud suspected"}
    with Client(daemon.port) as client:

        def code(stan: int, mti: str = "0100", **more: str) -> str:
            return client.ask(request(mti, stan, daemon.pans[0], 100, **more))[39]

        assert code(1, "0200") == "00"
        status, account = operator.ask("PATCH", path, {"status": "blocked", **why})
        assert (status, account["status"]) == (200, "blocked")
        assert (code(2), code(3, "0220", f39="00")) == ("62", "00")
        assert operator.ask("PATCH", path, {"status": "closed", **why})[0] == 409
        empty = {"amount": -account["balance"] + 100, **why}
        assert operator.ask("POST", path + "/adjustments", empty)[0] == 201
        assert operator.ask("PATCH", path, {"status": "closed", **why})[0] == 200
        assert code(4) == "14"
        # and so it is after a kill
        daemon.kill()
    daemon.start()
    assert daemon.account("A0")["status"] == "closed"
    with Client(daemon.port) as client:
        assert client.ask(request("0100", 5, daemon.pans[0], 1))[39] == "14"
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]
    changes = [each for each in events(daemon.data) if each.get("previous_status")]
    assert [
        (each["kind"], each["previous_status"], each["status"], each["operator"])
        for each in changes
    ] == [
        ("account_status_changed", "active", "blocked", "maria"),
        ("account_status_changed", "blocked", "closed", "maria"),
    ]


def test_the_commands_do_the_same(daemon, operator, tmp_path):
    why = ("--reason", "by command")
    done = operator.done
    created = done(
        "accounts", "create", "B1", "--currency", "EUR", "--limit", "5", *why
    )
    assert (created["account"], created["available"]) == ("B1", 5)
    assert done("accounts", "limit", "B1", "900", *why)["credit_limit"] == 900
    adjust = ("accounts", "adjust", "B1", "-50", *why, "--key", "fee-07")
    adjusted = done(*adjust)
    assert adjusted["balance"] == -50
    # Its answer was lost, say: the same again does nothing, and says the same.
    assert done(*adjust) == adjusted
    other = operator.run("accounts", "adjust", "B1", "-51", *why, "--key", "fee-07")
    assert other.returncode == 2
    assert "Idempotency-Key: expected a new one" in other.stderr
    issue = ("cards", "issue", "B1", "--expiry", EXPIRY, *why)
    card = done(*issue, stdin=NEW_PAN + "\n")
    assert (card["account"], card["last_four"]) == ("B1", NEW_PAN[-4:])
    with Client(daemon.port) as client:
        assert client.ask(request("0100", 77, NEW_PAN, 850))[39] == "00"
    token = card["token"]
    assert done("cards", "status", token, "lost", *why)["status"] == "lost"
    assert done("cards", "expiry", token, "5012", *why)["expiry"] == "5012"
    assert done("cards", "show", token) == card | {"status": "lost", "expiry": "5012"}
    status = ("accounts", "status", "B1")
    assert done(*status, "blocked", *why)["status"] == "blocked"
    assert done(*status, "active", *why)["status"] == "active"
    refused = operator.run(*status, "closed", *why)
    assert refused.returncode == 2
    assert "expected a balance of 0 and nothing held" in refused.stderr
    assert done("accounts", "show", "B1") == daemon.account("B1")
    search = ("transactions", "search", "--account", "B1")
    wait_until(lambda: len(done(*search)["transactions"]) == 2, "rows")
    found = done(*search)["transactions"]
    assert [each["kind"] for each in found] == ["held", "adjusted"]
    assert (
        done(*search, "--stan", "000077", "--limit", "1")["transactions"] == found[:1]
    )
    shown = [done("cards", "show", token)]
    wait_until(lambda: done("cards", "list", "B1")["cards"] == shown, "the card")
    assert len(done("cards", "list")["cards"]) == 4
    of_card = done("transactions", "search", "--card", token)
    assert of_card["transactions"] == found[:1]
    by_amount = ("transactions", "search", "--amount", "850", "--from")
    since = "2026-01-01T00:00:00Z"
    assert done(*by_amount, since, "--rrn", f"{77:012d}")["transactions"] == found[:1]
    assert done(*by_amount, since, "--to", since)["transactions"] == []
    shown = [daemon.account(name) for name in ("A0", "A1", "A2", "B1")]
    wait_until(lambda: done("accounts", "list")["accounts"] == shown, "the accounts")
    table = operator.run(*search)
    assert table.returncode == 0
    assert "000077" in table.stdout
    assert NEW_PAN not in table.stdout
    refused = operator.run("accounts", "limit", "nobody", "1", *why)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "switch: account: expected one that is open" in refused.stderr


def broken_off(daemon: Daemon, operator: Operator, accounts: Path) -> None:
    """The daemon is killed while it writes what it has checked."""
    importing = subprocess.Popen(
        [*SWITCH, "accounts", "import", str(accounts), "--reason", "move",
         "--http", f"{HOST}:{daemon.http_port}"],
        cwd=ROOT, env=environment() | {"SWITCH_TOKEN": operator.token},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def is_writing() -> bool:
        last = operator.ask("GET", "/api/imports")[1]["last"]
        return bool(last and last["imported"])

    wait_until(is_writing, "the first rows")
    daemon.kill()
    _, errors = importing.communicate(timeout=WAIT_SECONDS_MAX)
    # It may have been done before we looked.
    if importing.returncode != 0:
        assert importing.returncode == 74
        assert "the same again with --skip-existing goes on there" in errors
    daemon.start()
    assert 3 < daemon.metrics()["switch_accounts"] <= 3 + IMPORTED


def test_a_file_is_imported_while_requests_are_answered(daemon, operator, tmp_path):
    accounts, cards = tmp_path / "more-accounts.csv", tmp_path / "more-cards.csv"
    accounts.write_text(
        "account,currency,balance,credit_limit\n"
        + "".join(f"C{n},EUR,{n},0\n" for n in range(IMPORTED))
    )
    cards.write_text(
        "pan,account,expiry,status\n"
        + "".join(
            f"{pan_of(1_000 + n)},C{n},{EXPIRY},active\n" for n in range(IMPORTED)
        )
    )
    bad = operator.run("cards", "import", cards, "--reason", "move")
    assert bad.returncode == 2
    assert "line 2: account: expected one that is open, got another" in bad.stderr
    assert f"nothing imported: {IMPORTED:,} bad rows" in bad.stderr
    broken_off(daemon, operator, accounts)
    words = ("accounts", "import", str(accounts), "--reason", "move", "--skip-existing")
    with Client(daemon.port) as client:
        running = subprocess.Popen(
            [*SWITCH, *words, "--json", "--http", f"{HOST}:{daemon.http_port}"],
            cwd=ROOT, env=environment() | {"SWITCH_TOKEN": operator.token},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        stan = 0
        while running.poll() is None:
            stan += 1
            assert client.ask(request("0100", stan, daemon.pans[0], 0))[39] == "13"
        said, _ = running.communicate(timeout=WAIT_SECONDS_MAX)
        assert running.returncode == 0
        result = json.loads(said)
        assert result["existing"] > 0
        assert result["imported"] + result["existing"] == IMPORTED
        done = operator.run("cards", "import", cards, "--reason", "move")
        assert done.stdout == f"{IMPORTED:,} cards imported\n", done.stderr
        # right after the answer
        pan = pan_of(1_000 + IMPORTED - 1)
        assert client.ask(request("0100", 900_000, pan, IMPORTED - 1))[39] == "00"
    daemon.kill()
    daemon.start()
    assert daemon.figures("C1") == (1, 0, 1)
    assert daemon.metrics()["switch_accounts"] == IMPORTED + 3
    assert daemon.metrics()["switch_cards"] == IMPORTED + 3
    assert daemon.stop() == 0
    assert verify(daemon.data)["ok"]


def test_tokens_and_roles_take_effect_at_once(daemon, operator):
    viewer = Operator(daemon, "joana", "viewer")
    path, body = "/api/accounts/A0", {"credit_limit": 5, "reason": "more"}
    assert viewer.ask("GET", path)[0] == 200
    assert viewer.ask("PATCH", path, body)[0] == 403
    assert daemon.get("/api/accounts")[0] == 401
    assert daemon.get(path)[0] == 200
    assert operator.ask("PATCH", path, body)[0] == 200
    revoke = ("tokens", "revoke", "maria", "--data", daemon.data)
    assert run_switch(*revoke).returncode == 0
    assert operator.ask("PATCH", path, body)[0] == 401
    refused = operator.run("accounts", "limit", "A0", "7", "--reason", "more")
    assert refused.returncode == 2
    assert "expected a bearer token that is valid" in refused.stderr
    file = daemon.folder / "token"
    file.write_text(viewer.token + "\n")
    shown = operator.run("accounts", "show", "A0", "--token-file", file)
    assert "credit_limit  5" in shown.stdout


def test_card_numbers_and_tokens_are_nowhere_in_clear(daemon, operator):
    body = {"pan": NEW_PAN, "account": "A0", "expiry": EXPIRY, "reason": "new"}
    assert operator.ask("POST", "/api/cards", body)[0] == 201
    assert operator.ask("POST", "/api/cards", body)[0] == 409
    misplaced = body | {"account": NEW_PAN, "reason": f"card {NEW_PAN}"}
    status, answer = operator.ask("POST", "/api/cards", misplaced)
    assert 400 <= status < 500
    assert NEW_PAN not in json.dumps(answer)
    assert daemon.stop() == 0
    files = [path for path in daemon.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        data = path.read_bytes()
        assert NEW_PAN.encode() not in data, path
        assert operator.token.encode() not in data, path


def test_a_daemon_that_is_not_there_is_said(free_port):
    done = run_switch("accounts", "show", "A0", "--http", f"{HOST}:{free_port}")
    assert done.returncode == 74
    assert f"{HOST}:{free_port}" in done.stderr
