"""One reader and one sink: retries, bounds, and never past the released head."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.follower.consumer import (
    RETRY_SECONDS_MAX,
    RETRY_SECONDS_MIN,
    Consumer,
    Sink,
)
from switch.follower.sinks import PublishSink
from switch.journal.errors import JournalDamaged
from switch.journal.memory import MemoryJournal
from switch.journal.port import Commit, ShardRecord
from switch.publish.events import Event
from switch.publish.memory import MemoryPublisher
from switch.publish.port import PublishDamaged, PublishError
from tests.unit.small_bank import FINANCIAL, SHARD_COUNT, ask_everything, opened_bank

INTERVAL_SECONDS = 0.25


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Store:
    """What outlives a sink, and what befalls the sinks on it."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.batches: list[list[int]] = []
        self.opened = 0
        self.closed = 0
        self.fails_to_open = 0
        self.fails_to_take = 0
        self.fails_to_tend = 0
        self.fails_to_close = False
        self.tending = 0
        self.tending_comes_first = False

    def open(self) -> Sink:
        if self.fails_to_open:
            self.fails_to_open -= 1
            raise OSError(28, "No space left on device")
        self.opened += 1
        return FakeSink(self)


class FakeSink:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_open = True
        self.position = store.taken[-1] if store.taken else 0

    @property
    def wants_tending(self) -> bool:
        return self._store.tending_comes_first and self._store.tending > 0

    def take(self, commits: Sequence[Commit]) -> None:
        assert self._is_open
        if self._store.fails_to_take:
            self._store.fails_to_take -= 1
            raise PublishError("broken pipe")
        numbers = [commit.number for commit in commits]
        if numbers:
            assert numbers == list(range(self.position + 1, numbers[-1] + 1))
            self._store.taken += numbers
            self._store.batches.append(numbers)
            self.position = numbers[-1]

    def tend(self) -> bool:
        assert self._is_open
        if self._store.fails_to_tend:
            self._store.fails_to_tend -= 1
            raise OSError(28, "No space left on device")
        self._store.tending = max(self._store.tending - 1, 0)
        return self._store.tending > 0

    def close(self) -> None:
        self._is_open = False
        self._store.closed += 1
        if self._store.fails_to_close:
            raise OSError(5, "Input/output error")


def fill(journal: MemoryJournal, count: int, entries: int = 1) -> None:
    for _ in range(count):
        number = journal.head + 1
        first = (number - 1) * entries + 1
        journal.append(number, [ShardRecord(0, first, entries, b"payload")])


@pytest.fixture
def journal() -> MemoryJournal:
    journal = MemoryJournal(1)
    fill(journal, 10)
    return journal


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def consumer(journal, clock, store) -> Consumer:
    return consumer_of(journal, clock, store)


def consumer_of(
    journal: MemoryJournal, clock: Clock, store: Store, entries_max: int = 100
) -> Consumer:
    return Consumer(
        "a sink",
        journal,
        store.open,
        entries_max=entries_max,
        interval_seconds=INTERVAL_SECONDS,
        clock=clock,
    )


# --- the head


def test_nothing_beyond_the_released_head_is_taken(consumer, store, clock, journal):
    """The journal has ten commits; what is not released is not for anyone."""
    assert consumer.position == -1
    for head in (0, 1, 1, 4, 7, 10):
        clock.now += INTERVAL_SECONDS
        consumer.step(head)
        assert store.taken == list(range(1, head + 1))
        assert consumer.position == head


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans())),
    st.integers(1, 9),
)
def test_whatever_grows_when_only_what_is_released_is_taken(steps, entries_max):
    """And all of it in the end, in order and once."""
    journal, clock, store = MemoryJournal(1), Clock(), Store()
    consumer = consumer_of(journal, clock, store, entries_max)
    head = 0
    for appended, released, fails in steps:
        fill(journal, appended, entries=2)
        head = min(head + released, journal.head)
        store.fails_to_take = int(fails)
        clock.now += RETRY_SECONDS_MAX
        consumer.step(head)
        assert store.taken == list(range(1, len(store.taken) + 1))
        assert len(store.taken) <= head
    store.fails_to_take = 0
    for _ in range(len(steps) * 8 + 2):
        clock.now += RETRY_SECONDS_MAX
        consumer.step(head)
    assert store.taken == list(range(1, head + 1))
    assert consumer.fault is None
    # a commit more than the bound, at most: commits stay whole
    assert all(2 * (len(batch) - 1) < entries_max for batch in store.batches)


