"""From the rows of a file to entries: accounts to open, cards to issue.

Rule 1: rows are looked at here, and nothing is changed. `once` raises RowError for what
        the file has had in a line before; `keep` takes the entries of the others.
Rule 2: what is there already is a bad row. With `skip_existing` it is passed over and
        counted, if it is the same account or card: so a file can go on where it was
        broken off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypedDict

from switch.keys.port import PanKeys
from switch.ledger import (
    ChangeRefused,
    Entry,
    State,
    issue_card,
    open_account,
    shard_of_account,
)
from switch.rows import (
    ACCOUNT_COLUMNS,
    CARD_COLUMNS,
    CardRow,
    Row,
    RowError,
    Rows,
    account_row,
    sealed_cards,
)
from switch.shard._directory import CardDirectory

Piece = list[tuple[int, Row]]
# What is opened or issued (a name, or the hash of a card number), and the line.
Once = Callable[[bytes, int], None]
Keep = Callable[[int, State, Entry], None]


class Attribution(TypedDict):
    operator: str
    reason: str
    now: int


class Openings(Protocol):
    existing: int

    @property
    def columns(self) -> tuple[str, ...]: ...

    def take(self, piece: Piece, rows: Rows) -> None:
        """Keeps the entries of the rows that can be taken; tells `rows` of the
        others."""


class AccountOpenings:
    columns: Final[tuple[str, ...]] = ACCOUNT_COLUMNS

    def __init__(
        self,
        states: list[State],
        told: Attribution,
        once: Once,
        keep: Keep,
        *,
        skip_existing: bool,
    ) -> None:
        self.existing = 0
        self._states = states
        self._told = told
        self._once = once
        self._keep = keep
        self._skips = skip_existing

    def take(self, piece: Piece, rows: Rows) -> None:
        for line, row in piece:
            try:
                self._take(line, row)
            except (RowError, ChangeRefused) as error:
                rows.refuse(line, str(error))

    def _take(self, line: int, row: Row) -> None:
        read = account_row(row)
        self._once(read.name, line)
        state = self._states[shard_of_account(read.name, len(self._states))]
        if self._skips:
            found = state.account(read.name.decode())
            if found is not None:
                if found.currency != read.currency:
                    raise RowError(
                        "currency: expected that of the account that is open, got "
                        "another"
                    )
                self.existing += 1
                return
        self._keep(line, state, open_account(state, *read, **self._told))


class CardOpenings:
    """Card numbers are hashed and sealed by the piece, which is faster."""

    columns: Final[tuple[str, ...]] = CARD_COLUMNS

    def __init__(
        self,
        directory: CardDirectory,
        keys: PanKeys,
        told: Attribution,
        once: Once,
        keep: Keep,
        *,
        skip_existing: bool,
    ) -> None:
        self.existing = 0
        self._directory = directory
        self._states = directory.states
        self._keys = keys
        self._told = told
        self._once = once
        self._keep = keep
        self._skips = skip_existing

    def take(self, piece: Piece, rows: Rows) -> None:
        for line, card, pan_hash, seal in sealed_cards(piece, rows, self._keys):
            try:
                self._take(line, card, pan_hash, seal)
            except (RowError, ChangeRefused) as error:
                rows.refuse(line, str(error))

    def _take(self, line: int, card: CardRow, pan_hash: bytes, seal: bytes) -> None:
        self._once(pan_hash, line)
        found = self._states[self._directory.shard(pan_hash)].card(pan_hash)
        if found is not None:
            if not self._skips:
                raise RowError("pan: expected a new one, got one that is issued")
            if found.account != card.account.decode():
                raise RowError("pan: expected one of this account, got another's")
            self.existing += 1
            return
        state = self._states[shard_of_account(card.account, len(self._states))]
        entry = issue_card(
            state, pan_hash, seal, card.account, card.expiry, card.status,
            card.pan[-4:].decode(), **self._told,
        )  # fmt: skip
        self._keep(line, state, entry)
