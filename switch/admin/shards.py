"""Operators' calls, done in the shards that are here: what a node answers to others.

Rule 1: an answer is of what is released. What ends it midway (a lost session) answers
        nothing, and whoever asked does not know.
Rule 2: a card is claimed for its account, where all nodes look, before it is issued: no
        two accounts get the same one, whichever nodes they are on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from switch.admin.calls import (
    DONE,
    AccountToOpen,
    CardToIssue,
    Imported,
    pack_result,
    read_call,
)
from switch.admin.desk import Changes, Desk, released
from switch.admin.errors import STATUS_OF, AdminError
from switch.keys.port import PanKeys
from switch.ledger import (
    CardIssued,
    ChangeRefused,
    Entry,
    State,
    issue_card,
    open_account,
    shard_of_account,
)
from switch.openings import Attribution
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup, OverCapacity
from switch.shard.errors import Elsewhere

# Claims of one call that are under way at once.
CLAIMS_MAX: Final = 32

_UNKNOWN_CARD = "expected the token of a card, got another"
_NOT_NEW = "pan: expected a new one, got one that is issued"

Kept = list[tuple[int, Entry]]


class CardClaims(Protocol):
    async def claim_card(self, pan_hash: bytes, shard: int, account: str) -> bool:
        """Whether the card is this account's, for ever. May be asked again."""


class ShardDesk(Desk):
    """The desk of a node: it has some of the shards."""

    def __init__(
        self,
        group: CommitGroup,
        directory: CardDirectory,
        keys: PanKeys,
        clock: Callable[[], int],
        claims: CardClaims,
    ) -> None:
        super().__init__(group, directory, keys, clock)
        self._claims = claims

    async def answer(self, shard: int, body: bytes) -> bytes:
        """See `switch.peer.calls.AnswerHere`."""
        self._group.shard(shard)
        try:
            name, arguments = read_call(body)
            result = await getattr(self, name)(*arguments)
        except AdminError as error:
            return pack_result(error.status, str(error))
        except ChangeRefused as error:
            return pack_result(STATUS_OF[error.why], str(error))
        except OverCapacity as error:
            return pack_result(503, str(error))
        return pack_result(DONE, result)

    # -- what differs from a desk that has all shards

    def _check_new(self, pan_hash: bytes) -> None:
        """Those of other nodes are found when it is claimed."""
        with suppress(Elsewhere):
            super()._check_new(pan_hash)

    async def _claim(self, pan_hash: bytes, account: str) -> None:
        if not await self._is_claimed(pan_hash, account):
            raise AdminError(409, _NOT_NEW)

    async def _is_claimed(self, pan_hash: bytes, account: str) -> bool:
        shard = shard_of_account(account.encode(), self._group.shard_count)
        return await self._claims.claim_card(pan_hash, shard, account)

    def _state_of_card(self, pan_hash: bytes) -> State:
        """The call came to the shard that the card is in, if it is in any."""
        try:
            return super()._state_of_card(pan_hash)
        except Elsewhere:
            raise AdminError(404, _UNKNOWN_CARD) from None

    # -- imports

    async def import_accounts(
        self, rows: Sequence[AccountToOpen], skip_existing: bool, who: str, reason: str
    ) -> Imported:
        told = self._import_attribution(who, reason)
        kept: Kept = []
        problems: list[tuple[int, str]] = []
        existing = 0
        for index, row in enumerate(rows):
            state = self._state_of(row.account)
            found = state.account(row.account)
            if found is not None and skip_existing and found.currency == row.currency:
                existing += 1
                continue
            try:
                entry = open_account(
                    state, row.account, row.currency, row.balance, row.credit_limit,
                    **told,
                )  # fmt: skip
            except ChangeRefused as error:
                problems.append((index, str(error)))
            else:
                kept.append((state.shard, entry))
        if problems:
            return Imported(0, 0, problems)
        await self._write_all(kept)
        return Imported(len(kept), existing)

    async def import_cards(
        self, rows: Sequence[CardToIssue], skip_existing: bool, who: str, reason: str
    ) -> Imported:
        told = self._import_attribution(who, reason)
        problems: list[tuple[int, str]] = []
        left: list[tuple[int, CardToIssue]] = []
        existing = 0
        for index, row in enumerate(rows):
            state = self._state_of(row.account)
            found = state.card(row.pan_hash)
            if found is not None and skip_existing and found.account == row.account:
                existing += 1
                continue
            try:
                self._entry_of(row, told)
            except ChangeRefused as error:
                problems.append((index, str(error)))
            else:
                left.append((index, row))
        if not problems:
            problems = await self._claim_all(left)
        if problems:
            return Imported(0, 0, problems)
        await self._write_all([self._entry_of(row, told) for _, row in left])
        return Imported(len(left), existing)

    def _import_attribution(self, who: str, reason: str) -> Attribution:
        return {"operator": who, "reason": reason, "now": self._clock()}

    def _entry_of(self, row: CardToIssue, told: Attribution) -> tuple[int, Entry]:
        state = self._state_of(row.account)
        return state.shard, issue_card(
            state, row.pan_hash, row.sealed, row.account, row.expiry, row.status,
            row.last_four, **told,
        )  # fmt: skip

    async def _claim_all(
        self, rows: Sequence[tuple[int, CardToIssue]]
    ) -> list[tuple[int, str]]:
        slots = asyncio.Semaphore(CLAIMS_MAX)

        async def is_claimed(row: CardToIssue) -> bool:
            async with slots:
                return await self._is_claimed(row.pan_hash, row.account)

        done = await asyncio.gather(*(is_claimed(row) for _, row in rows))
        return [
            (index, _NOT_NEW)
            for (index, _), is_ours in zip(rows, done, strict=True)
            if not is_ours
        ]

    async def _write_all(self, changes: Changes) -> None:
        while changes:
            try:
                self._write(changes)
                break
            except OverCapacity:
                await released(self._group)
        for shard, entry in changes:
            if isinstance(entry, CardIssued):
                self._directory.learn(entry.pan_hash, shard)
        await self._released()
