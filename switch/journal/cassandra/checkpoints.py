"""A shard's state after one of its entries, so that not all of its history is read.

Rule 1: a checkpoint is of what was released, and of nothing beyond.
Rule 2: the head with the highest sequence wins, then the one that stands furthest in
        the logs, whoever writes it and however late: its timestamp is the sequence, it
        is one cell, and its bytes begin with where it stands. No clock is asked.
Rule 3: chunks come before the head that names them. They go, and so do segments of
        logs, only when the head that makes them useless is at a quorum: what was read
        may be on one replica alone.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from switch.journal.cassandra.retrying import Patience, settled
from switch.journal.cassandra.store import EpochId, LogStore, Position
from switch.journal.errors import JournalDamaged, JournalVersion

FORMAT_VERSION = 1
CHUNK_BYTES_MAX = 512 * 1024
# Chunks may go while they are read, with a newer head: how often that is believed.
READS_MAX = 16

# Number of the epoch, number of the commit: of two heads with one sequence, Cassandra
# keeps the one whose bytes are greater.
_ORDER = struct.Struct(">QQ")


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """The entries of `shard` up to `sequence` are in it, and replay goes on behind
    `commit` of the log of `session`, in `epoch`."""

    format: int
    shard: int
    sequence: int
    epoch: int
    session: str
    segment: int
    commit: int
    chunks: int
    chunks_name: str
    size: int
    checksum: int

    @property
    def start(self) -> tuple[EpochId, Position]:
        """Behind which replay goes on."""
        return EpochId(self.epoch, self.session), Position(self.segment, self.commit)

    def encode(self) -> bytes:
        return _ORDER.pack(self.epoch, self.commit) + msgspec.msgpack.encode(self)


async def write(
    store: LogStore,
    shard: int,
    sequence: int,
    epoch: EpochId,
    released: Position,
    data: bytes,
    patience: Patience,
) -> None:
    """`data` is of entries that were released with `released`, or since."""
    pieces = [
        data[at : at + CHUNK_BYTES_MAX] for at in range(0, len(data), CHUNK_BYTES_MAX)
    ]
    head = Checkpoint(
        format=FORMAT_VERSION,
        shard=shard,
        sequence=sequence,
        epoch=epoch.number,
        session=epoch.session,
        segment=released.segment,
        commit=released.number,
        chunks=len(pieces),
        chunks_name=f"{sequence}-{epoch.session}-{released.number}",
        size=len(data),
        checksum=zlib.crc32(data),
    )
    former = await read_head(store, shard, patience)
    for index, piece in enumerate(pieces):
        await _write_chunk(store, head, index, piece, patience)
    await _write_head(store, head, patience)
    newest = await settled_head(store, shard, patience)
    assert newest is not None
    for other in (former, head):
        if other is not None and other.chunks_name != newest.chunks_name:
            await _drop(store, other, patience)


async def renew(
    store: LogStore,
    shard: int,
    sequence: int,
    epoch: EpochId,
    released: Position,
    patience: Patience,
) -> bool:
    """The same checkpoint, standing further in the logs: a shard that has had no entry
    since does not keep them. False when there is none after `sequence`."""
    former = await read_head(store, shard, patience)
    if former is None or former.sequence != sequence:
        return False
    head = msgspec.structs.replace(
        former,
        epoch=epoch.number,
        session=epoch.session,
        segment=released.segment,
        commit=released.number,
    )
    await _write_head(store, head, patience)
    return True


async def _write_head(store: LogStore, head: Checkpoint, patience: Patience) -> None:
    data = head.encode()
    await settled(
        lambda: store.write_checkpoint(head.shard, head.sequence, data), patience
    )


async def settled_head(
    store: LogStore, shard: int, patience: Patience
) -> Checkpoint | None:
    """The newest one, at a quorum: nobody will read an older one any more."""
    head = await read_head(store, shard, patience)
    if head is not None:
        await _write_head(store, head, patience)
    return head


async def _write_chunk(
    store: LogStore, head: Checkpoint, index: int, data: bytes, patience: Patience
) -> None:
    await settled(
        lambda: store.write_chunk(head.shard, head.chunks_name, index, data), patience
    )


async def _drop(store: LogStore, head: Checkpoint, patience: Patience) -> None:
    await settled(lambda: store.drop_chunks(head.shard, head.chunks_name), patience)


async def read_head(
    store: LogStore, shard: int, patience: Patience
) -> Checkpoint | None:
    data = await settled(lambda: store.read_checkpoint(shard), patience)
    if data is None:
        return None
    try:
        head = msgspec.msgpack.decode(data[_ORDER.size :], type=Checkpoint)
    except msgspec.DecodeError as error:
        raise JournalDamaged(f"checkpoint of shard {shard}: {error}") from error
    if head.format != FORMAT_VERSION:
        raise JournalVersion(
            f"checkpoint of shard {shard} of another format version",
            expected=FORMAT_VERSION,
            got=head.format,
        )
    if head.shard != shard:
        raise JournalDamaged(
            "checkpoint of another shard", expected=shard, got=head.shard
        )
    return head


async def read(
    store: LogStore, shard: int, patience: Patience
) -> tuple[Checkpoint, bytes] | None:
    """The newest one, whole."""
    head = await read_head(store, shard, patience)
    for _ in range(READS_MAX):
        if head is None:
            return None
        data = await _read_data(store, head, patience)
        if data is not None:
            return head, data
        former, head = head, await read_head(store, shard, patience)
        if head == former:
            break
    raise JournalDamaged(f"chunks of the checkpoint of shard {shard} are missing")


async def _read_data(
    store: LogStore, head: Checkpoint, patience: Patience
) -> bytes | None:
    pieces = []
    for index in range(head.chunks):
        piece = await _read_chunk(store, head, index, patience)
        if piece is None:
            return None
        pieces.append(piece)
    data = b"".join(pieces)
    if (len(data), zlib.crc32(data)) != (head.size, head.checksum):
        raise JournalDamaged(
            f"checkpoint of shard {head.shard} changed since it was written",
            expected=f"{head.size} bytes, checksum {head.checksum:#010x}",
            got=f"{len(data)} bytes, checksum {zlib.crc32(data):#010x}",
        )
    return data


async def _read_chunk(
    store: LogStore, head: Checkpoint, index: int, patience: Patience
) -> bytes | None:
    return await settled(
        lambda: store.read_chunk(head.shard, head.chunks_name, index), patience
    )