# --- batches


@pytest.mark.parametrize(
    ("entries", "entries_max", "sizes"),
    [(1, 3, [3, 3, 3, 1]), (3, 3, [1] * 10), (2, 3, [2] * 5), (50, 3, [1] * 10)],
)
def test_a_batch_is_bounded(clock, store, entries, entries_max, sizes):
    journal = MemoryJournal(1)
    fill(journal, 10, entries)
    consumer = consumer_of(journal, clock, store, entries_max)
    more = True
    while more:
        more = consumer.step(10)
    consumer.step(10)
    assert [len(batch) for batch in store.batches] == sizes


def test_full_batches_follow_at_once_and_others_after_a_while(clock, store):
    journal = MemoryJournal(1)
    fill(journal, 5)
    consumer = consumer_of(journal, clock, store, entries_max=2)
    assert consumer.step(5)
    assert consumer.wait_seconds(5) == 0
    assert consumer.step(5)
    assert not consumer.step(5)
    assert consumer.wait_seconds(5) is None
    fill(journal, 1)
    assert consumer.wait_seconds(6) == INTERVAL_SECONDS
    assert not consumer.step(6)
    assert store.taken == [1, 2, 3, 4, 5]
    clock.now += INTERVAL_SECONDS
    assert consumer.wait_seconds(6) == 0
    consumer.step(6)
    assert store.taken == [1, 2, 3, 4, 5, 6]


def test_the_interval_is_not_waited_for_when_it_hurries(consumer, store):
    consumer.step(4)
    consumer.step(9)
    assert store.taken[-1] == 4
    consumer.step(9, at_once=True)
    assert store.taken[-1] == 9


def test_housekeeping_that_cannot_wait_comes_before_more_commits(consumer, store):
    store.tending, store.tending_comes_first = 3, True
    assert [consumer.step(10) for _ in range(3)] == [True, True, False]
    assert store.batches == []
    consumer.step(10)
    assert store.batches == [list(range(1, 11))]


def test_housekeeping_goes_on_only_while_nothing_is_to_be_taken(
    consumer, store, clock, journal
):
    store.tending = 3
    consumer.step(10)
    assert store.tending == 3
    clock.now += INTERVAL_SECONDS
    assert consumer.step(10)
    fill(journal, 1)
    consumer.step(11)
    assert store.tending == 2
    clock.now += INTERVAL_SECONDS
    assert consumer.step(11)
    assert not consumer.step(11)


# --- faults


@pytest.mark.parametrize("kind", ["open", "take"])
def test_a_sink_that_fails_is_tried_again_later_and_later(consumer, store, clock, kind):
    setattr(store, f"fails_to_{kind}", 10)
    expected = RETRY_SECONDS_MIN
    for attempt in range(10):
        assert not consumer.step(10)
        assert consumer.fault
        assert consumer.position == -1
        assert consumer.wait_seconds(10) == expected
        left = getattr(store, f"fails_to_{kind}")
        assert left == 9 - attempt
        # a moment too early, and however much it hurries
        clock.now += expected - 0.001
        consumer.step(10)
        consumer.step(10, at_once=True)
        assert getattr(store, f"fails_to_{kind}") == left
        clock.now += 0.001
        expected = min(expected * 2, RETRY_SECONDS_MAX)
    consumer.step(10)
    assert (consumer.fault, consumer.position) == (None, 10)
    assert store.taken == list(range(1, 11))
    # and the next failure is waited for as the first was
    store.fails_to_take = 1
    fill(consumer._reading._journal, 1)
    clock.now += INTERVAL_SECONDS
    consumer.step(11)
    assert consumer.wait_seconds(11) == RETRY_SECONDS_MIN


def test_a_sink_that_failed_is_closed_and_a_new_one_says_where_it_is(
    consumer, store, clock
):
    consumer.step(4)
    store.fails_to_take = 1
    store.fails_to_close = True
    clock.now += INTERVAL_SECONDS
    consumer.step(10)
    assert (store.opened, store.closed) == (1, 1)
    assert consumer.fault == "PublishError: broken pipe"
    # somebody cut it back meanwhile
    del store.taken[2:]
    clock.now += RETRY_SECONDS_MIN
    consumer.step(10)
    assert (store.opened, store.closed) == (2, 1)
    assert store.taken == list(range(1, 11))


