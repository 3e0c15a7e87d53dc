"""Recovery: what a start finds is what the last commit left, or an error.

Invariant: for every history, snapshots and replay lead to the state that replay alone
leads to, and that is the state that was live when the last commit was released.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch.journal.errors import JournalDamaged
from switch.journal.memory import MemoryJournal, MemorySnapshots
from switch.journal.port import ShardRecord, Snapshot
from switch.ledger import Limits, decide, dump
from switch.shard.recovery import recover
from tests.unit.link.in_memory import CARDS, NOW
from tests.unit.shard.node import SHARD_COUNT, Node, new_journal, request, view

CARD_NAMES = sorted(CARDS)
MTI_OF = {1: "0100", 2: "0200", 3: "0120", 4: "0220"}
HOUR_MS = 3_600_000

asks = st.tuples(
    st.just("ask"),
    st.integers(1, 5),
    st.integers(1, 8),
    st.sampled_from(CARD_NAMES),
    st.sampled_from([0, 1, 100, 4_000, 20_000]),
)
steps = st.one_of(
    asks,
    asks,
    asks,
    st.tuples(st.just("commit")),
    st.tuples(st.just("start")),
    st.tuples(st.just("snapshot"), st.integers(0, SHARD_COUNT - 1)),
    st.tuples(st.just("later"), st.sampled_from([1, HOUR_MS, 30 * HOUR_MS])),
    st.tuples(st.just("expire")),
)


def limits():
    return Limits(hold_lifetime_ms=24 * HOUR_MS, duplicate_window_ms=48 * HOUR_MS)


class History:
    """A node that lives through steps, and takes snapshots as the snapshotter does."""

    def __init__(self):
        journal = new_journal()
        self.node = Node(journal, MemorySnapshots(journal), limits=limits())
        # (shard, sequence, commit before, dump): taken, and not released yet
        self.taken: list[tuple[int, int, int, bytes]] = []

    def step(self, what, *values):
        node = self.node
        if what == "ask":
            kind, stan, card, amount = values
            more: dict[str, object] = {"amount": amount, "rrn": str(stan % 2)}
            if kind in (4, 5):
                more["original"] = (
                    MTI_OF[stan % 4 + 1],
                    0,
                    "0101000000",
                    str(stan),
                    "",
                )
            node.ask(kind, stan, card, advice_approved=bool(stan % 3), **more)
        elif what == "commit":
            node.commit()
            self.write_snapshots()
        elif what == "start":
            node.turn()
        elif what == "snapshot":
            state = node.states[values[0]]
            taken = (state.shard, state.sequence, node.group.head, dump(state))
            self.taken.append(taken)
        elif what == "later":
            node.now += values[0]
        else:
            for shard in node.group.shards:
                shard.end_holds(node.now)
            node.group.flush()

    def write_snapshots(self):
        for shard, sequence, commit, data in self.taken:
            self.node.snapshots.write(shard, sequence, commit, data)
        self.taken.clear()


@settings(max_examples=200)
@given(st.lists(steps, max_size=40))
def test_every_history_is_recovered(history):
    live = History()
    for step in history:
        live.step(*step)
    live.step("commit")
    node = live.node
    expected = [view(state) for state in node.states]
    with_snapshots = node.restart(limits())
    replayed = Node(node.journal.reopen(), limits=limits())
    assert [view(state) for state in with_snapshots.states] == expected
    assert [view(state) for state in replayed.states] == expected
    assert with_snapshots.recovered.head == replayed.recovered.head == node.journal.head
    assert same_answers(node, with_snapshots, replayed)


def same_answers(*nodes):
    """Whether all of them answer whatever may be asked next in the same way."""
    now = nodes[0].now
    for card in CARD_NAMES:
        for kind in range(1, 6):
            for stan in range(1, 9):
                asked = request(
                    kind,
                    stan,
                    card=card,
                    rrn=str(stan % 2),
                    original=(MTI_OF[stan % 4 + 1], 0, "0101000000", str(stan), ""),
                )
                decisions = [decide(n.shard(card).state, asked, now) for n in nodes]
                answers = {
                    (d.response_code, d.approval_code, d.repeated) for d in decisions
                }
                if len(answers) != 1:
                    return False
    return True


def test_a_snapshot_saves_replay():
    journal = new_journal()
    node = Node(journal, MemorySnapshots(journal))
    for stan in range(1, 11):
        node.ask(stan=stan, amount=1)
        node.commit()
    everything = node.restart().recovered
    assert everything.from_commit == 0
    assert everything.snapshot_sequences == [-1] * SHARD_COUNT
    for state in node.states:
        node.snapshots.write(state.shard, state.sequence, journal.head, dump(state))
    recovered = node.restart().recovered
    assert recovered.from_commit == recovered.head == journal.head
    assert recovered.entries_replayed == 0
    assert recovered.snapshot_sequences == [state.sequence for state in node.states]
    assert everything.entries_replayed == sum(state.sequence for state in node.states)


def test_progress_is_told_after_every_commit():
    journal = new_journal()
    node = Node(journal)
    for stan in (1, 2, 3):
        node.ask(stan=stan)
        node.commit()
    told: list[tuple[int, int]] = []
    recover(journal, None, Limits(), lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_empty_journal_is_empty_shards():
    recovered = recover(MemoryJournal(SHARD_COUNT), None, Limits())
    assert [view(state)[1:] for state in recovered.states] == [
        (0, 0, [], [], [], 0)
    ] * SHARD_COUNT
    assert (recovered.head, recovered.from_commit) == (0, 0)


def test_what_was_decided_and_not_durable_is_not_there_after_a_restart():
    journal = new_journal()
    node = Node(journal)
    node.ask(stan=1)
    node.commit()
    node.ask(stan=2)
    node.turn()
    restarted = node.restart()
    assert restarted.held() == 100
    assert not restarted.ask(stan=2).repeated
    assert restarted.ask(stan=1).repeated


# --- snapshots that do not fit


@pytest.fixture
def node():
    journal = new_journal()
    node = Node(journal, MemorySnapshots(journal))
    node.ask(stan=1)
    node.commit()
    return node


def refused(node, match):
    with pytest.raises(JournalDamaged, match=match) as caught:
        node.restart()
    return caught.value


def snapshot(node, card="active", **changes):
    state = node.shard(card).state
    values = Snapshot(state.shard, state.sequence, node.journal.head, dump(state))
    values = msgspec.structs.replace(values, **changes)
    node.snapshots.write(values.shard, values.sequence, values.commit, values.data)
    return values


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda data: data[:-1], "expected .* bytes, got"),
        (lambda data: data + b"x", "expected .* bytes, got"),
        (lambda data: b"", "expected a header, got 0 bytes"),
        (lambda data: data[:20], "expected a header, got 20 bytes"),
        (lambda data: b"XXXX" + data[4:], "expected the mark SWST"),
        (lambda data: data[:4] + b"\1" + data[5:], "expected version and row sizes"),
        (lambda data: data[:8] + b"\2" + data[9:], "expected version and row sizes"),
    ],
)
def test_a_snapshot_that_does_not_restore_ends_the_start(node, damage, match):
    good = snapshot(node)
    snapshot(node, data=damage(good.data))
    error = refused(node, match)
    assert f"snapshot of shard {good.shard}" in str(error)


def test_a_snapshot_that_holds_another_shard_ends_the_start(node):
    good = snapshot(node)
    other = (good.shard + 1) % SHARD_COUNT
    node.snapshots.write(other, good.sequence, good.commit, good.data)
    error = refused(node, f"snapshot of shard {other} holds another state")
    assert error.expected == f"shard {other} after entry {good.sequence}"
    assert error.got == f"shard {good.shard} after entry {good.sequence}"


def test_a_snapshot_of_another_moment_than_it_says_ends_the_start(node):
    good = snapshot(node)
    snapshot(node, sequence=good.sequence - 1)
    refused(node, f"snapshot of shard {good.shard} holds another state")


def test_a_snapshot_of_a_shard_that_is_not_there_ends_the_start(node):
    snapshot(node, shard=SHARD_COUNT)
    error = refused(node, "snapshot of an unknown shard")
    assert (error.expected, error.got) == (f"0 to {SHARD_COUNT - 1}", SHARD_COUNT)


def test_snapshots_of_another_journal_do_not_fit_this_one():
    """The real store refuses them by their identity; entries that do not follow on
    are refused here."""
    journal = new_journal()
    node = Node(journal, MemorySnapshots(journal))
    for stan in range(1, 6):
        node.ask(stan=stan)
        node.commit()
    for state in node.states:
        node.snapshots.write(state.shard, state.sequence, journal.head, dump(state))
    with pytest.raises(JournalDamaged, match="a reader is ahead of the journal"):
        Node(new_journal(), node.snapshots)


# --- a journal that does not fit


def entries(node, count, first_stan):
    """Packed entries that follow on `node`, and the place of the first."""
    state = node.shard().state
    first = state.sequence + 1
    for stan in range(first_stan, first_stan + count):
        node.ask(stan=stan)
    node.turn()
    (_, (record,)) = node.submitted.pop()
    assert record.first_sequence == first
    return record


def test_missing_entries_of_one_shard_end_the_start_and_say_where(node):
    lost, kept = entries(node, 2, 10), None
    node.group.committed(node.journal.head)  # as if it had been written
    kept = entries(node, 1, 20)
    journal = node.journal.reopen()
    journal._sequences.advance([lost])  # as a journal would that lost a commit
    journal.append(NOW, [kept])
    with pytest.raises(JournalDamaged) as caught:
        recover(journal, None, Limits())
    error = caught.value
    assert f"entries of shard {kept.shard} are missing" in str(error)
    assert error.commit == journal.head
    assert error.expected == f"entry {lost.first_sequence}"
    assert error.got == f"entry {kept.first_sequence}"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"count": 3}, "not as long as it says: expected 3 entries, got 2"),
        ({"count": 1}, "not as long as it says: expected 1 entries, got 2"),
        ({"payload": b"rubbish"}, "expected a header of"),
    ],
)
def test_a_record_that_is_not_what_it_says_ends_the_start(node, change, match):
    record = entries(node, 2, 10)
    journal = node.journal.reopen()
    journal.append(NOW, [msgspec.structs.replace(record, **change)])
    with pytest.raises(JournalDamaged, match=match) as caught:
        recover(journal, None, Limits())
    assert caught.value.commit == journal.head
    assert f"shard {record.shard}" in str(caught.value)


def test_an_entry_that_cannot_follow_ends_the_start(node):
    """Accounts that are open already, in a journal of another bank."""
    state = node.shard().state
    first = next(iter(new_journal().read(0)))
    (record,) = [r for r in first.records if r.shard == state.shard]
    again = ShardRecord(state.shard, state.sequence + 1, record.count, record.payload)
    journal = node.journal.reopen()
    journal.append(NOW, [again])
    with pytest.raises(JournalDamaged, match="account is open already") as caught:
        recover(journal, None, Limits())
    assert caught.value.commit == journal.head


@pytest.mark.parametrize("byte", [40, 100, 400])
def test_a_damaged_commit_ends_the_start(node, byte):
    node.journal.damage(1, byte)
    error = refused(node, "record changed since it was written")
    assert error.commit == 1
