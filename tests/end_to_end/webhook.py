"""Whoever receives pushes over HTTP: takes them, fails, or hangs, as a test says."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.servers.common import HOST


class Receiver:
    """`answer` says a status by the push and how often it was there; None: it hangs
    until the end."""

    def __init__(self, answer: Callable[[str, int], int | None] | None = None) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self._answer = answer or (lambda _id, _time: 200)
        self._ending = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status = receiver.take(self)
                if status is None:
                    receiver.hang()
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}/pushes"

    def take(self, handler: BaseHTTPRequestHandler) -> int | None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests.append((dict(handler.headers), body))
        push_id = json.loads(body)["id"]
        return self._answer(push_id, self.times(push_id))

    def hang(self) -> None:
        self._ending.wait()

    def times(self, push_id: str) -> int:
        return sum(json.loads(body)["id"] == push_id for _, body in self.requests)

    @property
    def pushes(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]
