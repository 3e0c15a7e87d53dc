"""The embedded switch on a disk that a test has made: all that `switch serve` is made
of between a connection's bytes and the disk, without sockets and threads.

The test says what is read, when the loop turns, when a commit is written and what time
it is. What is written to a peer is told the moment it leaves.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from iso8583 import Message
from switch.config import Config, JournalSettings, KeysSettings, LedgerSettings
from switch.embedded import Store
from switch.journal import connection
from switch.journal.port import ShardRecord
from switch.keys import sealed_file
from switch.ledger import CARD_STATUSES, Entry, issue_card, open_account
from switch.ledger.routing import shard_of_account
from switch.link._framing import FrameReader
from tests.unit.link.in_memory import ACCOUNTS, CARDS, NOW, Line, Switch

SHARD_COUNT = 4
# The second link's scheme wants its answers sooner.
DEADLINES_MS = (5_000, 1_000)


def config_of(directory: Path, ledger: LedgerSettings | None = None) -> Config:
    """With the key beside the directory, where no power loss gets at it: always the
    same one, because it says in which shard an unknown card's requests are."""
    key = directory.parent / "pan.key"
    if not key.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with mock.patch.object(secrets, "token_bytes", bytes):
            sealed_file.create(key)
    return Config(
        data_directory=str(directory),
        keys=KeysSettings(pan_key_file=str(key)),
        journal=JournalSettings(shards=SHARD_COUNT),
        ledger=ledger or LedgerSettings(),
    )


def connect_synchronous(mode: str) -> Callable[..., Any]:
    """In the place of `connection.connect`: files are opened so, whatever is asked."""
    connect = connection.connect

    def other(path: str, **settings: Any) -> Any:
        return connect(path, **{**settings, "synchronous": mode})

    return other


@contextmanager
def synchronous(mode: str) -> Iterator[None]:
    with mock.patch.object(connection, "connect", connect_synchronous(mode)):
        yield


class _Leaving(list[bytes]):
    """A transport's writes, told as they happen."""

    def __init__(self, told: Callable[[bytes], object]) -> None:
        super().__init__()
        self._told = told

    def append(self, data: bytes) -> None:
        super().append(data)
        self._told(data)


class EmbeddedSwitch(Switch):
    """One process's switch over what `open_store` gave it. `heard(line, reply)` is told
    of each message that a peer gets, when it leaves."""

    def __init__(
        self,
        store: Store,
        *,
        now: int = NOW,
        heard: Callable[[Line, Message], object] = lambda line, reply: None,
        **more: Any,
    ) -> None:
        super().__init__(
            states=store.recovered.states,
            head=store.journal.head,
            hash_pan=store.keys.pan_hash,
            now=now,
            **more,
        )
        self.store = store
        self.heard = heard
        self.at = 0
        self.problem: Exception | None = None

    def open_line(self, scheme: int) -> Line:
        line = self.connect_by_another_link(DEADLINES_MS[scheme], scheme)
        reader = FrameReader(self.framing)

        def told(data: bytes) -> None:
            # What is raised in here the connection would take for a broken socket.
            try:
                for frame in reader.feed(data):
                    self.heard(line, self.codec.decode(frame))
            except Exception as error:  # noqa: BLE001 -- raised again below
                self.problem = self.problem or error

        line.transport.writes = _Leaving(told)
        return line

    def _submit(self, at: int, records: list[ShardRecord]) -> None:
        self.at = at
        super()._submit(at, records)

    def _released(self, number: int) -> None:
        super()._released(number)
        self.store.released.advance(number)

    def append(self) -> int:
        """The commit in flight is written; the loop has not heard of it yet."""
        records, self.in_flight = self.in_flight, None
        assert records is not None, "no commit in flight"
        return self.store.journal.append(self.at, records)

    def make_durable(self) -> None:
        """As the commit thread does it."""
        self.hear_of(self.append())
        self.store.journal.tend()

    def hear_of(self, number: int) -> None:
        self.group.committed(number)
        self._raise_problem()

    def turn(self) -> None:
        super().turn()
        self._raise_problem()

    def _raise_problem(self) -> None:
        if self.problem is not None:
            raise self.problem

    def open_bank(self, told: Callable[[], object]) -> None:
        """The accounts and cards of the tests of links, by an operator; `told` when
        they are durable."""
        who: Any = {"operator": "maria", "reason": "first day", "now": self.now}
        for make in (self._accounts, self._cards):
            self.group.administer(make(who), self.now)
        waiting: Future[None] = Future()
        waiting.add_done_callback(lambda future: told())
        self.group.wait(waiting)

    def _accounts(self, who: Any) -> list[tuple[int, Entry]]:
        return [
            (shard, open_account(self.states[shard], name, *terms, **who))
            for name, terms in ACCOUNTS.items()
            for shard in [shard_of_account(name.encode(), SHARD_COUNT)]
        ]

    def _cards(self, who: Any) -> list[tuple[int, Entry]]:
        changes: list[tuple[int, Entry]] = []
        for pan, account, expiry, status in CARDS.values():
            shard = shard_of_account(account.encode(), SHARD_COUNT)
            ((pan_hash, sealed),) = self.store.keys.seal_many([pan.encode()])
            entry = issue_card(
                self.states[shard], pan_hash, sealed, account, expiry,
                CARD_STATUSES[status], pan[-4:], **who,
            )  # fmt: skip
            changes.append((shard, entry))
            self.directory.learn(pan_hash, shard)
        return changes


def answer_of(reply: Message) -> tuple[str, str | None]:
    """Fields 39 and 38."""
    return reply[39], reply.get(38)
