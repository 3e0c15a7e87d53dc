"""Whether what was answered is what the journal says, by code of its own.

It reads the replicas' cells and what the conditional writes decided, takes the records
apart by docs/journal.md and the entries by docs/ledger.md, and knows nothing of how the
switch does either.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from tests.simulation.cassandra import QUORUM, Cassandra

_HEADER = struct.Struct("<4sHHQqII")
_ROW = struct.Struct("<IIQI")
_ENTRY = struct.Struct("<BBHq")
# Of a transaction, behind the header of the entry.
_BALANCE_CHANGE = 32
_HELD_CHANGE = 40
_FLAGS = 128
_RRN = slice(135, 147)
_TRANSACTIONS = range(3, 13)
_ACCOUNT_OPENED = 1


class Answer(NamedTuple):
    shard: int
    rrn: str
    approved: bool
    sequence: int  # of an approval's entry


class Entry(NamedTuple):
    kind: int
    data: bytes

    @property
    def is_transaction(self) -> bool:
        return self.kind in _TRANSACTIONS

    @property
    def rrn(self) -> str:
        return self.data[_RRN].rstrip(b"\0 ").decode()

    @property
    def approved(self) -> bool:
        return bool(self.data[_FLAGS] & 1)

    def number(self, offset: int) -> int:
        return int.from_bytes(self.data[offset : offset + 8], "little", signed=True)


class Record(NamedTuple):
    first_sequence: int
    entries: list[Entry]
    payload: bytes


class Auditor:
    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.published: list[tuple[int, int, bytes]] = []
        # By shard: the last entry that anybody has published.
        self.published_to: dict[int, int] = {}

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def is_published(self, shard: int, first_sequence: int, payload: bytes) -> None:
        """Whoever does, and however often: first occurrences come in order, none is
        missing."""
        last = self.published_to.get(shard, 0)
        assert first_sequence <= last + 1, (
            f"published before what is before it: {shard}-{first_sequence}, "
            f"entry {last + 1} is not"
        )
        self.published.append((shard, first_sequence, payload))
        self.published_to[shard] = max(
            last, first_sequence + len(entries_of(payload)) - 1
        )

    def check(self, cassandra: Cassandra, shards: int) -> dict[int, tuple[int, int]]:
        """Of each shard: its last sequence, and what is held on its account."""
        logs = {
            session: log_of(cassandra, session, row.sealed_at)
            for session, row in cassandra.sessions.items()
        }
        histories = {
            shard: history_of(cassandra, shard, logs) for shard in range(shards)
        }
        decided = {shard: by_rrn(history) for shard, history in histories.items()}
        for answer in self.answers:
            self._check_answer(answer, decided[answer.shard])
        out: dict[int, set[int]] = {shard: set() for shard in histories}
        for shard, first, payload in self.published:
            at = first
            for entry in entries_of(payload):
                assert histories[shard][at - 1 : at] == [entry], (
                    f"published, and not in the journal: {shard}-{at}"
                )
                at += 1
            out[shard] |= set(range(first, at))
        for shard, sequences in out.items():
            missing = set(range(1, max(sequences, default=0))) - sequences
            assert not missing, f"shard {shard}: never published: {sorted(missing)}"
        return {shard: sums(history) for shard, history in histories.items()}

    def _check_answer(
        self, answer: Answer, history: dict[str, tuple[int, bool]]
    ) -> None:
        assert answer.rrn in history, f"{answer} is not in the journal"
        sequence, approved = history[answer.rrn]
        assert answer.approved == approved, f"{answer}, journal: {approved}"
        if approved:
            assert answer.sequence == sequence, f"{answer}, journal: {sequence}"


def log_of(
    cassandra: Cassandra, session: str, sealed_at: int | None
) -> dict[int, list[tuple[int, Record]]]:
    """The records of each commit that counts, as replicas have them; where a segment
    was dropped, as they had them."""
    commits: dict[int, bytes] = {}
    for number, stored in stored_commits(cassandra, session).items():
        data, holders = stored
        if holders < QUORUM:
            if sealed_at is not None and number <= sealed_at:
                raise AssertionError(f"{session}: commit {number} is not at a quorum")
            continue
        commits[number] = data
    found: dict[int, list[tuple[int, Record]]] = {}
    previous: int | None = zlib.crc32(session.encode())
    end = max(commits, default=0) if sealed_at is None else sealed_at
    for number in range(1, end + 1):
        if number not in commits:
            raise AssertionError(f"{session}: commit {number} of {end} is missing")
        found[number], previous = parse(commits[number], number, previous)
    return found


def stored_commits(cassandra: Cassandra, session: str) -> dict[int, tuple[bytes, int]]:
    """Of each commit its bytes and how many replicas have all of it; more than there
    are replicas, for what was dropped."""
    copies: dict[int, list[bytes]] = {}
    segments = [key for key in cassandra.archive if key[:2] == ("log", session)]
    held = {key for replica in cassandra.replicas for key in replica.partitions}
    for key in {*segments, *(key for key in held if key[:2] == ("log", session))}:
        if key in cassandra.archive:
            places = [cassandra.archive[key]] * (len(cassandra.replicas) + 1)
        else:
            places = [replica.partitions.get(key, {}) for replica in cassandra.replicas]
        for place in places:
            for number, data in whole_commits(place).items():
                copies.setdefault(number, []).append(data)
    found = {}
    for number, datas in copies.items():
        assert len(set(datas)) == 1, f"{session}: commit {number} is two things"
        found[number] = datas[0], len(datas)
    return found


def whole_commits(partition: dict[Any, Any]) -> dict[int, bytes]:
    parts: dict[int, dict[int, bytes]] = {}
    counts: dict[int, int] = {}
    for (number, index), (_, (count, data)) in partition.items():
        parts.setdefault(number, {})[index] = data
        counts[number] = count
    return {
        number: b"".join(pieces[index] for index in range(counts[number]))
        for number, pieces in parts.items()
        if len(pieces) == counts[number]
    }


def parse(
    data: bytes, number: int, previous: int | None
) -> tuple[list[tuple[int, Record]], int]:
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    header = _HEADER.unpack_from(data)
    assert header[3] == number, f"commit {header[3]} under number {number}"
    assert header[5] == previous, f"commit {number} does not follow the one before"
    records = []
    at = _HEADER.size + _ROW.size * header[6]
    for index in range(header[6]):
        shard, count, first, size = _ROW.unpack_from(
            data, _HEADER.size + _ROW.size * index
        )
        payload = data[at : at + size]
        at += size
        entries = entries_of(payload)
        assert len(entries) == count
        records.append((shard, Record(first, entries, payload)))
    return records, zlib.crc32(data[:-4])


def entries_of(payload: bytes) -> list[Entry]:
    entries = []
    at = 0
    while at < len(payload):
        kind, _, size, _ = _ENTRY.unpack_from(payload, at)
        entries.append(Entry(kind, payload[at + _ENTRY.size : at + size]))
        at += size
    return entries


def history_of(cassandra: Cassandra, shard: int, logs: dict[str, Any]) -> list[Entry]:
    chain = []
    at = cassandra.current.get(shard)
    while at is not None:
        epoch = cassandra.epochs[shard][at]
        chain.append(epoch)
        at = epoch.parent
    history: list[Entry] = []
    for epoch in reversed(chain):
        commits = logs[epoch.id.session]
        end = len(commits) if epoch.sealed_at is None else epoch.sealed_at
        for number in range(epoch.begins_after.number + 1, end + 1):
            for owner, record in commits.get(number, []):
                if owner != shard:
                    continue
                assert record.first_sequence == len(history) + 1, (
                    f"shard {shard}: entry {len(history) + 1} is missing or twice"
                )
                history += record.entries
    return history


def by_rrn(history: list[Entry]) -> dict[str, tuple[int, bool]]:
    """Of each request its entry's sequence, and whether it approved."""
    found: dict[str, tuple[int, bool]] = {}
    for sequence, entry in enumerate(history, 1):
        if entry.is_transaction:
            assert entry.rrn not in found, f"{entry.rrn} was decided twice"
            found[entry.rrn] = sequence, entry.approved
    return found


def sums(history: list[Entry]) -> tuple[int, int]:
    held = 0
    balance = 0
    for entry in history:
        if entry.kind == _ACCOUNT_OPENED:
            balance += entry.number(0)
        if entry.is_transaction:
            held += entry.number(_HELD_CHANGE)
            balance += entry.number(_BALANCE_CHANGE)
            assert balance - held >= 0, "more was approved than there was"
    return len(history), held
