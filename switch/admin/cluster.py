"""The operators' desk on a node of a cluster: each operation goes to the shard that it
is about, wherever that is."""

from __future__ import annotations

from typing import Any, Protocol

from switch.admin import types
from switch.admin.calls import CALLS, pack_call, read_result
from switch.admin.desk import sealed
from switch.admin.errors import AdminError
from switch.keys.port import PanKeys
from switch.ledger import shard_of_account


class Calls(Protocol):
    async def call(self, shard: int, body: bytes, *, may_repeat: bool) -> bytes:
        """Raises AdminError when there is no answer."""


class Cards(Protocol):
    async def shard_of(self, pan_hash: bytes) -> int | None:
        """Raises JournalError."""


class ClusterDesk:
    """As `switch.admin.desk.Desk`, to whoever asks."""

    def __init__(
        self, calls: Calls, cards: Cards, keys: PanKeys, shard_count: int
    ) -> None:
        self._calls = calls
        self._cards = cards
        self._keys = keys
        self._shard_count = shard_count

    async def account(self, name: str) -> types.Account:
        if not name.isascii():
            raise AdminError(404, "expected an account that exists, got another name")
        found: types.Account = await self._ask(name, "account", name)
        return found

    async def card(self, token: str) -> types.Card:
        found: types.Card = await self._ask_card(token, "card", token)
        return found

    async def open_account(
        self, who: str, body: types.OpenAccount, key: str | None = None
    ) -> types.Account:
        found: types.Account = await self._ask(
            body.account, "open_account", who, body, key
        )
        return found

    async def change_account(
        self, who: str, name: str, body: types.ChangeAccount
    ) -> types.Account:
        found: types.Account = await self._ask(name, "change_account", who, name, body)
        return found

    async def adjust(
        self, who: str, name: str, body: types.AdjustBalance, key: str | None = None
    ) -> types.Adjustment:
        found: types.Adjustment = await self._ask(name, "adjust", who, name, body, key)
        return found

    async def issue_card(
        self, who: str, body: types.IssueCard, key: str | None = None
    ) -> types.Card:
        card = sealed(self._keys, body)
        found: types.Card = await self._ask(
            body.account, "issue_sealed", who, card, key
        )
        return found

    async def change_card(
        self, who: str, token: str, body: types.ChangeCard
    ) -> types.Card:
        found: types.Card = await self._ask_card(token, "change_card", who, token, body)
        return found

    # -- the parts

    async def _ask(self, account: str, name: str, *arguments: Any) -> Any:
        shard = shard_of_account(account.encode(), self._shard_count)
        return await self.ask_shard(shard, name, *arguments)

    async def _ask_card(self, token: str, name: str, *arguments: Any) -> Any:
        shard = await self._cards.shard_of(bytes.fromhex(token))
        if shard is None:
            raise AdminError(404, "expected the token of a card, got another")
        return await self.ask_shard(shard, name, *arguments)

    async def ask_shard(self, shard: int, name: str, *arguments: Any) -> Any:
        call = CALLS[name]
        # With a key it is done once, however often it is asked for.
        has_key = call.arguments[-1] == str | None and arguments[-1] is not None
        body = await self._calls.call(
            shard,
            pack_call(name, arguments),
            may_repeat=call.may_repeat or has_key,
        )
        return read_result(name, body)


class NoSearch:
    """As `switch.admin.search.Search`, on a node that was told to keep nothing to
    search in."""

    async def accounts(self, _query: object) -> types.Accounts:
        raise _no_read_model()

    async def cards(self, _query: object) -> types.Cards:
        raise _no_read_model()

    async def transactions(self, _query: object) -> types.Transactions:
        raise _no_read_model()


def _no_read_model() -> AdminError:
    return AdminError(
        503,
        "expected a read model to search in, got none on this node: its setting "
        "cluster.read_model is false",
    )
