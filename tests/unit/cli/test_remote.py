"""Commands that ask a running daemon, when the daemon is not as it should be."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from switch.cli import exits
from switch.cli.main import main

ADJUST = ("accounts", "adjust", "A1", "-5", "--reason", "fee")
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Daemon:
    """Answers with what it is given, once all was read; without: closes."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, object]]] = []
        self.keys: list[str | None] = []
        self.bodies: list[bytes] = []
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                daemon.keys.append(self.headers["Idempotency-Key"])
                if daemon.answers and daemon.answers[0][0] == 403:
                    self._answer(*daemon.answers.pop(0))
                    return
                daemon.bodies.append(self._body())
                if daemon.answers:
                    self._answer(*daemon.answers.pop(0))
                else:
                    self.close_connection = True

            def do_GET(self) -> None:
                self._answer(200, {"last": None})

            def _body(self) -> bytes:
                if "Content-Length" in self.headers:
                    return self.rfile.read(int(self.headers["Content-Length"]))
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def _answer(self, status: int, content: dict[str, object]) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.close()


def test_each_command_has_a_key_of_its_own_or_the_one_it_is_given(daemon, capsys):
    daemon.answers = [(201, {"id": "1-2"})] * 3
    for words in ((), (), ("--key", "mine")):
        assert main([*ADJUST, "--http", daemon.address, *words]) == exits.OK
    first, second, given = daemon.keys
    assert re.fullmatch(f'"{UUID}"', first or "")
    assert first != second
    assert given == '"mine"'
    assert json.loads(daemon.bodies[0]) == {"amount": -5, "reason": "fee"}


def test_when_the_answer_is_lost_the_key_to_ask_again_with_is_said(daemon, capsys):
    assert main([*ADJUST, "--http", daemon.address]) == exits.INPUT_OUTPUT
    (key,) = daemon.keys
    said = capsys.readouterr().err
    assert "whether it was done is not known" in said
    assert f"--key {(key or '').strip(chr(34))}" in said


def test_a_daemon_that_is_not_there_has_done_nothing(free_port, capsys):
    where = f"127.0.0.1:{free_port}"
    assert main([*ADJUST, "--http", where]) == exits.INPUT_OUTPUT
    assert "not known" not in capsys.readouterr().err


IMPORT = ("accounts", "import", "--reason", "move")


def test_a_file_is_sent_as_it_is_read(daemon, capsys, tmp_path):
    file = tmp_path / "accounts.csv"
    file.write_bytes(b"x" * 200_000)
    daemon.answers = [(201, {"imported": 7, "existing": 2})]
    assert main([*IMPORT, str(file), "--http", daemon.address]) == exits.OK
    assert daemon.bodies == [file.read_bytes()]
    assert capsys.readouterr().out == "7 accounts imported, 2 were there\n"


def test_an_import_refused_before_its_end_says_why(daemon, capsys, tmp_path):
    file = tmp_path / "accounts.csv"
    file.write_bytes(b"x" * 20_000_000)
    daemon.answers = [(403, {"error": {"status": 403, "message": "not of the role"}})]
    exit_code = main([*IMPORT, str(file), "--http", daemon.address])
    said = capsys.readouterr().err
    # What is unread when it closes may take the answer with it.
    assert (exit_code, "not of the role" in said) in {
        (exits.USAGE, True),
        (exits.INPUT_OUTPUT, False),
    }


def test_an_import_whose_answer_is_lost_says_how_to_go_on(daemon, capsys, tmp_path):
    file = tmp_path / "accounts.csv"
    file.write_text("x")
    assert main([*IMPORT, str(file), "--http", daemon.address]) == exits.INPUT_OUTPUT
    assert "--skip-existing goes on there" in capsys.readouterr().err
