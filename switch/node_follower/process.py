"""The process. Its node starts it with `switch.node_follower.supervisor`."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec
import uvloop

from switch.backoff import Backoff
from switch.cluster.settings import CassandraSettings
from switch.cluster_store import connect_cassandra
from switch.companion.parent import Parent, run_child
from switch.config import ConfigError
from switch.journal.cassandra.all_shards import AllShardsReader
from switch.journal.cassandra.chains import Moved
from switch.journal.cassandra.retrying import PATIENCE, Patience
from switch.journal.cassandra.store import LogStore
from switch.journal.directory import READ_MODEL_NAME
from switch.journal.errors import JournalMismatch, JournalMissing
from switch.ledger import State
from switch.observe import log
from switch.projection.cluster import ClusterReadModel
from switch.projection.readmodel import drop

NICE_DEFAULT = 10
# Nobody minds rows that are a second old; each look costs some readings at a quorum.
INTERVAL_SECONDS = 1.0
ENTRIES_MAX = 8192
RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 30.0
# Shards that move each time that they are looked at are a fault.
MOVES_MAX = 3

_logger = logging.getLogger("switch.node_follower")


class Settings(msgspec.Struct, frozen=True):
    data_directory: str
    cassandra: CassandraSettings
    shard_count: int
    nice: int = NICE_DEFAULT
    log_level: str = "info"
    log_format: log.LogFormat = "auto"


class Status(msgspec.Struct, frozen=True):
    """Entries that are in; and a moment of the system's monotonic clock, what counted
    up to which is in."""

    entries: int = 0
    complete_at: float = 0.0
    fault: str | None = None


class NodeFollower:
    """The read model of one data directory, and a step that moves it on."""

    def __init__(
        self,
        store: LogStore,
        path: Path,
        identity: bytes,
        shard_count: int,
        patience: Patience = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status = Status()
        self._store = store
        self._path = path
        self._identity = identity
        self._shard_count = shard_count
        self._patience = patience
        self._clock = clock
        self._backoff = Backoff(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        self._model: ClusterReadModel | None = None
        self._reader: AllShardsReader | None = None
        self._ended: dict[str, int] = {}  # sessions, and where: for ever
        self._moves = 0
        self._begun = 0  # shards, from their checkpoints

    async def step(self) -> float:
        """A batch. How many seconds there are until the next one."""
        began_at = self._clock()
        try:
            seconds = await self._take(began_at)
        except Moved:
            self._moves += 1
            self._reader = None
            if self._moves < MOVES_MAX:
                return RETRY_SECONDS_MIN
            return self._failed("expected shards that stay, got ones that move")
        except JournalMismatch as error:
            self._throw_away(error)
            return RETRY_SECONDS_MIN
        except Exception as error:  # noqa: BLE001 -- whatever Cassandra or SQLite raise
            return self._failed(f"{type(error).__name__}: {error}")
        self._moves = 0
        self._backoff.reset()
        return seconds

    def close(self) -> None:
        self._reader = None
        model, self._model = self._model, None
        if model is not None:
            model.close()

    async def _take(self, began_at: float) -> float:
        if self._model is None:
            self._model = ClusterReadModel(self._path, identity=self._identity)
        model = self._model
        while model.wants_tending:
            model.tend()
            await asyncio.sleep(0)
        if self._reader is None:
            self._reader = AllShardsReader(
                self._store,
                self._shard_count,
                model.reached,
                self._begin_from,
                self._patience,
                self._clock,
                self._ended,
            )
        reader = self._reader
        self._begun = 0
        reading = await reader.read(ENTRIES_MAX)
        self._tell_begun()
        if reading.positions:
            model.take_shards(reading.commits, reading.positions)
        complete_at = self.status.complete_at
        if not reading.has_more:
            since = reader.waits_since
            complete_at = began_at if since is None else min(since, began_at)
        self.status = Status(model.position, complete_at)
        if reading.has_more:
            return 0.0
        return 0.0 if model.tend() else INTERVAL_SECONDS

    def _begin_from(self, state: State) -> None:
        assert self._model is not None
        self._model.begin_from(state)
        self._begun += 1

    def _tell_begun(self) -> None:
        if self._begun:
            log.event(
                _logger,
                logging.WARNING,
                "read model goes on from checkpoints: transactions that were dropped "
                "from the journal before they were read are not in it",
                shards=self._begun,
                path=self._path,
            )

    def _throw_away(self, error: JournalMismatch) -> None:
        log.event(
            _logger,
            logging.WARNING,
            "read model thrown away, to be made again from the journal",
            path=self._path,
            reason=error,
        )
        self.close()
        drop(self._path)

    def _failed(self, reason: str) -> float:
        with suppress(Exception):
            self.close()
        self._model = None
        self.status = msgspec.structs.replace(self.status, fault=reason)
        seconds = self._backoff.seconds()
        log.event(
            _logger,
            logging.ERROR,
            "cannot go on, will try again",
            what="the read model",
            reason=reason,
            seconds=seconds,
        )
        return seconds


async def _follow(follower: NodeFollower, parent: Parent) -> None:
    while True:
        seconds = await follower.step()
        parent.tell(follower.status, at_once=True)
        await asyncio.sleep(seconds)


async def run(settings: Settings, parent: Parent, input_descriptor: int) -> None:
    """Until the parent is gone or asks to finish: at once, for the rows of a cluster
    are never complete."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        store = await connect_cassandra(settings.cassandra)
        stack.push_async_callback(store.close)
        await store.open()
        identity = await store.agreed("identity")
        if identity is None:
            raise JournalMissing("the cluster was not initialised")
        follower = NodeFollower(
            store,
            Path(settings.data_directory) / READ_MODEL_NAME,
            bytes.fromhex(identity),
            settings.shard_count,
        )
        stack.callback(follower.close)
        following = asyncio.create_task(_follow(follower, parent))

        def hear() -> None:
            parent.hear()
            if parent.wants_an_end:
                loop.remove_reader(input_descriptor)
                following.cancel()

        loop.add_reader(input_descriptor, hear)
        stack.callback(loop.remove_reader, input_descriptor)
        with suppress(asyncio.CancelledError):
            await following


def main(arguments: Sequence[str] | None = None) -> int:
    def work(settings: Settings) -> None:
        descriptor = sys.stdin.fileno()
        parent = Parent(descriptor, sys.stdout.fileno())
        uvloop.run(run(settings, parent, descriptor))

    return run_child("node_follower", Settings, work, arguments, also=ConfigError)
