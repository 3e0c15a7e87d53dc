"""Which of the nodes that are there a shard goes to: highest random weight.

Every node computes the same from the names alone, and when one comes or goes, no shard
moves between two others.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

# Enough that no two nodes have the same weight for a shard; equal ones go by name.
WEIGHT_SIZE = 8


def wanted(shard: int, nodes: Iterable[str]) -> str | None:
    return max(nodes, key=lambda node: (weight(shard, node), node), default=None)


def weight(shard: int, node: str) -> bytes:
    """Part of what all versions of a cluster agree on: never changed."""
    return blake2b(
        node.encode(), digest_size=WEIGHT_SIZE, key=shard.to_bytes(8, "big")
    ).digest()
