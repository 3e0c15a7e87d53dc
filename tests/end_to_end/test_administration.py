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
IMPORTED = 2_000


class Operator:
    """What somebody with a token sees of the daemon."""

    def __init__(self, daemon: Daemon, name: str, role: str) -> None:
        self.daemon = daemon
        done = run_switch("tokens", "add", name, "--role", role, "--data", daemon.data)
        assert done.returncode == 0, done.stderr
        self.token = done.stdout.strip()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
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
        assert (status, done["account"]["balance"]) == (201, BALANCE + 500)
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


def test_the_commands_do_the_same(daemon, operator, tmp_path):
    why = ("--reason", "by command")
    done = operator.done
    created = done(
        "accounts", "create", "B1", "--currency", "EUR", "--limit", "5", *why
    )
    assert (created["account"], created["available"]) == ("B1", 5)
    assert done("accounts", "limit", "B1", "900", *why)["credit_limit"] == 900
    assert done("accounts", "adjust", "B1", "-50", *why)["account"]["balance"] == -50
    issue = ("cards", "issue", "B1", "--expiry", EXPIRY, *why)
    card = done(*issue, stdin=NEW_PAN + "\n")
    assert (card["account"], card["last_four"]) == ("B1", NEW_PAN[-4:])
    with Client(daemon.port) as client:
        assert client.ask(request("0100", 77, NEW_PAN, 850))[39] == "00"
    token = card["token"]
    assert done("cards", "status", token, "lost", *why)["status"] == "lost"
    assert done("cards", "expiry", token, "5012", *why)["expiry"] == "5012"
    assert done("cards", "show", token) == card | {"status": "lost", "expiry": "5012"}
    assert done("accounts", "show", "B1") == daemon.account("B1")
    search = ("transactions", "search", "--account", "B1")
    wait_until(lambda: len(done(*search)["transactions"]) == 2, "rows")
    found = done(*search)["transactions"]
    assert [each["kind"] for each in found] == ["held", "adjusted"]
    assert (
        done(*search, "--stan", "000077", "--limit", "1")["transactions"] == found[:1]
    )
    cards = [done("cards", "show", token)]
    wait_until(lambda: done("cards", "list", "B1")["cards"] == cards, "rows")
    table = operator.run(*search)
    assert table.returncode == 0
    assert "000077" in table.stdout
    assert NEW_PAN not in table.stdout
    refused = operator.run("accounts", "limit", "nobody", "1", *why)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "switch: account: expected one that is open" in refused.stderr


def test_an_import_is_whole_while_requests_are_answered(daemon, operator, tmp_path):
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
    with Client(daemon.port) as client:
        running = subprocess.Popen(
            [*SWITCH, "accounts", "import", str(accounts), "--reason", "move",
             "--http", f"{HOST}:{daemon.http_port}"],
            cwd=ROOT, env=environment() | {"SWITCH_TOKEN": operator.token},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        stan = 0
        while running.poll() is None:
            stan += 1
            assert client.ask(request("0100", stan, daemon.pans[0], 0))[39] == "13"
        said, _ = running.communicate(timeout=WAIT_SECONDS_MAX)
        assert (running.returncode, said) == (0, f"{IMPORTED:,} accounts imported\n")
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
