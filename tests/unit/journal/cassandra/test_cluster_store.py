"""What nodes have in common is asked for until it is told, for a while."""

from __future__ import annotations

import asyncio

import pytest

from switch.journal.cassandra.acsylla_store import Settings
from switch.journal.cassandra.cluster_store import ClusterStore
from switch.journal.errors import JournalUnknown


def test_a_node_that_has_no_turn_asks_again(monkeypatch: pytest.MonkeyPatch):
    async def scenario():
        store = ClusterStore(None, Settings(["127.0.0.1"], "bank", {"here": 1}))
        asked = []

        async def rows(name, *values):
            asked.append((name, *values))
            if len(asked) < 3:
                raise JournalUnknown("no turn in time")
            return [["64"]]

        monkeypatch.setattr(store, "_rows", rows)
        assert await store.agreed("shards") == "64"
        assert asked == [("read_meta", "shards")] * 3

    asyncio.run(scenario())
