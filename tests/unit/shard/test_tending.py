"""What goes on with shards beside their requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from switch.ledger import Limits, shard_of_account
from switch.shard import tending
from switch.shard._group import Shard
from tests.unit.link.in_memory import CARDS
from tests.unit.shard.node import SHARD_COUNT, Node, new_journal

LONG_MS = 8 * 86_400_000


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(tending, "SWEEP_INTERVAL_S", 0.0)


def sweep(node: Node, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Until nothing more ends. `meanwhile()` is called in each turn of others."""

    async def some() -> None:
        task = asyncio.create_task(tending.end_holds(node.group, lambda: node.now))
        for _ in range(4 * SHARD_COUNT):
            await asyncio.sleep(0)
            meanwhile()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(some())


def hold_two() -> Node:
    """One in each of two shards, whose time is over."""
    node = Node(new_journal())
    node.ask(stan=1)
    node.ask(stan=2, card="credit")
    node.commit()
    node.now += LONG_MS
    return node


def test_holds_whose_time_is_over_end():
    node = hold_two()
    node.now -= LONG_MS
    sweep(node)
    assert node.group.pending == 0
    node.now += LONG_MS
    sweep(node)
    node.commit()
    assert (node.held(), node.held("credit")) == (0, 0)


def test_a_shard_that_goes_meanwhile_is_left_alone():
    node = hold_two()
    first, second = sorted(
        shard_of_account(CARDS[card][1].encode(), SHARD_COUNT)
        for card in ("active", "credit")
    )
    assert first != second
    gone: list[Shard] = []

    def close_the_other() -> None:
        if node.group.pending and not gone:
            gone.append(node.group.close_shard(second))

    sweep(node, close_the_other)
    (shard,) = gone
    assert node.group.pending == 1
    assert [hold.remaining for hold in shard.state.holds()] == [100]


def test_a_scrape_adds_the_shards_up():
    node = hold_two()
    limits = Limits()
    found = {each.name: each.value for each in tending.samples(node.group, limits)}
    assert found["accounts"] == sum(each.account_count for each in node.states)
    assert found["cards"] == sum(each.card_count for each in node.states)
    assert found["commits"] == node.group.commits == 1
    assert found["entries"] == node.group.entries
    assert found["journal_head"] == node.journal.head
