"""The operators' desk: what they ask for, done in the shards.

Rule 1: whatever is returned is released: the commit of a change, and of everything
        that it was made on, is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypedDict

from msgspec import UNSET

from switch.admin import types
from switch.admin.errors import AdminError
from switch.keys.port import PanKeys
from switch.ledger import (
    CARD_STATUSES,
    Entry,
    State,
    adjust,
    change_card_expiry,
    change_card_status,
    change_limit,
    issue_card,
    open_account,
    shard_of_account,
)
from switch.ledger.currencies import NUMBERS, letters_of
from switch.observe.log import mask_digits
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup

# What may stand between the digits of a card number, as the log knows it.
_PAN_SEPARATORS = str.maketrans("._/:", "----")

Changes = list[tuple[int, Entry]]


class Attribution(TypedDict):
    operator: str
    reason: str
    now: int


class Desk:
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
        self._states = directory.states

    # -- looking

    async def account(self, name: str) -> types.Account:
        found = self._account(name)
        await self._released()
        return found

    async def card(self, token: str) -> types.Card:
        found = self._card(bytes.fromhex(token))
        await self._released()
        return found

    # -- changing

    async def open_account(self, who: str, body: types.OpenAccount) -> types.Account:
        if body.currency not in NUMBERS:
            raise AdminError(422, "currency: expected one of ISO 4217, got another")
        state = self._state_of(body.account)
        entry = open_account(
            state, body.account, NUMBERS[body.currency], body.balance,
            body.credit_limit, **self._attribution(who, body.reason),
        )  # fmt: skip
        self._write([(state.shard, entry)])
        return await self.account(body.account)

    async def change_account(
        self, who: str, name: str, body: types.ChangeAccount
    ) -> types.Account:
        state = self._state_of(name)
        entry = change_limit(
            state, name, body.credit_limit, **self._attribution(who, body.reason)
        )
        if entry is not None:
            self._write([(state.shard, entry)])
        return await self.account(name)

    async def adjust(
        self, who: str, name: str, body: types.AdjustBalance
    ) -> types.Adjustment:
        state = self._state_of(name)
        entry = adjust(state, name, body.amount, **self._attribution(who, body.reason))
        self._write([(state.shard, entry)])
        identity = f"{state.shard}-{entry.sequence}"
        return types.Adjustment(identity, body.amount, await self.account(name))

    async def issue_card(self, who: str, body: types.IssueCard) -> types.Card:
        ((pan_hash, sealed),) = self._keys.seal_many([body.pan.encode()])
        if self._states[self._directory.shard(pan_hash)].has_card(pan_hash):
            raise AdminError(409, "pan: expected a new one, got one that is issued")
        state = self._state_of(body.account)
        entry = issue_card(
            state, pan_hash, sealed, body.account, int(body.expiry), body.status,
            body.pan[-4:], **self._attribution(who, body.reason),
        )  # fmt: skip
        self._write([(state.shard, entry)])
        self._directory.learn(pan_hash, state.shard)
        return await self.card(pan_hash.hex())

    async def change_card(
        self, who: str, token: str, body: types.ChangeCard
    ) -> types.Card:
        if body.status is UNSET and body.expiry is UNSET:
            raise AdminError(422, "expected status, expiry or both, got neither")
        pan_hash = bytes.fromhex(token)
        state = self._states[self._directory.shard(pan_hash)]
        attribution = self._attribution(who, body.reason)
        changes: Changes = []
        if body.status is not UNSET:
            status = change_card_status(state, pan_hash, body.status, **attribution)
            changes += [] if status is None else [(state.shard, status)]
        if body.expiry is not UNSET:
            expiry = change_card_expiry(
                state, pan_hash, int(body.expiry), **attribution
            )
            changes += [] if expiry is None else [(state.shard, expiry)]
        self._write(changes)
        return await self.card(token)

    # -- the parts

    def _write(self, changes: Changes) -> None:
        self._group.administer(changes, self._clock())

    async def _released(self) -> None:
        await released(self._group)

    def _attribution(self, who: str, reason: str) -> Attribution:
        return attribution(who, reason, self._clock())

    def _state_of(self, account: str) -> State:
        return self._states[shard_of_account(account.encode(), len(self._states))]

    def _account(self, name: str) -> types.Account:
        found = self._state_of(name).account(name) if name.isascii() else None
        if found is None:
            # The name is not repeated: it may be a card number, pasted by mistake.
            raise AdminError(404, "expected an account that exists, got another name")
        return types.Account(
            found.account, letters_of(found.currency), found.balance, found.held,
            found.credit_limit, found.available,
        )  # fmt: skip

    def _card(self, pan_hash: bytes) -> types.Card:
        found = self._states[self._directory.shard(pan_hash)].card(pan_hash)
        if found is None:
            raise AdminError(404, "expected the token of a card, got another")
        return types.Card(
            pan_hash.hex(), found.account, found.last_four, f"{found.expiry:04d}",
            CARD_STATUSES[found.status],
        )  # fmt: skip


async def released(group: CommitGroup) -> None:
    """Until everything decided so far is released. Raises what stopped the journal."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    group.wait(future)
    await future


def attribution(who: str, reason: str, now: int) -> Attribution:
    """Who and why, for the entries. Raises AdminError for a reason that may not be
    kept: it is read by many, and for ever."""
    if mask_digits(reason.translate(_PAN_SEPARATORS)) != reason.translate(
        _PAN_SEPARATORS
    ):
        raise AdminError(
            422, "reason: expected no card number, got what looks like one"
        )
    return {"operator": who, "reason": reason, "now": now}
