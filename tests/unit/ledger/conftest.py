"""A small bank: one shard, three accounts, cards of every status."""

import pytest

from switch.ledger import AccountOpened, CardIssued, Limits, State, apply

NOW = 1_764_000_000_000  # 2025-11-24T16:00:00Z
STERLING = 826
EURO = 978
MAIN = bytes([1]) * 16
CARDS = {
    "active": bytes([1]) * 16,
    "restricted": bytes([2]) * 16,
    "lost": bytes([3]) * 16,
    "stolen": bytes([4]) * 16,
    "closed": bytes([5]) * 16,
    "expired": bytes([6]) * 16,
    "euro": bytes([7]) * 16,
    "credit": bytes([8]) * 16,
}


def add_card(state: State, name: str, account: str, expiry: int, status: int) -> None:
    index = state.account_index(account.encode())
    apply(
        state,
        CardIssued(
            CARDS[name], bytes(38), account, index, expiry, status, "0001",
            at=NOW, sequence=state.sequence + 1,
        ),
    )  # fmt: skip


@pytest.fixture
def state() -> State:
    state = State(7, Limits())
    for account, currency, balance, limit in (
        ("main", STERLING, 10_000, 0),
        ("euro", EURO, 10_000, 0),
        ("credit", STERLING, 0, 5_000),
    ):
        apply(
            state,
            AccountOpened(
                account, currency, balance, limit, at=NOW, sequence=state.sequence + 1
            ),
        )
    for status, name in enumerate(("active", "restricted", "lost", "stolen", "closed")):
        add_card(state, name, "main", 3012, status)
    add_card(state, "expired", "main", 2510, 0)
    add_card(state, "euro", "euro", 3012, 0)
    add_card(state, "credit", "credit", 3012, 0)
    return state