def test_a_fault_is_over_when_there_was_nothing_to_take(consumer, store, clock):
    """Housekeeping failed for want of room, and there is room again."""
    consumer.step(10)
    store.fails_to_tend = 2
    for expected in (RETRY_SECONDS_MIN, 2 * RETRY_SECONDS_MIN):
        clock.now += RETRY_SECONDS_MAX
        consumer.step(10)
        assert consumer.fault == "OSError: [Errno 28] No space left on device"
        assert consumer.wait_seconds(10) == expected
    clock.now += RETRY_SECONDS_MAX
    consumer.step(10)
    assert consumer.fault is None
    assert consumer.wait_seconds(10) is None


def test_a_sink_that_fails_does_not_hold_up_another(journal, clock):
    sick, well = Store(), Store()
    sick.fails_to_take = 1_000
    consumers = [consumer_of(journal, clock, store) for store in (sick, well)]
    for head in range(1, 11):
        clock.now += INTERVAL_SECONDS
        for consumer in consumers:
            consumer.step(head)
        assert well.taken == list(range(1, head + 1))
    assert sick.taken == []
    assert consumers[0].fault
    assert consumers[1].fault is None


def test_a_journal_that_fails_is_no_fault_of_the_sink(consumer, store, clock, journal):
    """It ends the process: nothing is retried on a journal that cannot be trusted."""
    consumer.step(2)
    journal.damage(5, 40)
    clock.now += INTERVAL_SECONDS
    with pytest.raises(JournalDamaged):
        consumer.step(10)
    assert store.taken == [1, 2]


def test_closing_closes_the_sink_once(consumer, store):
    consumer.close()
    consumer.step(1)
    consumer.close()
    consumer.close()
    assert store.closed == 1


# --- the sink that publishes


def bank_and_journal():
    bank, journal = opened_bank(), MemoryJournal(SHARD_COUNT)
    bank.commit(journal)
    ask_everything(bank)
    bank.commit(journal)
    bank.ask(FINANCIAL, amount=1)
    bank.commit(journal)
    return bank, journal


def test_whatever_part_was_published_the_rest_follows_once():
    """The publisher may stand behind any event, in the middle of a commit too."""
    bank, journal = bank_and_journal()
    everything: list[Event] = []
    PublishSink(MemoryPublisher(everything), journal).take(list(journal.read(0)))
    assert len(everything) == len(bank.entries)
    for count in range(len(everything) + 1):
        kept = everything[:count]
        sink = PublishSink(MemoryPublisher(kept), journal)
        assert sink.position == max(kept[-1].commit - 1 if kept else 0, 0)
        while sink.position < journal.head:
            sink.take(list(journal.read(sink.position, 1)))
        sink.take([])
        assert kept == everything


def test_a_publisher_that_fails_in_the_middle_goes_on_there():
    _, journal = bank_and_journal()
    expected: list[Event] = []
    PublishSink(MemoryPublisher(expected), journal).take(list(journal.read(0)))
    for count in range(len(expected)):
        kept: list[Event] = []
        publisher = MemoryPublisher(kept)
        publisher.fails_after = count
        sink = PublishSink(publisher, journal)
        with pytest.raises(PublishError):
            sink.take(list(journal.read(0)))
        assert sink.position == 0
        again = PublishSink(MemoryPublisher(kept), journal)
        again.take(list(journal.read(again.position)))
        assert kept == expected


def test_a_publisher_ahead_of_the_journal_is_refused():
    _, journal = bank_and_journal()
    kept: list[Event] = []
    PublishSink(MemoryPublisher(kept), journal).take(list(journal.read(0)))
    shorter = MemoryJournal(SHARD_COUNT)
    opened_bank().commit(shorter)
    with pytest.raises(PublishError, match="expected to have published up to commit 1"):
        PublishSink(MemoryPublisher(kept), shorter)


def test_a_publisher_of_another_journal_is_refused():
    """The last event that it published is in no such commit of this one."""
    _, journal = bank_and_journal()
    kept: list[Event] = []
    PublishSink(MemoryPublisher(kept), journal).take(list(journal.read(0)))
    other, bank = MemoryJournal(SHARD_COUNT), opened_bank()
    for _ in range(3):
        bank.ask(amount=1)
        bank.commit(other)
    sink = PublishSink(MemoryPublisher(kept), other)
    with pytest.raises(
        PublishDamaged, match="the last that was published, in commit 3"
    ):
        sink.take(list(other.read(sink.position)))
