"""What a node tells its publisher, and knows of it.

Rule: the node never waits for it. What it is told is put together when the pipe has
      room: the newest, so nothing piles up however slow it is.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress

from switch.journal.cassandra.node_session import CassandraSession
from switch.journal.cassandra.store import BEGINNING, Position
from switch.journal.port import ShardRecord
from switch.ledger import State
from switch.node_publisher.orders import Assignment, released_line
from switch.node_publisher.process import Settings, engines_of
from switch.publisher.process import Status
from switch.publisher.supervisor import EnginesProcess
from switch.publisher.waker import WAKE_SECONDS_MIN

# Between two attempts to write on, when the pipe was full.
FULL_PIPE_SECONDS = 0.02


class NodePublisherProcess(EnginesProcess):
    name = "node_publisher"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, engines_of(settings.kafka, settings.nsq))
        self._shards: dict[int, int] = {}
        self._released = BEGINNING
        # What it was told last; None: it has to be told all.
        self._told: Position | None = None
        self._unsent = b""
        self._timer: asyncio.TimerHandle | None = None
        self._news_came = asyncio.Event()

    def heard(self, status: Status) -> None:
        super().heard(status)
        self._news_came.set()

    def following(self, journal: CassandraSession) -> "Following":
        """The next session's; nothing of the one before it is told any more."""
        self.begin_log(journal.name)
        self._shards = {}
        self._released = BEGINNING
        self._tell_all()
        return Following(self, journal)

    @property
    def released_number(self) -> int:
        return self._released.number

    def has(self, shard: int, epoch: int) -> None:
        self._shards[shard] = epoch
        self._tell_all()

    def has_not(self, shard: int) -> None:
        self._shards.pop(shard, None)
        self._tell_all()

    def told(self, position: Position) -> None:
        """The session is released up to there."""
        now = time.monotonic()
        if now - self._woken_at >= self.wake_seconds_min:
            self._woken_at = now
            self._times.mark(position.number, now)
        self._released = position
        self._tell_soon(WAKE_SECONDS_MIN)

    async def drained(self, seconds: float) -> None:
        """Until all that is released is out, or cannot be now, or that time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._is_drained():
                    self._news_came.clear()
                    await self._news_came.wait()

    def _is_drained(self) -> bool:
        return not self.is_running or all(map(self._is_done, self.engines))

    def _is_done(self, engine: str) -> bool:
        said = self.status.engines.get(engine)
        if said is None:
            return False
        is_out = said.session == self.session and said.commit >= self._released.number
        return is_out or said.fault is not None

    # -- the pipe

    def begun(self) -> None:
        self._unsent = b""
        self._tell_all()

    def wake(self) -> None:
        self._tell_soon(0)

    def _tell(self, data: bytes) -> None:
        """To finish: behind what is on its way."""
        self._unsent += data
        self._fire()

    def _tell_all(self) -> None:
        self._told = None
        self._tell_soon(0)

    def _tell_soon(self, seconds: float) -> None:
        if self._timer is None and self._process is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._unsent = self._unsent or self._news()
        self._flush()
        if self._unsent:
            self._tell_soon(FULL_PIPE_SECONDS)
        elif self._told != self._released:
            self._tell_soon(WAKE_SECONDS_MIN)

    def _news(self) -> bytes:
        told, self._told = self._told, self._released
        if told is None:
            return Assignment(
                self.session,
                dict(self._shards),
                self._released.segment,
                self._released.number,
            ).line()
        return b"" if told == self._released else released_line(self._released)

    def _flush(self) -> None:
        process = self._process
        if process is None or process.stdin is None or not self._unsent:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            written = os.write(process.stdin.fileno(), self._unsent)
            self._unsent = self._unsent[written:]


class Following:
    """See `switch.cluster.port.Follower`."""

    def __init__(
        self, process: NodePublisherProcess, journal: CassandraSession
    ) -> None:
        self._process = process
        self._journal = journal

    def opened(self, state: State) -> None:
        epoch = self._journal.epochs[state.shard]
        self._process.has(state.shard, epoch.id.number)

    def closed(self, shard: int) -> None:
        self._process.has_not(shard)

    def told(self, records: Sequence[ShardRecord]) -> None:
        if records:
            self._process.told(self._journal.position)

    async def run(self) -> None:
        """It goes on by itself."""
        await asyncio.get_running_loop().create_future()
