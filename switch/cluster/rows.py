"""Rows of accounts for whoever looks, written behind the journal by the owner of their
shard. Nothing is answered from them.

Rule 1: a row is of what was told, and has the shard's sequence as its timestamp: an
        older one, however late it arrives, changes nothing.
Rule 2: a shard's mark says up to which entry all rows are there. Who takes the shard
        reads on from it, and writes what its former owner did not get to.
Rule 3: it takes a bounded part of Cassandra: an account that changes often is written
        now and then, as it is by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from switch.journal.cassandra.cluster_store import AccountRow
from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.errors import JournalError
from switch.journal.port import ShardRecord
from switch.ledger import State, decode_entries
from switch.observe.log import event
from switch.observe.metrics import Sample

NAME: Final = "accounts"
INTERVAL_S: Final = 0.5
ROWS_AT_ONCE_MAX: Final = 256
# In one statement, of which one is under way. Cassandra warns of more than ten.
BATCH_ROWS_MAX: Final = 10
# After rows were written it rests so many times as long, whatever is behind; but not
# long: what takes seconds has waited for Cassandra, and cost it nothing.
RESTS: Final = 19
REST_S_MAX: Final = 10.0
# Between two marks of a shard: the next owner writes rows of that time again.
MARK_S: Final = 5.0
# Records that were told and not looked at; of the shards of further ones all rows are
# written again.
RECORDS_MAX: Final = 4096

_log = logging.getLogger("switch.cluster")


class RowStore(Protocol):
    async def write_accounts(self, rows: Sequence[AccountRow]) -> None: ...


class Marks(Protocol):
    """Of the session: `switch.journal.cassandra.node_session.CassandraSession`."""

    @property
    def position(self) -> object: ...

    async def unmarked(self, name: str, shard: int) -> list[ShardRecord] | None:
        """What the shard had behind the mark when it came here; None if that is not
        known."""

    async def mark(
        self, name: str, shard: int, sequence: int, position: object
    ) -> None: ...


class AccountRows:
    """See `switch.cluster.port.Follower`."""

    def __init__(
        self,
        store: RowStore,
        marks: Marks,
        all_told: Callable[[], Awaitable[None]],
        patience: Patience = PATIENCE,
    ) -> None:
        """`all_told()` returns when everything that has been decided is told."""
        self.written = 0
        self._whole_at = asyncio.get_running_loop().time()
        self._store = store
        self._marks = marks
        self._all_told = all_told
        self._patience = patience
        self._states: dict[int, State] = {}
        self._told_to: dict[int, int] = {}
        self._marked_to: dict[int, int] = {}
        self._mark_due: dict[int, float] = {}
        self._new: set[int] = set()
        self._whole: set[int] = set()
        self._records: list[ShardRecord] = []
        # By shard, the names of accounts whose rows are behind.
        self._behind: defaultdict[int, dict[str, None]] = defaultdict(dict)

    def opened(self, state: State) -> None:
        shard = state.shard
        self._states[shard] = state
        self._told_to[shard] = state.sequence
        self._marked_to[shard] = -1
        self._new.add(shard)

    def closed(self, shard: int) -> None:
        del self._states[shard]
        del self._told_to[shard]
        del self._marked_to[shard]
        self._mark_due.pop(shard, None)
        self._new.discard(shard)
        self._whole.discard(shard)
        self._behind.pop(shard, None)

    def told(self, records: Sequence[ShardRecord]) -> None:
        for record in records:
            if record.shard in self._states:
                last = record.first_sequence + record.count - 1
                self._told_to[record.shard] = last
        if len(self._records) + len(records) > RECORDS_MAX:
            self._whole |= {record.shard for record in records} & self._states.keys()
        else:
            self._records += records

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        rest_s = INTERVAL_S
        while True:
            await asyncio.sleep(rest_s)
            began_at = loop.time()
            try:
                await self.write()
            except JournalError as error:
                event(_log, logging.WARNING, "rows of accounts are late", reason=error)
            rest_s = RESTS * (loop.time() - began_at)
            rest_s = min(max(rest_s, INTERVAL_S), REST_S_MAX)

    async def write(self) -> None:
        """What is behind, or a part of it."""
        for shard in sorted(self._new):
            records = await self._marks.unmarked(NAME, shard)
            if shard not in self._new:
                continue
            self._new.discard(shard)
            if records is None:
                self._whole.add(shard)
            else:
                self._records += records
        self._look()
        told_to, position = dict(self._told_to), self._marks.position
        rows = self._rows()
        if rows:
            await self._all_told()
            for at in range(0, len(rows), BATCH_ROWS_MAX):
                await self._write(rows[at : at + BATCH_ROWS_MAX])
        whole_at = asyncio.get_running_loop().time()
        for shard, sequence in told_to.items():
            await self._mark(shard, sequence, position)
        if all(self._marked_to.get(n, last) >= last for n, last in told_to.items()):
            self._whole_at = whole_at

    def samples(self) -> Iterator[Sample]:
        """For a scrape."""
        behind = sum(
            last - max(self._marked_to[shard], 0)
            for shard, last in self._told_to.items()
        )
        late = asyncio.get_running_loop().time() - self._whole_at if behind else 0.0
        yield Sample("rows_written", self.written)
        yield Sample("rows_lag_entries", behind)
        yield Sample("rows_lag_seconds", late)

    def _look(self) -> None:
        """Whose rows are behind, by what was told."""
        for shard in self._whole:
            views = self._states[shard].accounts()
            self._behind[shard] |= dict.fromkeys(view.account for view in views)
        self._whole.clear()
        records, self._records = self._records, []
        for record in records:
            if record.shard in self._states:
                self._behind[record.shard] |= dict.fromkeys(_accounts(record))

    def _rows(self) -> list[AccountRow]:
        rows: list[AccountRow] = []
        for shard, names in self._behind.items():
            state = self._states[shard]
            for name in names:
                if len(rows) == ROWS_AT_ONCE_MAX:
                    return rows
                rows.append(_row(state, name))
        return rows

    async def _write(self, rows: Sequence[AccountRow]) -> None:
        await settled(lambda: self._store.write_accounts(rows), self._patience)
        self.written += len(rows)
        for row in rows:
            self._behind.get(row.shard, {}).pop(row.account, None)

    async def _mark(self, shard: int, sequence: int, position: object) -> None:
        """Unless there is more of it, told before, that is not written."""
        is_new = sequence > self._marked_to.get(shard, sequence)
        now = asyncio.get_running_loop().time()
        if not is_new or now < self._mark_due.get(shard, now):
            return
        if shard not in self._new and not self._behind.get(shard):
            self._marked_to[shard] = sequence
            self._mark_due[shard] = now + MARK_S
            await self._marks.mark(NAME, shard, sequence, position)


def _accounts(record: ShardRecord) -> Iterable[str]:
    for entry in decode_entries(record.payload, record.first_sequence):
        account = getattr(entry, "account", "")
        if account:
            yield account


def _row(state: State, name: str) -> AccountRow:
    view = state.account(name)
    assert view is not None
    return AccountRow(
        name,
        state.shard,
        view.currency,
        view.balance,
        view.held,
        view.credit_limit,
        view.available,
        view.status,
        state.sequence,
    )
