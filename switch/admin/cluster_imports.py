"""Files over HTTP into a cluster, whichever node they come to.

Rule 1: the file is checked to its end before anything of it is written, and waits in a
        spool until then, card numbers hashed and sealed. What is open or issued already
        is with the shards, and found when it is written.
Rule 2: it is written in pieces, as `switch.cluster_pieces` does it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from switch.admin.calls import AccountToOpen, CardToIssue
from switch.admin.imports import WRITE_ROWS, Imports, Pace, Wanted
from switch.admin.spool import Spool
from switch.keys.port import PanKeys
from switch.ledger import shard_of_account
from switch.openings import Openings, Piece
from switch.rows import (
    ACCOUNT_COLUMNS,
    CARD_COLUMNS,
    Row,
    RowError,
    Rows,
    account_row,
    sealed_cards,
)


class Pieces(Protocol):
    """Raises AdminError when a piece cannot be written."""

    imported: int
    existing: int

    async def take(
        self, shard: int, line: int, row: AccountToOpen | CardToIssue
    ) -> None: ...

    async def finish(self) -> None: ...


class ClusterImporter(Imports):
    def __init__(
        self,
        keys: PanKeys,
        shard_count: int,
        clock: Callable[[], int],
        folder: Path,
        pieces: Callable[[Wanted], Pieces],
    ) -> None:
        super().__init__(clock, folder)
        self._keys = keys
        self._shard_count = shard_count
        self._pieces = pieces

    def _openings(self, wanted: Wanted, spool: Spool) -> Openings:
        if wanted.what == "accounts":
            return _Accounts(spool, self._shard_count)
        return _Cards(spool, self._shard_count, self._keys)

    async def _write(self, wanted: Wanted, spool: Spool) -> None:
        kind = AccountToOpen if wanted.what == "accounts" else CardToIssue
        decoder = msgspec.msgpack.Decoder[AccountToOpen | CardToIssue](kind)
        pieces, pace = self._pieces(wanted), Pace()
        try:
            for line, shard, data in spool.packed(WRITE_ROWS):
                await pieces.take(shard, line, decoder.decode(data))
                self._set(imported=pieces.imported, existing=pieces.existing)
                await pace.turn()
            await pieces.finish()
        finally:
            self._set(imported=pieces.imported, existing=pieces.existing)


class _Waiting:
    """`switch.openings.Openings` without the shards."""

    def __init__(self, spool: Spool, shard_count: int) -> None:
        self.existing = 0
        self._spool = spool
        self._shard_count = shard_count
        self._encode = msgspec.msgpack.Encoder().encode

    def _keep(self, line: int, row: AccountToOpen | CardToIssue) -> None:
        shard = shard_of_account(row.account.encode(), self._shard_count)
        self._spool.keep_packed(line, shard, self._encode(row))


class _Accounts(_Waiting):
    columns = ACCOUNT_COLUMNS

    def take(self, piece: Piece, rows: Rows) -> None:
        for line, row in piece:
            try:
                self._take(line, row)
            except RowError as error:
                rows.refuse(line, str(error))

    def _take(self, line: int, row: Row) -> None:
        read = account_row(row)
        self._spool.once(read.name, line)
        self._keep(line, AccountToOpen.of(read))


class _Cards(_Waiting):
    columns = CARD_COLUMNS

    def __init__(self, spool: Spool, shard_count: int, keys: PanKeys) -> None:
        super().__init__(spool, shard_count)
        self._keys = keys

    def take(self, piece: Piece, rows: Rows) -> None:
        for line, card, pan_hash, seal in sealed_cards(piece, rows, self._keys):
            try:
                self._spool.once(pan_hash, line)
            except RowError as error:
                rows.refuse(line, str(error))
                continue
            self._keep(line, CardToIssue.of(card, pan_hash, seal))
