"""What can be seen of a shard from outside: plain values, at one moment."""

import msgspec


class AccountView(msgspec.Struct, frozen=True, gc=False):
    """An account; money in minor units of `currency` (an ISO 4217 number)."""

    account: str
    currency: int
    balance: int
    held: int
    credit_limit: int
    status: int = 0

    @property
    def available(self) -> int:
        """What an approval may still take."""
        return self.balance + self.credit_limit - self.held


class CardView(msgspec.Struct, frozen=True, gc=False):
    """A card; `expiry` is YYMM as a number, the PAN is there only sealed."""

    account: str
    expiry: int
    status: int
    last_four: str
    sealed_pan: bytes


class OperationView(msgspec.Struct, frozen=True, gc=False):
    """An operation that came with a key: the hash of what was asked for, the entry that
    it became, when, and the value that a change left."""

    asked: bytes
    sequence: int
    at: int
    value: int


class HoldView(msgspec.Struct, frozen=True, gc=False):
    """An open hold: the sequence of the entry that opened it, and what it holds."""

    sequence: int
    account_index: int
    remaining: int
