"""What a cluster keeps in Cassandra beside the journal: which shard a card is in, rows
of accounts for whoever looks, and what all nodes have agreed on.

Rule 1: a card has one row, written once: who issues it claims it first, on the
        condition that nobody has. A claim whose card was never issued says where it
        would be, and does no harm.
Rule 2: rows of accounts are written behind the journal, of what was released, with the
        sequence of the shard as their timestamp: of two, the later one stays, whoever
        writes it and however late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import acsylla
import msgspec

from switch.journal.cassandra.acsylla_store import AcsyllaStore
from switch.journal.cassandra.retrying import PATIENCE, settled

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS cards (
        pan_hash blob PRIMARY KEY, account text, shard int)""",
    """CREATE TABLE IF NOT EXISTS accounts (
        account text PRIMARY KEY, shard int, currency int, balance bigint,
        held bigint, credit_limit bigint, available bigint, status int,
        sequence bigint)""",
)
_COLUMNS: Final = (
    "account, shard, currency, balance, held, credit_limit, available, status, sequence"
)
_PLAIN: Final = {
    "read_card": "SELECT shard FROM cards WHERE pan_hash = ?",
    "write_account": (
        "INSERT INTO accounts (account, shard, currency, balance, held, credit_limit, "
        "available, status, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "USING TIMESTAMP ?"
    ),
    "read_account": f"SELECT {_COLUMNS} FROM accounts WHERE account = ?",
}
_CONDITIONAL: Final = {
    "claim_card": (
        "INSERT INTO cards (pan_hash, account, shard) VALUES (?, ?, ?) IF NOT EXISTS"
    ),
}
# Of what conditional statements decide.
_SERIAL: Final = {"read_claim": "SELECT account FROM cards WHERE pan_hash = ?"}


class AccountRow(msgspec.Struct, frozen=True):
    """As of entry `sequence` of the shard."""

    account: str
    shard: int
    currency: int
    balance: int
    held: int
    credit_limit: int
    available: int
    status: int
    sequence: int


class ClusterStore(AcsyllaStore):
    async def create(self) -> None:
        await super().create()
        for table in _TABLES:
            await self._query(table)

    async def open(self) -> None:
        await super().open()
        for name, text in {**_PLAIN, **_CONDITIONAL, **_SERIAL}.items():
            if name not in self._prepared:
                self._prepared[name] = await self._asked(
                    name, self._session.create_prepared(text)
                )

    async def agreed(self, name: str) -> str | None:
        """What all nodes have under a name, if they have. Tried for a while: nodes that
        begin at once ask for the same, in turn, and one may have no turn in time."""
        rows = await settled(lambda: self._rows("read_meta", name), PATIENCE)
        return str(rows[0][0]) if rows else None

    # -- cards

    async def claim_card(self, pan_hash: bytes, shard: int, account: str) -> bool:
        """Whether the card is this account's, for ever: now, or since before. So it
        may be tried again while the outcome is unknown. Raises JournalUnknown."""

        async def attempt() -> bool:
            if await self._conditional("claim_card", pan_hash, account, shard):
                return True
            return await self._claimed_by(pan_hash) == account

        return await settled(attempt, PATIENCE)

    async def _claimed_by(self, pan_hash: bytes) -> str | None:
        statement = self._bound("read_claim", [pan_hash])
        statement.set_is_idempotent(True)
        statement.set_consistency(acsylla.Consistency.LOCAL_SERIAL)
        result = await self._asked("read_claim", self._session.execute(statement))
        row = result.first()
        return None if row is None else str(row.as_list()[0])

    async def shard_of(self, pan_hash: bytes) -> int | None:
        """See `switch.peer.port.CardLookup`."""
        rows = await self._rows("read_card", pan_hash)
        return rows[0][0] if rows else None

    # -- accounts

    async def write_accounts(self, rows: Sequence[AccountRow]) -> None:
        """In one statement, but not as one: some may be there and others not."""
        batch = acsylla.create_batch_unlogged()
        batch.set_is_idempotent(True)
        for row in rows:
            values = (*msgspec.structs.astuple(row), row.sequence)
            batch.add_statement(self._bound("write_account", values))
        await self._asked("write_account", self._session.execute_batch(batch))

    async def read_account(self, account: str) -> AccountRow | None:
        rows = await self._rows("read_account", account)
        return AccountRow(*rows[0]) if rows else None
