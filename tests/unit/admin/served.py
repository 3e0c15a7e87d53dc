"""The operations over HTTP, on shards of a journal in memory and a read model."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from switch.admin.desk import Desk
from switch.admin.http import Admin
from switch.admin.imports import Importer
from switch.admin.search import Search
from switch.admin.tokens import ROLES, TokenFile
from switch.ledger import decode_entries
from switch.observe.http import HttpServer
from switch.observe.metrics import make_registry
from switch.projection.readmodel import ReadModel
from switch.shard._directory import CardDirectory
from tests.unit.link.in_memory import KEYS
from tests.unit.shard.node import Node, new_journal

HOST = "127.0.0.1"


class Served:
    """`commits`: whether what is written gets durable by itself."""

    def __init__(self, folder: Path, *, commits: bool = True) -> None:
        self.commits = commits
        self.folder = folder
        self.submitted = asyncio.Event()
        self.tokens = TokenFile(folder / "tokens.json")
        # role → token; the operator's name is that of the role
        self.token: dict[str, str] = {
            role: self.tokens.add(role, role) for role in ROLES
        }
        self.node = Node(
            new_journal(),
            submit=self._submit,
            schedule=lambda call: asyncio.get_running_loop().call_soon(call),
        )
        self.directory = CardDirectory(self.node.states)
        self.read_model = folder / "readmodel.db"
        self._model = ReadModel(
            self.read_model,
            journal_identity=b"test",
            journal_head=self.node.journal.head,
        )
        self.project()

    def _submit(self, at: int, records: list[Any]) -> None:
        self.node.submitted.append((at, records))
        self.submitted.set()
        if self.commits:
            asyncio.get_running_loop().call_soon(self.node.write)

    def project(self) -> None:
        """The follower has caught up."""
        self._model.take(list(self.node.journal.read(self._model.position)))
        while self._model.tend():
            pass

    def close(self) -> None:
        self._model.close()

    @asynccontextmanager
    async def serving(self, host: str = HOST) -> AsyncIterator[int]:
        """The port."""
        behind = (
            self.node.group,
            self.directory,
            KEYS,
            lambda: self.node.now,
        )
        search = Search(self.read_model)
        registry, _ = make_registry("1")
        admin = Admin(
            Desk(*behind), Importer(*behind, self.folder), search, self.tokens, "1"
        )
        server = HttpServer(
            host, 0, registry=registry, not_ready=lambda: (), routes=admin.routes()
        )
        await server.start()
        try:
            yield server.port
        finally:
            await server.stop()
            search.close()


class Answer:
    def __init__(self, status: int, content: Any, headers: Any) -> None:
        self.status = status
        self.content = content
        self.headers = headers

    @property
    def message(self) -> str:
        text: str = self.content["error"]["message"]
        assert self.content["error"]["status"] == self.status
        return text


class Client:
    def __init__(self, served: Served, session: aiohttp.ClientSession) -> None:
        self.served = served
        self._session = session

    async def ask(
        self, method: str, path: str, body: Any = None, *, role: str | None = "admin",
        token: str | None = None, **options: Any,
    ) -> Answer:  # fmt: skip
        headers = dict(options.pop("headers", {}))
        if token is None and role is not None:
            token = self.served.token[role]
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if isinstance(body, str):
            options |= {"data": io.BytesIO(body.encode())}
            headers.setdefault("Content-Type", "text/csv")
        elif body is not None:
            options |= {"json": body}
        async with self._session.request(
            method, path, headers=headers, **options
        ) as answer:
            return Answer(
                answer.status, await answer.json(content_type=None), answer.headers
            )


def run(folder: Path, script: Any, *, commits: bool = True) -> Any:
    """Awaits `script(client)` beside a served bank."""

    async def main() -> Any:
        served = Served(folder, commits=commits)
        try:
            async with (
                served.serving() as port,
                aiohttp.ClientSession(f"http://{HOST}:{port}") as session,
            ):
                return await script(Client(served, session))
        finally:
            served.close()

    return asyncio.run(main())


def entries(served: Served) -> Iterator[Any]:
    """What the journal has beyond the opening."""
    for commit in served.node.journal.read(1):
        for record in commit.records:
            yield from decode_entries(record.payload, record.first_sequence)
