"""What a node asks of a shard that may be another node's: the calls, as bytes.

    call      [name, [argument, …]]
    result    [status, value]       status 0: the value is the answer; else its words

Both in MessagePack. No card number is in any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from switch.admin import types
from switch.admin.errors import AdminError
from switch.rows import AccountRow, CardRow

DONE: Final = 0
# Rows of an import in one call: some 30 KB of a frame's 64.
CALL_ROWS_MAX: Final = 128


class AccountToOpen(Struct, frozen=True, array_like=True):
    account: str
    currency: int
    balance: int
    credit_limit: int

    @classmethod
    def of(cls, row: AccountRow) -> Self:
        return cls(row.name.decode(), row.currency, row.balance, row.credit_limit)


class CardToIssue(Struct, frozen=True, array_like=True):
    pan_hash: bytes
    sealed: bytes
    last_four: str
    account: str
    expiry: int
    status: str

    @classmethod
    def of(cls, card: CardRow, pan_hash: bytes, sealed: bytes) -> Self:
        last_four, account = card.pan[-4:].decode(), card.account.decode()
        return cls(pan_hash, sealed, last_four, account, card.expiry, card.status)


class Imported(Struct, frozen=True):
    """All of the rows, unless there are problems: then none. Each has its index."""

    imported: int
    existing: int
    problems: list[tuple[int, str]] = []


class Call(Struct, frozen=True):
    """`may_repeat`: with no answer, it may be asked for again. `result`: its type."""

    arguments: tuple[Any, ...]
    result: type[Struct]
    may_repeat: bool = True


_KEY = str | None
# By the names of the methods of `switch.admin.shards.ShardDesk`.
CALLS: Final = {
    "account": Call((str,), types.Account),
    "card": Call((str,), types.Card),
    "open_account": Call(
        (str, types.OpenAccount, _KEY), types.Account, may_repeat=False
    ),
    "change_account": Call((str, str, types.ChangeAccount), types.Account),
    "adjust": Call(
        (str, str, types.AdjustBalance, _KEY), types.Adjustment, may_repeat=False
    ),
    "issue_sealed": Call((str, types.SealedCard, _KEY), types.Card, may_repeat=False),
    "change_card": Call((str, str, types.ChangeCard), types.Card),
    "import_accounts": Call(
        (list[AccountToOpen], bool, str, str), Imported, may_repeat=False
    ),
    "import_cards": Call(
        (list[CardToIssue], bool, str, str), Imported, may_repeat=False
    ),
}


def pack_call(name: str, arguments: Sequence[Any]) -> bytes:
    return msgspec.msgpack.encode((name, list(arguments)))


def read_call(body: bytes) -> tuple[str, list[Any]]:
    """Raises AdminError: the node that asks runs another release."""
    try:
        name, given = msgspec.msgpack.decode(body, type=tuple[str, list[msgspec.Raw]])
        call = CALLS[name]
        return name, [
            msgspec.msgpack.decode(raw, type=kind)
            for raw, kind in zip(given, call.arguments, strict=True)
        ]
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, ValueError):
        raise AdminError(
            503, "expected a call that this node knows, got another"
        ) from None


def pack_result(status: int, value: object) -> bytes:
    return msgspec.msgpack.encode((status, value))


def read_result(name: str, body: bytes) -> Any:
    """Raises AdminError when it is one."""
    status, raw = msgspec.msgpack.decode(body, type=tuple[int, msgspec.Raw])
    if status != DONE:
        raise AdminError(status, msgspec.msgpack.decode(raw, type=str))
    return msgspec.msgpack.decode(raw, type=CALLS[name].result)
