"""How far a publisher is with each shard. What it may publish next is in
`switch.journal.cassandra.following`.

Rule 1: a position is written when all before it is out. Of two the one that stands
        further is kept, whoever writes it and however late: an owner that was deposed
        moves nobody back.
Rule 2: so nobody can be moved back by writing a position. Who wants a publisher to go
        on somewhere else writes positions under another name, and then that this is
        the name now.
Rule 3: nor are positions deleted: the deletion would hide those of lower entries that
        are written later. Who is forgotten has another name, under which nothing is.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Mapping

import msgspec

from switch.journal.cassandra.retrying import PATIENCE, Patience, settled
from switch.journal.cassandra.store import EpochId, LogStore, Position
from switch.journal.errors import JournalDamaged

_ORDER = struct.Struct(">QQ")
# Last in a name: nobody reads on from there until there are positions under it.
_FORGOTTEN = "forgotten"


class Published(msgspec.Struct, frozen=True, array_like=True):
    """Entries of the shard up to `sequence` are out; the next one is behind the
    position, in the epoch or one after it."""

    sequence: int
    epoch: int
    session: str
    segment: int
    commit: int

    def encode(self) -> bytes:
        """Of two with one sequence the one that stands further is kept, as with
        checkpoints."""
        return _ORDER.pack(self.epoch, self.commit) + msgspec.msgpack.encode(self)

    @property
    def start(self) -> tuple[EpochId, Position]:
        return EpochId(self.epoch, self.session), Position(self.segment, self.commit)


async def write_published(
    store: LogStore,
    publisher: str,
    shard: int,
    published: Published,
    patience: Patience = PATIENCE,
) -> None:
    """To be called when the entries are out: what is out twice does no harm."""
    data = published.encode()
    await settled(
        lambda: store.write_published(publisher, shard, published.sequence, data),
        patience,
    )


async def read_published(
    store: LogStore, publisher: str, shard: int, patience: Patience = PATIENCE
) -> Published | None:
    data = await settled(lambda: store.read_published(publisher, shard), patience)
    if data is None:
        return None
    try:
        return msgspec.msgpack.decode(data[_ORDER.size :], type=Published)
    except msgspec.DecodeError as error:
        raise JournalDamaged(
            f"position of {publisher} in shard {shard}: {error}"
        ) from error


# -- under which name a publisher's positions are


async def current_name(
    store: LogStore, publisher: str, patience: Patience = PATIENCE
) -> str:
    """Its own, until it was moved."""
    data = await settled(lambda: store.read_published(_moves(publisher), 0), patience)
    return publisher if data is None else data.decode()


async def move(
    store: LogStore,
    publisher: str,
    positions: Mapping[int, Published],
    patience: Patience = PATIENCE,
) -> str:
    """It goes on behind these positions, and in every other shard at the beginning.
    Whoever publishes finds out by itself. The name of the positions from now on."""
    number = await _next_number(store, publisher, patience)
    name = f"{publisher}.{number}.{uuid.uuid4().hex[:8]}"
    for shard, position in positions.items():
        await write_published(store, name, shard, position, patience)
    # Of two who move it at once one wins, with all of its positions.
    await _rename(store, publisher, number, name, patience)
    return name


async def forget(
    store: LogStore, publisher: str, patience: Patience = PATIENCE
) -> None:
    """No log is kept for it any more. If it ever publishes again, it begins with the
    oldest entry that is still there, and counts from its first position on."""
    number = await _next_number(store, publisher, patience)
    name = f"{publisher}.{number}.{_FORGOTTEN}"
    await _rename(store, publisher, number, name, patience)


async def in_use(
    store: LogStore, names: Iterable[str], patience: Patience = PATIENCE
) -> list[str]:
    """Of all names that positions were ever under, and of publishers: the names that
    their positions are under now. Nobody reads on from the others."""
    publishers = {_publisher_of(name) for name in names}
    return sorted([await current_name(store, each, patience) for each in publishers])


async def remembered(store: LogStore, patience: Patience = PATIENCE) -> list[str]:
    """All publishers that ever wrote a position, but for those that were forgotten and
    have not written one since."""
    names = frozenset(await settled(store.list_publishers, patience))
    found = []
    for publisher in sorted({_publisher_of(name) for name in names}):
        name = await current_name(store, publisher, patience)
        if name in names or not _is_forgotten(name):
            found.append(publisher)
    return found


def _publisher_of(name: str) -> str:
    return name.partition(".")[0]


def _is_forgotten(name: str) -> bool:
    return name.rpartition(".")[2] == _FORGOTTEN


async def _next_number(store: LogStore, publisher: str, patience: Patience) -> int:
    former = await current_name(store, publisher, patience)
    return int(former.split(".")[1]) + 1 if "." in former else 1


async def _rename(
    store: LogStore, publisher: str, number: int, name: str, patience: Patience
) -> None:
    await settled(
        lambda: store.write_published(_moves(publisher), 0, number, name.encode()),
        patience,
    )


def _moves(publisher: str) -> str:
    return f"{publisher}.moves"
