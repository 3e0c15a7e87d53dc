"""Journals to break."""

from pathlib import Path

from switch.journal.port import ShardRecord
from switch.journal.released import Released
from switch.journal.sqlite import SqliteJournal

SHARD_COUNT = 4


def batch(number: int, size: int = 300) -> list[ShardRecord]:
    """The records of commit `number`: one entry in each of two shards, by turns."""
    shards = (0, 1) if number % 2 else (2, 3)
    sequence = (number + 1) // 2
    return [
        ShardRecord(shard, sequence, 1, bytes([number % 256, shard]) * (size // 2))
        for shard in shards
    ]


def fill(directory: Path, count: int, size: int = 300) -> SqliteJournal:
    """An open journal with `count` commits, all of them answered."""
    journal = SqliteJournal.open(directory, shard_count=SHARD_COUNT)
    released = Released(directory / "released")
    for number in range(journal.head + 1, journal.head + count + 1):
        assert journal.append(number * 1000, batch(number, size)) == number
        released.advance(number)
    released.close()
    return journal
