"""Accounts and cards from CSV, into the shards of the running daemon.

Rule 1: all of a file or nothing of it. It is read and checked in slices, so that
        messages come in between, and written at once: its entries are in one commit.
Rule 2: so it is bounded. What is larger is imported while no daemon runs, or in parts.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Final, Protocol

from switch.admin.desk import Attribution, Changes, attribution, released
from switch.admin.errors import AdminError, ImportBad
from switch.keys.port import PanKeys
from switch.ledger import (
    CardIssued,
    ChangeRefused,
    State,
    issue_card,
    open_account,
    shard_of_account,
)
from switch.rows import (
    ACCOUNT_COLUMNS,
    CARD_COLUMNS,
    CardRow,
    ImportRefused,
    Once,
    Row,
    RowError,
    Rows,
    account_row,
    card_row,
)
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup

# Well below the entries that may wait for a commit, so that no request is refused for
# it; writing them takes some tens of milliseconds, and some megabytes of record.
IMPORT_ROWS_MAX: Final = 20_000
IMPORT_BYTES_MAX: Final = 4 << 20
# Rows between two looks at what else there is to do: a few milliseconds.
SLICE_ROWS: Final = 200

Slice = list[tuple[int, Row]]


class _Kind(Protocol):
    def take(self, piece: Slice, rows: Rows) -> Changes:
        """The entries of the rows that can be taken; tells `rows` of the others."""


class Importer:
    def __init__(
        self,
        group: CommitGroup,
        directory: CardDirectory,
        keys: PanKeys,
        clock: Callable[[], int],
    ) -> None:
        self._group = group
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._is_busy = False

    async def import_accounts(self, who: str, data: bytes, reason: str) -> int:
        """How many; raises ImportBad."""
        told = attribution(who, reason, self._clock())
        kind = _Accounts(self._directory.states, told)
        changes = await self._import(data, ACCOUNT_COLUMNS, kind)
        return len(changes)

    async def import_cards(self, who: str, data: bytes, reason: str) -> int:
        """How many; raises ImportBad."""
        told = attribution(who, reason, self._clock())
        kind = _Cards(self._directory, self._keys, told)
        changes = await self._import(data, CARD_COLUMNS, kind)
        return len(changes)

    async def _import(
        self, data: bytes, columns: tuple[str, ...], kind: _Kind
    ) -> Changes:
        if self._is_busy:
            raise AdminError(503, "expected one import at a time, got another one")
        self._is_busy = True
        try:
            changes = await self._prepare(data, columns, kind)
            self._group.administer(changes, self._clock())
            for shard, entry in changes:
                if isinstance(entry, CardIssued):
                    self._directory.learn(entry.pan_hash, shard)
            await released(self._group)
        finally:
            self._is_busy = False
        return changes

    async def _prepare(
        self, data: bytes, columns: tuple[str, ...], kind: _Kind
    ) -> Changes:
        text = io.TextIOWrapper(
            io.BytesIO(data), "utf-8-sig", errors="replace", newline=""
        )
        rows = Rows(text, columns)
        changes: Changes = []
        piece: Slice = []
        try:
            for numbered in rows:
                piece.append(numbered)
                if len(piece) == SLICE_ROWS:
                    changes += kind.take(piece, rows)
                    piece = []
                    await asyncio.sleep(0)
                if rows.count > IMPORT_ROWS_MAX:
                    raise AdminError(
                        413,
                        f"expected at most {IMPORT_ROWS_MAX:,} rows, got more: import "
                        "them in parts, or with the daemon stopped",
                    )
        except ImportRefused as refused:
            raise ImportBad(refused.problems, refused.count) from None
        changes += kind.take(piece, rows)
        if rows.problem_count:
            raise ImportBad(rows.problems, rows.problem_count)
        return changes


class _Accounts:
    def __init__(self, states: list[State], told: Attribution) -> None:
        self._states = states
        self._told = told
        self._names = Once("account")

    def take(self, piece: Slice, rows: Rows) -> Changes:
        changes: Changes = []
        for line, row in piece:
            try:
                read = account_row(row)
                self._names.take(read.name, line)
                state = self._states[shard_of_account(read.name, len(self._states))]
                entry = open_account(state, *read, **self._told)
            except (RowError, ChangeRefused) as error:
                rows.refuse(line, str(error))
            else:
                changes.append((state.shard, entry))
        return changes


class _Cards:
    def __init__(
        self, directory: CardDirectory, keys: PanKeys, told: Attribution
    ) -> None:
        self._directory = directory
        self._states = directory.states
        self._keys = keys
        self._told = told
        self._cards = Once("pan")

    def take(self, piece: Slice, rows: Rows) -> Changes:
        read: list[tuple[int, CardRow]] = []
        for line, row in piece:
            try:
                read.append((line, card_row(row)))
            except RowError as error:
                rows.refuse(line, str(error))
        sealed = self._keys.seal_many(card.pan for _, card in read)
        changes: Changes = []
        for (line, card), (pan_hash, seal) in zip(read, sealed, strict=True):
            try:
                self._cards.take(pan_hash, line)
                changes.append(self._change(card, pan_hash, seal))
            except (RowError, ChangeRefused) as error:
                rows.refuse(line, str(error))
        return changes

    def _change(
        self, card: CardRow, pan_hash: bytes, seal: bytes
    ) -> tuple[int, CardIssued]:
        if self._states[self._directory.shard(pan_hash)].has_card(pan_hash):
            raise RowError("pan: expected a new one, got one that is issued")
        state = self._states[shard_of_account(card.account, len(self._states))]
        entry = issue_card(
            state, pan_hash, seal, card.account, card.expiry, card.status,
            card.pan[-4:].decode(), **self._told,
        )  # fmt: skip
        return state.shard, entry
