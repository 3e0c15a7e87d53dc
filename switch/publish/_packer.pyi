from collections.abc import Callable, Mapping, Sequence

from switch.ledger._entry import Entry
from switch.publish._record_batch import RecordBatch

def partition_of(key: bytes, partitions: int) -> int: ...

class Packer:
    def __init__(
        self,
        partitions: Sequence[int],
        topics: Mapping[int, tuple[int, int]],
        write: Callable[[Entry, int, int], tuple[int, bytes | None, bytes, bytes]],
        batch_size_max: int,
    ) -> None: ...
    def add(
        self, payload: bytes, first_sequence: int, shard: int, commit: int
    ) -> None: ...
    def take(self) -> list[tuple[int, list[RecordBatch]]]: ...
