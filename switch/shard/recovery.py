"""From a journal to the states it stands for: newest snapshots, then replay.

Nothing here is repaired. What does not fit (a gap, an entry of another version, a
snapshot that does not restore) ends the start with a text that says where.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from switch.journal.port import (
    Journal,
    JournalDamaged,
    ShardRecord,
    Snapshot,
    SnapshotStore,
)
from switch.ledger import EntryError, Limits, State, StateError, apply_payload, restore


class Recovered(msgspec.Struct, frozen=True):
    """The shards as their last commit left them; `states[n]` is shard n."""

    states: list[State]
    head: int
    from_commit: int
    entries_replayed: int
    # of what each shard was restored from; -1: no snapshot
    snapshot_sequences: list[int]


def recover(
    journal: Journal,
    snapshots: SnapshotStore | None,
    limits: Limits,
    progress: Callable[[int, int], None] | None = None,
) -> Recovered:
    """Raises JournalDamaged. `progress` is told (commit, head) after every commit."""
    states = [State(shard, limits) for shard in range(journal.shard_count)]
    positions: dict[int, int] = {}
    sequences = [-1] * journal.shard_count
    for snapshot in snapshots.read_all() if snapshots is not None else ():
        if not 0 <= snapshot.shard < journal.shard_count:
            raise JournalDamaged(
                "snapshot of an unknown shard",
                expected=f"0 to {journal.shard_count - 1}",
                got=snapshot.shard,
            )
        states[snapshot.shard] = _restore(snapshot, limits)
        positions[snapshot.shard] = snapshot.commit
        sequences[snapshot.shard] = snapshot.sequence
    complete_to = 0 if snapshots is None else snapshots.complete_to
    from_commit = min(
        positions.get(shard, complete_to) for shard in range(journal.shard_count)
    )
    replayed = 0
    head = journal.head
    for commit in journal.read(from_commit):
        for record in commit.records:
            replayed += _replay(states[record.shard], record, commit.number)
        if progress is not None:
            progress(commit.number, head)
    return Recovered(states, head, from_commit, replayed, sequences)


def _restore(snapshot: Snapshot, limits: Limits) -> State:
    try:
        state = restore(snapshot.data, limits)
    except StateError as error:
        raise JournalDamaged(f"snapshot of shard {snapshot.shard}: {error}") from error
    if (state.shard, state.sequence) != (snapshot.shard, snapshot.sequence):
        raise JournalDamaged(
            f"snapshot of shard {snapshot.shard} holds another state",
            expected=f"shard {snapshot.shard} after entry {snapshot.sequence}",
            got=f"shard {state.shard} after entry {state.sequence}",
        )
    return state


def _replay(state: State, record: ShardRecord, commit: int) -> int:
    if record.first_sequence > state.sequence + 1:
        raise JournalDamaged(
            f"entries of shard {record.shard} are missing",
            commit=commit,
            expected=f"entry {state.sequence + 1}",
            got=f"entry {record.first_sequence}",
        )
    last = record.first_sequence + record.count - 1
    if last <= state.sequence:
        return 0
    try:
        applied = apply_payload(state, record.payload, record.first_sequence)
    except (EntryError, StateError) as error:
        raise JournalDamaged(f"shard {record.shard}: {error}", commit=commit) from error
    if state.sequence != last:
        raise JournalDamaged(
            f"record of shard {record.shard} is not as long as it says",
            commit=commit,
            expected=f"{record.count} entries",
            got=state.sequence - record.first_sequence + 1,
        )
    return applied
