"""The operators' desk on a node of a cluster: each operation goes to the shard that it
is about, wherever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec import UNSET

from switch.admin import types
from switch.admin.calls import CALLS, pack_call, read_result
from switch.admin.desk import sealed
from switch.admin.errors import AdminError
from switch.journal.errors import JournalError
from switch.keys.port import PanKeys
from switch.ledger import ACCOUNT_STATUSES, shard_of_account
from switch.ledger.currencies import letters_of

if TYPE_CHECKING:
    # A switch alone has no driver of Cassandra in its memory.
    from switch.journal.cassandra.cluster_store import AccountRow


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


class AccountRows(Protocol):
    async def accounts_behind(
        self, account: str | None, limit: int
    ) -> list[AccountRow]:
        """In an order that is always the same. Raises JournalError."""


class ClusterSearch:
    """Accounts are listed as their rows are, a second behind. There is no read model of
    cards and transactions yet."""

    def __init__(self, rows: AccountRows) -> None:
        self._rows = rows

    async def accounts(self, query: types.AccountsQuery) -> types.Accounts:
        after = None if query.cursor is UNSET else query.cursor
        try:
            found = await self._rows.accounts_behind(after, query.limit + 1)
        except JournalError as error:
            raise AdminError(
                503, "expected rows of accounts, got none from Cassandra: try again"
            ) from error
        page = [_account(row) for row in found[: query.limit]]
        return types.Accounts(
            page, page[-1].account if len(found) > len(page) else None
        )

    async def cards(self, _query: object) -> types.Cards:
        raise _no_read_model()

    async def transactions(self, _query: object) -> types.Transactions:
        raise _no_read_model()


def _account(row: AccountRow) -> types.Account:
    return types.Account(
        row.account,
        letters_of(row.currency),
        row.balance,
        row.held,
        row.credit_limit,
        row.available,
        ACCOUNT_STATUSES[row.status],
    )


def _no_read_model() -> AdminError:
    return AdminError(503, "a node of a cluster has no read model to search in")
