"""The read model of a whole cluster, on one of its nodes: the same rows, and a position
in each shard's log.

Rule: what is known of a shard from a state (`base`) is not added up again: of entries
      up to there only the rows of transactions are made.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import apsw
import msgspec

from switch.journal.cassandra.all_shards import Reached
from switch.journal.cassandra.publishers import Published
from switch.journal.port import Commit
from switch.ledger import ACCOUNT_STATUSES, CARD_STATUSES, State
from switch.ledger.currencies import letters_of
from switch.projection import schema
from switch.projection.readmodel import ReadModel, Row

# A cluster's journal is not at one place, that a position could be beyond.
_NO_HEAD = 2**63 - 1


class ClusterReadModel(ReadModel):
    """`position` is how many entries are in. `take_shards` is given what is behind
    `reached`, in order."""

    def __init__(self, path: str | os.PathLike[str], *, identity: bytes) -> None:
        super().__init__(path, journal_identity=identity, journal_head=_NO_HEAD)
        self.reached = {
            shard: Reached(position and _decode(position), base)
            for shard, position, base in self._connection.execute(schema.READ_SHARDS)
        }

    def take_shards(
        self, commits: Sequence[Commit], positions: Mapping[int, Published]
    ) -> None:
        reached = self.reached | {
            shard: Reached(position, self._base(shard))
            for shard, position in positions.items()
        }
        with self._changing():
            bases = {shard: each.base for shard, each in reached.items()}
            self._write(commits, _entries(reached), bases)
            self._write_shards(positions, reached)
        self._reach(reached)

    def begin_from(self, state: State) -> None:
        """Accounts and cards are as in the state, which is behind everything that is
        in of its shard, and is not told again."""
        shard = state.shard
        published = self.reached.get(shard, Reached()).published
        reached = self.reached | {shard: Reached(published, state.sequence)}
        with self._changing():
            self._expect_position()
            connection = self._connection
            connection.executemany(schema.REPLACE_ACCOUNT, _accounts(state))
            connection.executemany(schema.REPLACE_CARD, _cards(state))
            self._write_shards([shard], reached)
        self._reach(reached)

    def _base(self, shard: int) -> int:
        return self.reached.get(shard, Reached()).base

    def _reach(self, reached: dict[int, Reached]) -> None:
        self.reached = reached
        self.position = _entries(reached)

    def _write_shards(
        self, shards: Iterable[int], reached: Mapping[int, Reached]
    ) -> None:
        self._connection.executemany(
            schema.WRITE_SHARD, [_shard_row(shard, reached[shard]) for shard in shards]
        )

    def _create_more(self, connection: apsw.Connection) -> None:
        connection.execute(schema.SHARDS)


def _entries(reached: Mapping[int, Reached]) -> int:
    return sum(each.sequence for each in reached.values())


def _decode(position: bytes) -> Published:
    return msgspec.msgpack.decode(position, type=Published)


def _shard_row(shard: int, reached: Reached) -> Row:
    published = reached.published
    position = None if published is None else msgspec.msgpack.encode(published)
    return shard, reached.sequence, reached.base, position


def _accounts(state: State) -> Iterable[Row]:
    for view in state.accounts():
        yield (
            view.account,
            state.shard,
            letters_of(view.currency),
            view.balance,
            view.held,
            view.credit_limit,
            ACCOUNT_STATUSES[view.status],
        )


def _cards(state: State) -> Iterable[Row]:
    for pan_hash in state.card_hashes():
        view = state.card(pan_hash)
        assert view is not None
        yield (
            pan_hash.hex(),
            view.account,
            view.last_four,
            f"{view.expiry:04d}",
            CARD_STATUSES[view.status],
        )
