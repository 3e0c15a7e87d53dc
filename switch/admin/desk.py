"""The operators' desk: what they ask for, done in the shards.

Rule 1: whatever is returned is released: the commit of a change, and of everything
        that it was made on, is durable.
Rule 2: an operation that comes with a key is done once. The key is in its entry; asked
        again, the answer is made from what was asked and what its entry left, so that
        it is the first one whatever has happened since.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from switch.admin import types
from switch.admin.errors import AdminError
from switch.keys.port import PanKeys
from switch.ledger import (
    ACCOUNT_STATUSES,
    CARD_STATUSES,
    Entry,
    OperationView,
    State,
    adjust,
    change_account_status,
    change_card_expiry,
    change_card_status,
    change_limit,
    issue_card,
    open_account,
    shard_of_account,
)
from switch.ledger.currencies import NUMBERS, letters_of
from switch.observe.log import mask_digits
from switch.openings import Attribution
from switch.shard._directory import CardDirectory
from switch.shard._group import CommitGroup

# What may stand between the digits of a card number, as the log knows it.
_PAN_SEPARATORS = str.maketrans("._/:", "----")

HASH_SIZE = 16

Changes = list[tuple[int, Entry]]


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

    async def open_account(
        self, who: str, body: types.OpenAccount, key: str | None = None
    ) -> types.Account:
        if body.currency not in NUMBERS:
            raise AdminError(422, "currency: expected one of ISO 4217, got another")
        told = self._attribution(who, body.reason)
        operation_key = _operation_key(who, key, "open_account", body)
        if self._done_before(operation_key) is None:
            state = self._state_of(body.account)
            entry = open_account(
                state, body.account, NUMBERS[body.currency], body.balance,
                body.credit_limit, operation_key=operation_key, **told,
            )  # fmt: skip
            self._write([(state.shard, entry)])
        await self._released()
        return types.Account(
            body.account, body.currency, body.balance, 0, body.credit_limit,
            body.balance + body.credit_limit, ACCOUNT_STATUSES[0],
        )  # fmt: skip

    async def change_account(
        self, who: str, name: str, body: types.ChangeAccount
    ) -> types.Account:
        if body.status is UNSET and body.credit_limit is UNSET:
            raise AdminError(422, "expected status, credit_limit or both, got neither")
        state = self._state_of(name)
        told = self._attribution(who, body.reason)
        changes: Changes = []
        if body.status is not UNSET:
            status = change_account_status(state, name, body.status, **told)
            changes += [] if status is None else [(state.shard, status)]
        if body.credit_limit is not UNSET:
            limit = change_limit(state, name, body.credit_limit, **told)
            changes += [] if limit is None else [(state.shard, limit)]
        self._write(changes)
        return await self.account(name)

    async def adjust(
        self, who: str, name: str, body: types.AdjustBalance, key: str | None = None
    ) -> types.Adjustment:
        told = self._attribution(who, body.reason)
        operation_key = _operation_key(who, key, "adjust", name, body)
        state = self._state_of(name)
        done = self._done_before(operation_key)
        if done is None:
            entry = adjust(
                state, name, body.amount, operation_key=operation_key, **told
            )
            self._write([(state.shard, entry)])
            sequence, balance = entry.sequence, entry.value
        else:
            sequence, balance = done.sequence, done.value
        currency = self._account(name).currency
        await self._released()
        identity = f"{state.shard}-{sequence}"
        return types.Adjustment(identity, name, currency, body.amount, balance)

    async def issue_card(
        self, who: str, body: types.IssueCard, key: str | None = None
    ) -> types.Card:
        return await self.issue_sealed(who, sealed(self._keys, body), key)

    async def issue_sealed(
        self, who: str, body: types.SealedCard, key: str | None = None
    ) -> types.Card:
        told = self._attribution(who, body.reason)
        pan_hash = bytes.fromhex(body.token)
        # The number itself is in no hash but the keyed one.
        asked = types.IssueCard(
            body.token, body.account, body.expiry, body.reason, body.status
        )
        operation_key = _operation_key(who, key, "issue_card", asked)
        if self._done_before(operation_key) is None:

            def entry_of(state: State) -> Entry:
                return issue_card(
                    state, pan_hash, body.sealed, body.account, int(body.expiry),
                    body.status, body.last_four, operation_key=operation_key, **told,
                )  # fmt: skip

            self._check_new(pan_hash)
            # Twice: nobody is told of the card before it can be issued.
            entry_of(self._state_of(body.account))
            await self._claim(pan_hash, body.account)
            state = self._state_of(body.account)
            self._write([(state.shard, entry_of(state))])
            self._directory.learn(pan_hash, state.shard)
        await self._released()
        return types.Card(
            body.token, body.account, body.last_four, body.expiry, body.status
        )

    async def change_card(
        self, who: str, token: str, body: types.ChangeCard
    ) -> types.Card:
        if body.status is UNSET and body.expiry is UNSET:
            raise AdminError(422, "expected status, expiry or both, got neither")
        pan_hash = bytes.fromhex(token)
        state = self._state_of_card(pan_hash)
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

    def _done_before(self, operation_key: bytes | None) -> OperationView | None:
        """What became of the same operation, if it was done already."""
        if operation_key is None:
            return None
        key, asked = operation_key[:HASH_SIZE], operation_key[HASH_SIZE:]
        now = self._clock()
        # In whichever shard it was: a key is used once, not once an account.
        for shard in self._group.shards:
            done = shard.state.operation(key, now)
            if done is not None:
                if done.asked != asked:
                    raise AdminError(
                        422,
                        "Idempotency-Key: expected a new one for another request, got "
                        "one that was used",
                    )
                return done
        return None

    def _write(self, changes: Changes) -> None:
        self._group.administer(changes, self._clock())

    async def _released(self) -> None:
        await released(self._group)

    def _attribution(self, who: str, reason: str) -> Attribution:
        return attribution(who, reason, self._clock())

    def _check_new(self, pan_hash: bytes) -> None:
        """Raises AdminError if the card is there already."""
        if self._state_of_card(pan_hash).has_card(pan_hash):
            raise AdminError(409, "pan: expected a new one, got one that is issued")

    async def _claim(self, pan_hash: bytes, account: str) -> None:
        """All shards are here, and have been looked into."""

    def _state_of(self, account: str) -> State:
        """Raises Elsewhere."""
        number = shard_of_account(account.encode(), self._group.shard_count)
        return self._group.shard(number).state

    def _state_of_card(self, pan_hash: bytes) -> State:
        """Of an unknown card, the one that remembers its number. Raises Elsewhere."""
        return self._group.shard(self._directory.shard(pan_hash)).state

    def _account(self, name: str) -> types.Account:
        found = self._state_of(name).account(name) if name.isascii() else None
        if found is None:
            # The name is not repeated: it may be a card number, pasted by mistake.
            raise AdminError(404, "expected an account that exists, got another name")
        return types.Account(
            found.account, letters_of(found.currency), found.balance, found.held,
            found.credit_limit, found.available, ACCOUNT_STATUSES[found.status],
        )  # fmt: skip

    def _card(self, pan_hash: bytes) -> types.Card:
        found = self._state_of_card(pan_hash).card(pan_hash)
        if found is None:
            raise AdminError(404, "expected the token of a card, got another")
        return types.Card(
            pan_hash.hex(), found.account, found.last_four, f"{found.expiry:04d}",
            CARD_STATUSES[found.status],
        )  # fmt: skip


def sealed(keys: PanKeys, body: types.IssueCard) -> types.SealedCard:
    ((pan_hash, seal),) = keys.seal_many([body.pan.encode()])
    return types.SealedCard(
        pan_hash.hex(), seal, body.pan[-4:], body.account, body.expiry, body.status,
        body.reason,
    )  # fmt: skip


def _operation_key(who: str, key: str | None, *asked: object) -> bytes | None:
    """Two hashes: of the key, which is its operator's own, and of what was asked."""
    if key is None:
        return None
    return _hash(f"{who} {key}".encode()) + _hash(msgspec.json.encode(asked))


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=HASH_SIZE).digest()


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
