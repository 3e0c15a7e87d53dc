"""One engine's way through the journal, with faults on cue."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from switch.journal.errors import JournalError
from switch.journal.port import Commit
from switch.publish.events import Event
from switch.publish.memory import MemoryEngine
from switch.publish.port import PublishError, Refused
from switch.publish.positions import EnginePosition, PositionFiles
from switch.publisher import forwarder, places
from switch.publisher.forwarder import Forwarder, Plan
from switch.publisher.waker import Waker
from tests.unit.follower.running import Bank, until_it_is_so


@pytest.fixture
def bank(tmp_path):
    bank = Bank(tmp_path)
    yield bank
    bank.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(forwarder, "RETRY_SECONDS_MIN", 0.001)
    monkeypatch.setattr(forwarder, "RETRY_SECONDS_MAX", 0.002)
    monkeypatch.setattr(places, "POSITION_SECONDS", 0.0)


class Lab:
    """A bank's publisher: its engines share what they took, as a server would."""

    def __init__(self, bank: Bank, entries_max: int = 50, batches_max: int = 1) -> None:
        self.bank = bank
        self.taken: list[Event] = []
        self.engines: list[MemoryEngine] = []
        self.prepare: Callable[[MemoryEngine], None] = lambda engine: None
        self.entries_max = entries_max
        self.batches_max = batches_max
        self.waker = Waker()
        self.forwarder = self.make()

    def files(self) -> PositionFiles:
        identity = self.bank.journal.identity
        return PositionFiles(self.bank.directory / "publish", "memory", identity)

    def make(self) -> Forwarder:
        self.waker = Waker()
        return Forwarder(
            Plan("memory", self.open, self.entries_max, 0.0, self.batches_max),
            self.bank.journal,
            self.files(),
            lambda: self.bank.released.number,
            self.waker,
        )

    def open(self) -> MemoryEngine:
        engine = MemoryEngine(self.taken)
        self.prepare(engine)
        self.engines.append(engine)
        return engine

    @asynccontextmanager
    async def running(self):
        self.forwarder = self.make()
        task = asyncio.create_task(self.forwarder.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.waker.close()

    async def until_done(self) -> None:
        await until_it_is_so(lambda: self.forwarder.is_done)

    def ids(self) -> list[str]:
        return [event.id for event in self.taken]


def first(ids: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def test_all_that_is_released_goes_out_in_order_and_nothing_else(bank):
    lab = Lab(bank)
    bank.append(100)

    async def main() -> None:
        bank.release(60)
        async with lab.running():
            await lab.until_done()
            assert lab.ids() == bank.expected_ids(60)
            bank.release()
            lab.waker.wake()
            await lab.until_done()

    asyncio.run(main())
    assert lab.ids() == bank.expected_ids(bank.journal.head)
    assert lab.forwarder.status.published == len(lab.ids())
    assert lab.forwarder.status.entries == len(lab.ids())
    assert all(engine.is_closed for engine in lab.engines)


def test_it_goes_on_where_it_was(bank):
    lab = Lab(bank)

    async def main() -> None:
        for _ in range(3):
            bank.append(20)
            bank.release()
            async with lab.running():
                await lab.until_done()

    asyncio.run(main())
    # Not one of them twice: the position is stored at the end.
    assert lab.ids() == bank.expected_ids(bank.journal.head)


def test_killed_it_sends_again_what_its_position_does_not_have(bank, monkeypatch):
    lab = Lab(bank)
    bank.append(40)

    async def main() -> None:
        bank.release(30)
        async with lab.running():
            await lab.until_done()
        bank.release()
        monkeypatch.setattr(PositionFiles, "store", _never)
        async with lab.running():
            await lab.until_done()
        monkeypatch.undo()
        async with lab.running():
            await lab.until_done()

    asyncio.run(main())
    ids, behind = lab.ids(), bank.expected_ids(30)
    rest = bank.expected_ids(bank.journal.head)[len(behind) :]
    assert ids == [*behind, *rest, *rest]


def _never(_files: PositionFiles, _position: EnginePosition) -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize("seed", range(10))
def test_an_engine_that_fails_anywhere_misses_nothing_and_keeps_the_order(bank, seed):
    chance = random.Random(seed)
    lab = Lab(
        bank,
        entries_max=chance.choice((1, 7, 60, 1000)),
        batches_max=chance.choice((1, 2, 3)),
    )
    faults = 12

    def prepare(engine: MemoryEngine) -> None:
        if len(lab.engines) < faults:
            engine.is_unreachable = chance.random() < 0.3
            engine.fails_after = chance.randrange(8)

    lab.prepare = prepare

    async def main() -> None:
        async with lab.running():
            for _ in range(faults):
                bank.append(chance.randrange(1, 12))
                bank.release()
                lab.waker.wake()
                await until_it_is_so(lambda: lab.forwarder.status.commit > 0)
            await lab.until_done()

    asyncio.run(main())
    wanted = bank.expected_ids(bank.journal.head)
    assert first(lab.ids()) == wanted
    content: dict[str, Event] = {}
    assert all(content.setdefault(event.id, event) == event for event in lab.taken)


def test_batches_are_under_way_at_once_up_to_the_bound(bank):
    """Handed over in their order; the position goes behind what came back in it."""
    lab = Lab(bank, entries_max=1, batches_max=3)
    bank.append(10)
    bank.release()
    gates: list[asyncio.Event] = []

    def prepare(engine: MemoryEngine) -> None:
        send = engine.send

        async def wait_and_send(commits: Sequence[Commit]) -> Sequence[Refused]:
            gate = asyncio.Event()
            gates.append(gate)
            is_first = len(gates) == 1
            refused = await send(commits)
            if is_first:
                await gate.wait()
            return refused

        engine.send = wait_and_send  # type: ignore[method-assign]

    lab.prepare = prepare

    async def main() -> None:
        async with lab.running():
            await until_it_is_so(lambda: len(gates) == 3)
            for _ in range(20):
                await asyncio.sleep(0)
            # The others came back, and wait for the first.
            assert (len(gates), lab.forwarder.status.commit) == (3, 0)
            gates[0].set()
            await lab.until_done()

    asyncio.run(main())
    assert lab.ids() == bank.expected_ids(bank.journal.head)


def test_what_an_engine_still_owes_is_sent_again_by_the_next_one(bank):
    """Settled are two batches, acknowledged are all; the position is behind the two."""
    lab = Lab(bank, entries_max=1)
    bank.append(5)
    bank.release()
    head = bank.journal.head
    lab.prepare = lambda engine: setattr(
        engine, "settles", 2 if len(lab.engines) == 0 else None
    )

    async def main() -> None:
        async with lab.running():
            await lab.until_done()
            assert lab.forwarder.status.commit == head
        assert lab.files().load().commit == 2
        async with lab.running():
            await lab.until_done()

    asyncio.run(main())
    behind = bank.expected_ids(2)
    wanted = bank.expected_ids(head)
    assert lab.ids() == [*wanted, *wanted[len(behind) :]]
    assert lab.files().load().commit == head


def test_an_engine_that_fails_is_followed_by_one_that_sends_what_it_owed(bank):
    lab = Lab(bank, entries_max=1)
    bank.append(5)
    bank.release(6)
    lab.prepare = lambda engine: setattr(
        engine, "settles", 2 if len(lab.engines) == 0 else None
    )

    async def main() -> None:
        async with lab.running():
            await lab.until_done()
            lab.engines[0].fails_after = 0
            bank.release()
            lab.waker.wake()
            await until_it_is_so(lambda: len(lab.engines) == 2)
            await lab.until_done()

    asyncio.run(main())
    wanted = bank.expected_ids(bank.journal.head)
    sent = bank.expected_ids(6)
    assert lab.ids() == [*sent, *wanted[len(bank.expected_ids(2)) :]]


def test_a_position_that_waits_for_what_is_owed_is_not_remembered_without_bound(
    bank, monkeypatch
):
    monkeypatch.setattr(places, "MARKS_MAX", 4)
    lab = Lab(bank, entries_max=1)
    bank.append(30)
    bank.release()
    head = bank.journal.head
    lab.prepare = lambda engine: setattr(engine, "settles", 20)

    async def main() -> None:
        async with lab.running():
            await lab.until_done()

    asyncio.run(main())
    # Older than what was settled, and never younger.
    assert 0 < lab.files().load().commit <= 20 < head


def test_a_fault_is_told_and_over_when_it_is(bank):
    lab = Lab(bank)
    bank.release()
    lab.prepare = lambda engine: setattr(engine, "is_unreachable", len(lab.engines) < 3)

    async def main() -> None:
        faults = set()

        def has_failed() -> bool:
            faults.add(lab.forwarder.status.fault)
            return lab.forwarder.status.retries == 3

        async with lab.running():
            await until_it_is_so(has_failed)
            await lab.until_done()
        assert "PublishError: expected a server, got nobody" in faults

    asyncio.run(main())
    assert lab.forwarder.status.fault is None
    assert lab.forwarder.status.retries == 3


def test_what_is_refused_is_set_aside_and_the_rest_goes_on(bank):
    lab = Lab(bank)
    bank.append(10)
    bank.release()
    wanted = bank.expected_ids(bank.journal.head)
    poison = {wanted[3], wanted[-1]}
    lab.prepare = lambda engine: engine.refuses.update(poison)

    async def main() -> None:
        async with lab.running():
            await lab.until_done()

    asyncio.run(main())
    assert lab.ids() == [each for each in wanted if each not in poison]
    assert lab.forwarder.status.refused == 2
    text = lab.files().refused_path.read_text()
    assert text.count("refused on cue") == 2
    assert all(f'"{each}"' in text for each in poison)
    assert lab.forwarder.status.retries == 0


def test_an_operator_moves_it_back_while_it_runs(bank):
    lab = Lab(bank)
    bank.append(20)
    bank.release()
    wanted = bank.expected_ids(bank.journal.head)
    behind = bank.expected_ids(5)

    async def main() -> None:
        async with lab.running():
            await lab.until_done()
            moved = EnginePosition(bank.journal.identity.hex(), 5)
            lab.files().ask_to_move(moved)
            await until_it_is_so(lambda: not lab.files().is_asked_to_move())
            await until_it_is_so(lambda: lab.forwarder.status.published > len(wanted))
            await lab.until_done()

    asyncio.run(main())
    assert lab.ids() == [*wanted, *wanted[len(behind) :]]


def test_a_position_beyond_the_journal_is_a_fault_that_says_so(bank):
    lab = Lab(bank)
    bank.release()
    with lab.files() as files:
        files.store(EnginePosition(bank.journal.identity.hex(), 10**6))

    async def main() -> None:
        async with lab.running():
            await until_it_is_so(lambda: lab.forwarder.status.fault is not None)

    asyncio.run(main())
    fault = lab.forwarder.status.fault or ""
    assert "expected to have published up to commit 4" in fault
    assert lab.taken == []


def test_two_of_one_data_directory_do_not_publish_both(bank):
    lab = Lab(bank)
    bank.release()

    async def main() -> None:
        with lab.files():
            async with lab.running():
                await until_it_is_so(lambda: lab.forwarder.status.retries > 1)
                assert "only one to publish" in (lab.forwarder.status.fault or "")
        assert lab.taken == []
        async with lab.running():
            await lab.until_done()

    asyncio.run(main())
    assert lab.ids() == bank.expected_ids(bank.journal.head)


def test_an_engine_that_hangs_at_its_end_does_not_hold_up_the_end(bank, monkeypatch):
    monkeypatch.setattr(forwarder, "CLOSE_SECONDS_MAX", 0.01)
    lab = Lab(bank)
    bank.release()

    async def hang() -> None:
        await asyncio.Event().wait()

    lab.prepare = lambda engine: setattr(engine, "close", hang)

    async def main() -> None:
        async with lab.running():
            await lab.until_done()

    asyncio.run(main())
    assert not lab.files().is_locked()


def test_a_journal_that_cannot_be_read_ends_it(bank, monkeypatch):
    lab = Lab(bank)
    bank.release()

    def damaged(*_: object) -> None:
        raise JournalError("damaged")

    monkeypatch.setattr(bank.journal, "read", damaged)

    async def main() -> None:
        async with lab.running() as task:
            with pytest.raises(JournalError):
                await task

    asyncio.run(main())


def test_the_memory_engine_fails_as_it_is_told():
    async def main() -> None:
        engine = MemoryEngine()
        engine.is_unreachable = True
        with pytest.raises(PublishError):
            await engine.open()

    asyncio.run(main())
