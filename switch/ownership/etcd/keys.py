"""What the keys of a cluster are called, and what is in them.

cardswitch/CLUSTER/live/nodes/NODE          a member, on its lease
cardswitch/CLUSTER/live/shards/SHARD        the member that owns it, on its lease
cardswitch/CLUSTER/locks/NAME/SESSION-N     who has a named lock, or waits for it:
                                            the oldest has it
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote

import msgspec

from switch.ownership.etcd.store import KeyValue
from switch.ownership.port import Member

NAME_SIZE_MAX: Final = 128
UNREADABLE: Final = Member("", "", "")


def checked(what: str, name: str) -> str:
    """A name of a cluster, a node or a lock, as part of a key."""
    if not 0 < len(name) <= NAME_SIZE_MAX:
        raise ValueError(
            f"expected a name of a {what} of 1 to {NAME_SIZE_MAX} characters, got "
            f"{len(name)}"
        )
    return quote(name, safe="")


class Keys:
    def __init__(self, cluster: str) -> None:
        base = f"cardswitch/{checked('cluster', cluster)}"
        self.live = f"{base}/live/"
        self._nodes = f"{base}/live/nodes/"
        self._shards = f"{base}/live/shards/"
        self._locks = f"{base}/locks/"

    def node(self, node: str) -> str:
        return self._nodes + checked("node", node)

    def node_of(self, key: str) -> str | None:
        """Whose key it is, if it is a node's."""
        if not key.startswith(self._nodes):
            return None
        return unquote(key.removeprefix(self._nodes))

    def shard(self, shard: int) -> str:
        return f"{self._shards}{shard}"

    def shard_of(self, key: str) -> int | None:
        text = key.removeprefix(self._shards)
        return int(text) if text != key and text.isdecimal() else None

    def line(self, lock: str) -> str:
        """What the keys of all that want a lock begin with."""
        return f"{self._locks}{checked('lock', lock)}/"


def value_of(member: Member) -> bytes:
    return msgspec.json.encode(member)


def member_of(item: KeyValue) -> Member:
    """Or UNREADABLE: who wrote that is no member, and has what he has."""
    try:
        return msgspec.json.decode(item.value, type=Member)
    except msgspec.DecodeError:
        return UNREADABLE
