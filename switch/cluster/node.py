"""A node of a cluster: one session after the other, and its lines to the other nodes.

Rule 1: when a session is lost the node begins another, and its links stay: what was
        not answered by then is not, and who asks again is answered by the next owner.
Rule 2: at the end everything is given up before the node leaves, and what it has passed
        on is settled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from switch.cluster.counts import NodeCounts
from switch.cluster.errors import SessionLost
from switch.cluster.lines import Lines
from switch.cluster.port import Beside, Follower, JournalSession, ShardOwnership
from switch.cluster.session import NodeSession, others
from switch.journal.errors import JournalError
from switch.journal.port import ShardRecord
from switch.ledger import Limits
from switch.observe.log import event
from switch.observe.metrics import Sample
from switch.ownership.port import OwnershipError
from switch.peer.answering import Answering
from switch.peer.forwarder import Forwarder
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup

# Between the end of a session and the next attempt to begin one.
RESTART_S = 0.5
# What was passed on has so long to be settled when the node stops.
SETTLE_S = 10.0

_log = logging.getLogger("switch.cluster")


class Node:
    """`attach`, then `run` until `stop` is called. It is `Owners` for those
    who forward, and `submit` for its group."""

    def __init__(
        self,
        name: str,
        group: CommitGroup,
        directory: CardDirectory,
        limits: Limits,
        sessions: Callable[[], tuple[ShardOwnership, JournalSession]],
        *,
        every_entries: int = 100_000,
        follow: Callable[[JournalSession], Follower] | None = None,
        beside: Beside | None = None,
        counts: NodeCounts | None = None,
    ) -> None:
        """`sessions()` makes the two halves of a session, under a name that was never
        used before; `follow(journal)`, what follows it; `beside`, what else goes on in
        one."""
        self.name = name
        self.counts = NodeCounts() if counts is None else counts
        self.failure = "not begun yet"
        self._group = group
        self._directory = directory
        self._limits = limits
        self._sessions = sessions
        self._every_entries = every_entries
        self._follow = follow
        self._beside = beside
        self._session: NodeSession | None = None
        self._forwarder: Forwarder | None = None
        self._answering: Answering | None = None
        self._lines: list[Lines] = []
        self._stopping = asyncio.Event()

    def attach(self, forwarder: Forwarder, answering: Answering, *lines: Lines) -> None:
        """`lines`: those that are kept up to the nodes that are there."""
        self._forwarder = forwarder
        self._answering = answering
        self._lines = list(lines)

    @property
    def opened(self) -> frozenset[int]:
        """The shards that are here."""
        return frozenset() if self._session is None else frozenset(self._session.opened)

    async def run(self) -> None:
        """Returns after `stop`."""
        while not self._stopping.is_set():
            try:
                await self._one_session()
            except (SessionLost, JournalError, OwnershipError) as error:
                self._lost(error)
            if self._stopping.is_set():
                break
            try:
                async with asyncio.timeout(RESTART_S):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        if self._forwarder is not None:
            await self._forwarder.drain(SETTLE_S)
            await self._forwarder.close()
        await asyncio.gather(*(lines.close() for lines in self._lines))

    def not_ready(self) -> list[str]:
        """Why it does not answer for its part of the shards yet."""
        if self.failure:
            return [f"no session: {self.failure}"]
        nobodys = self._nobodys()
        return [f"{nobodys} shards have no owner yet"] if nobodys else []

    def _nobodys(self) -> int:
        shards = range(self._group.shard_count)
        return sum(self.owner_of(shard) is None for shard in shards)

    def samples(self) -> Iterator[Sample]:
        """For a scrape."""
        left, members = 0.0, 0
        if self._session is not None and not self.failure:
            ownership = self._session.ownership
            left = max(ownership.is_valid_until() - ownership.now(), 0.0)
            members = len(ownership.members())
        # One that only tries to join is none yet.
        yield Sample("cluster_session_up", int(left > 0))
        yield Sample("cluster_lease_seconds", left)
        yield Sample("cluster_members", members)
        yield Sample("cluster_shards", len(self._group.shards))
        yield Sample("cluster_shards_unowned", self._nobodys())
        yield from self.counts.samples()

    def owners(self) -> dict[str, int]:
        """How many shards each node has, as far as is known here."""
        found: dict[str, int] = {}
        for shard in range(self._group.shard_count):
            owner = self.owner_of(shard)
            if owner is not None:
                found[owner] = found.get(owner, 0) + 1
        return found

    def stop(self) -> None:
        self._stopping.set()
        if self._session is not None:
            self._session.leave()

    # -- for the group, and for those who forward

    def submit(self, at: int, records: list[ShardRecord]) -> None:
        assert self._session is not None
        self._session.submit(at, records)

    def owner_of(self, shard: int) -> str | None:
        return None if self._session is None else self._session.owner_of(shard)

    # -- the parts

    async def _one_session(self) -> None:
        ownership, journal = self._sessions()
        self._session = session = NodeSession(
            self.name,
            self._group,
            self._directory,
            ownership,
            journal,
            self._limits,
            changed=self._changed,
            every_entries=self._every_entries,
            counts=self.counts,
            follower=None if self._follow is None else self._follow(journal),
            beside=self._beside,
        )
        self.failure = ""
        await session.run()

    def _lost(self, error: Exception) -> None:
        self.counts.sessions_lost += 1
        self.failure = str(error)
        event(
            _log, logging.ERROR, "session lost: what was not answered is not, here",
            reason=error,
        )  # fmt: skip
        if self._forwarder is not None:
            self._forwarder.shards_lost()
        if self._answering is not None:
            # Who asked learns that its answers do not come, and asks the next owner.
            self._answering.close("the session is lost")

    def _changed(self) -> None:
        if self._forwarder is None or self._session is None:
            return
        addresses = others(self._session.ownership.members(), self.name)
        for lines in self._lines:
            lines.change(addresses)
        self._forwarder.owners_changed()
