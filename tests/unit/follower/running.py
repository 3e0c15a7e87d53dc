"""A data directory whose journal grows and is released, and what comes out of it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec

from switch.follower.process import Follower, Settings
from switch.journal.released import Released
from switch.publish.events import Event
from switch.publish.jsonlines import event_files
from tests.unit.small_bank import FINANCIAL, JOINT, PANS, full_journal

SECONDS_MAX = 60.0
PAUSE_SECONDS = 0.005
FILE_BYTES_MAX = 64 << 20


def publish_all(directory: Path, events: Path | None = None) -> None:
    """What the next start's follower does with a data directory, here and now."""
    follower = Follower(
        Settings(
            str(directory), FILE_BYTES_MAX, None if events is None else str(events)
        )
    )
    while not follower.is_done():
        follower.step(at_once=True)
    follower.close()


class Bank:
    """What the switch does: appends, and says how far it has answered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bank, self.journal = full_journal(directory)
        self.released = Released(directory / "released")

    def append(self, count: int) -> None:
        for _ in range(count):
            self.bank.ask(FINANCIAL, amount=1)
            self.bank.ask(amount=1_000_000, account=JOINT, pan=PANS[1])
            self.bank.commit(self.journal)

    def release(self, number: int | None = None) -> None:
        self.released.advance(self.journal.head if number is None else number)

    def close(self) -> None:
        self.released.close()
        self.journal.close()

    def settings(self, **others) -> Settings:
        settings = {"file_bytes_max": FILE_BYTES_MAX, **others}
        return Settings(data_directory=str(self.directory), **settings)

    def expected_ids(self, commit_max: int) -> list[str]:
        """Of the entries of the commits up to this one, in their order."""
        return [
            f"{record.shard}-{record.first_sequence + index}"
            for commit in self.journal.read(0, commit_max)
            for record in commit.records
            for index in range(record.count)
        ]

    def published(self) -> list[Event]:
        """Whole lines only: the newest file may be growing."""
        text = b"".join(path.read_bytes() for path in self.event_files())
        lines = text[: text.rfind(b"\n") + 1].splitlines()
        return [msgspec.json.decode(line, type=Event) for line in lines]

    def event_files(self) -> list[Path]:
        events = self.directory / "events"
        return event_files(events) if events.exists() else []

    def published_ids(self) -> list[str]:
        return [event.id for event in self.published()]

    def balances(self) -> dict[str, tuple[int, int]]:
        return {
            view.account: (view.balance, view.held)
            for state in self.bank.states
            for view in state.accounts()
        }

    def projected(self) -> tuple[int, dict[str, tuple[int, int]]]:
        """Position and accounts of the read model."""
        connection = apsw.Connection(
            str(self.directory / "readmodel.db"), flags=apsw.SQLITE_OPEN_READONLY
        )
        connection.set_busy_timeout(5_000)
        with connection:
            rows = connection.execute("SELECT account, balance, held FROM accounts")
            accounts = {name: (balance, held) for name, balance, held in rows}
            position = connection.execute("SELECT commit_number FROM position").get
        connection.close()
        return position, accounts


def until(condition: Callable[..., object], *arguments: object) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition(*arguments):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(PAUSE_SECONDS)


async def until_it_is_so(condition: Callable[..., object], *arguments: object) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition(*arguments):
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(PAUSE_SECONDS)
