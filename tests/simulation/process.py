"""One process of a simulated switch: what it reads, writes, answers and is told to do,
in an order that chance has chosen, until it crashes, fails or is stopped."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from iso8583 import Message
from switch.admin import types
from switch.admin.desk import Desk
from switch.embedded import Store, open_store
from switch.journal.errors import JournalError
from switch.ledger import ACCOUNT_STATUSES, CARD_STATUSES
from switch.shard._group import OverCapacity
from switch.shard.snapshotter import Snapshotter
from tests.simulation.embedded import (
    DEADLINES_MS,
    EmbeddedSwitch,
    answer_of,
    config_of,
)
from tests.simulation.model import Account, Card, Known, Model
from tests.simulation.power_loss import Disk
from tests.simulation.traffic import Sent, identity
from tests.unit.link.in_memory import ACCOUNTS, CARDS, PANS, Line

if TYPE_CHECKING:
    from tests.simulation.whole import Faults, World

STEPS_MAX = 70
MINUTE_MS = 60_000
REASON = "asked for"


class Crashed(Exception):  # noqa: N818 -- what happened
    """The process is gone, and what it left is in another directory."""


class Stopped(Exception):  # noqa: N818 -- what happened
    """The process ends, because its disk failed."""


class Inline(ThreadPoolExecutor):
    """Runs everything at once: two threads at the disk would be two histories."""

    def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **more))
        except Exception as error:  # noqa: BLE001 -- the future has it
            future.set_exception(error)
        return future


class Due(msgspec.Struct, eq=False):
    """An answer that is waited for: when so many steps are durable."""

    sent: Sent
    # A card that was issued meanwhile is another transaction's: it is in another shard.
    place: tuple[object, ...]
    known: Known
    after: int
    deadline_ms: int = 0  # of an approval that was decided for it


class Process:
    def __init__(self, world: World, disk: Disk, faults: Faults) -> None:
        self.world = world
        self.chance = world.chance
        self.disk = disk
        self.faults = faults
        self.due: dict[Line, defaultdict[tuple[str, ...], list[Due]]] = {}
        self.approvals: list[Due] = []  # decided for the next commit
        self.approvals_in_flight: list[Due] = []
        self.operators: list[tuple[asyncio.Task[Any], Any, int]] = []
        self.pending = 0
        self.is_stopped = False

    @property
    def model(self) -> Model:
        return self.world.model

    async def live(self, is_last: bool) -> None:
        world = self.world
        asyncio.get_running_loop().set_default_executor(Inline())
        with open_store(
            config_of(world.directory, world.ledger), vfs=self.disk.vfs
        ) as store:
            if self.faults.is_dead:
                raise Crashed
            self.begin(store)
            try:
                await self.work(is_last)
            finally:
                for task, _, _ in self.operators:
                    task.cancel()
                self.disk.fault = None

    def begin(self, store: Store) -> None:
        world = self.world
        world.tell(f"opened at commit {store.journal.head}")
        world.settle_doubt(store.journal.head)
        self.switch = EmbeddedSwitch(
            store,
            now=world.now,
            heard=self.heard,
            pending_max=world.limits.pending_max,
        )
        self.switch.on_submit = self.submitted
        self.lines = [self.connect(scheme) for scheme in range(len(DEADLINES_MS))]
        self.desk = Desk(
            self.switch.group,
            self.switch.directory,
            store.keys,
            lambda: self.switch.now,
        )
        self.snapshotter = Snapshotter(
            self.switch.group,
            store.snapshots,
            every_entries=1,
            sequences=store.recovered.snapshot_sequences,
        )
        self.compare()
        if not self.model.accounts:
            self.open_bank()

    def open_bank(self) -> None:
        now = self.switch.now
        for name, terms in ACCOUNTS.items():
            self.step("open_account", now, name, *terms)
        for pan, account, expiry, status in CARDS.values():
            self.step("issue_card", now, pan, account, expiry, CARD_STATUSES[status])
        self.switch.open_bank(lambda: None)
        self.pending += len(ACCOUNTS) + len(CARDS)

    def connect(self, scheme: int) -> Line:
        line = self.switch.open_line(scheme)
        self.due[line] = defaultdict(list)
        return line

    async def work(self, is_last: bool) -> None:
        count = self.chance.randint(5, STEPS_MAX)
        if self.world.is_in_doubt and self.chance.random() < 0.5:
            count = 3  # a crash now would find what the disk has lost
        for sent in self.some_told(5) + self.world.unanswered:
            if 90 not in sent.fields or self.world.is_remembered(sent):
                self.send(sent.repeat())
        for _ in range(count):
            await self.step_of_chance()
        if not is_last and self.chance.random() < 0.5:
            self.faults.crash()
            raise Crashed
        self.faults.countdown = 0
        self.settle()
        for sent in self.some_told(1_000):
            self.send(sent.repeat())
            self.settle()
        await self.hear_operators()
        self.compare()
        if self.chance.random() < 0.5:
            await self.take_snapshots(only_settle=True)
        assert not self.operators
        assert not any(any(due.values()) for due in self.due.values()), "unanswered"

    def some_told(self, count: int) -> list[Sent]:
        """What was answered, and must be answered the same."""
        told = [
            sent
            for _, sent, _ in self.world.told.values()
            if self.world.is_remembered(sent)
        ]
        return self.chance.sample(told, min(count, len(told)))

    # -- steps

    async def step_of_chance(self) -> None:
        steps = {
            "burst": 30, "turn": 15, "write": 25, "pass_time": 10, "set_clock": 1,
            "sweep": 3, "operate": 6, "take_snapshots": 3, "lose_peer": 1, "arm": 2,
            "settle": 4,
        }  # fmt: skip
        (name,) = self.chance.choices(list(steps), list(steps.values()))
        self.world.tell(name)
        with self.failing():
            outcome = getattr(self, name)()
            if isinstance(outcome, Coroutine):
                await outcome
        await self.hear_operators()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """A crash in it ends the process; so does an error of the disk."""
        try:
            yield
        except JournalError as error:
            if self.faults.is_dead:
                raise Crashed from None
            if not self.faults.has_failed:
                raise
            self.stop(error)
            raise Stopped from None
        if self.faults.is_dead:
            raise Crashed

    def stop(self, error: JournalError) -> None:
        """As the daemon does it: nobody is answered any more."""
        self.world.tell(f"stopped: {error}")
        self.switch.group.stop(error)
        self.is_stopped = True
        for line in self.lines:
            line.send(self.world.traffic.next().fields)
        self.switch.turn()

    def burst(self) -> None:
        for _ in range(self.chance.randint(1, 4)):
            self.send(self.world.traffic.next())

    def turn(self) -> None:
        self.switch.turn()

    def write(self) -> None:
        if self.switch.in_flight is not None:
            if self.chance.random() < 0.1:
                self.switch.now += self.chance.choice([1_200, 6_000])
            self.make_durable()

    def settle(self) -> None:
        self.switch.turn()
        while self.switch.in_flight is not None:
            self.make_durable()
            self.switch.turn()

    def pass_time(self) -> None:
        passed_ms = self.chance.choice(
            [3, 40, 900, 2_000, MINUTE_MS, 20 * MINUTE_MS, 50 * MINUTE_MS]
        )
        if passed_ms > MINUTE_MS:
            # What has left the window by the time it is durable is not taken back.
            self.settle()
        self.switch.now += passed_ms
        self.world.now = self.switch.now

    def set_clock(self) -> None:
        self.switch.set_clock(
            self.switch.now + self.chance.choice([-30, -1, 1, 30]) * MINUTE_MS
        )
        self.world.now = self.switch.now

    def sweep(self) -> None:
        for number, shard in enumerate(self.switch.group.shards):
            now = self.switch.now
            count = self.model.sweep(now, number)
            if count:
                self.world.gathering.append(("sweep", (now, number)))
            assert shard.end_holds(now) == count
            self.pending += count
        self.switch.group.flush()

    def lose_peer(self) -> None:
        """What it was due it does not get; it comes again."""
        scheme = self.chance.randrange(len(DEADLINES_MS))
        line = self.lines[scheme]
        del self.due[line]
        line.transport.lose(None)
        self.switch.turn()
        self.lines[scheme] = self.connect(scheme)

    def arm(self) -> None:
        what = self.chance.choice(["crash", "crash", "error", "errors"])
        self.faults.arm(what, 80)

    async def take_snapshots(self, *, only_settle: bool = False) -> None:
        """What else happens goes on meanwhile."""
        steps = [self.settle] if only_settle else [self.burst, self.write, self.settle]
        task = asyncio.create_task(self.snapshotter.take_all())
        try:
            await asyncio.sleep(0)
            while not task.done():
                with self.failing():
                    self.chance.choice(steps)()
                await asyncio.sleep(0)
        finally:
            task.cancel()
            (error,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(error, Exception) and not self.faults.has_failed:
            raise error
        self.world.tell(f"snapshots: {error or 'taken'}")

    # -- the model's part of a step

    def step(self, name: str, *arguments: Any) -> Any:
        """The model does it, and will do it again after a crash."""
        self.world.gathering.append((name, arguments))
        return getattr(self.model, name)(*arguments)

    @property
    def steps(self) -> int:
        world = self.world
        return sum(map(len, (world.durable, world.in_flight, world.gathering)))

    def submitted(self) -> None:
        world = self.world
        assert not world.in_flight
        world.in_flight, world.gathering = world.gathering, []
        self.approvals_in_flight, self.approvals = self.approvals, []
        self.pending = 0

    def make_durable(self) -> None:
        """As the commit thread and the loop do it."""
        world, switch = self.world, self.switch
        world.appended = number = switch.append()
        if self.chance.random() < 0.01:
            self.faults.crash()
        if self.faults.is_dead:
            raise Crashed
        world.durable += world.in_flight
        world.in_flight = []
        world.head = number
        self.withdraw_late()
        switch.hear_of(number)
        switch.store.journal.tend()

    def withdraw_late(self) -> None:
        now_ms = round(self.switch.loop.now * 1000)
        for due in self.approvals_in_flight:
            if due.deadline_ms < now_ms:
                sent = due.sent
                known = self.step("withdraw", self.switch.now, sent.scheme, sent.fields)
                known.after = self.steps
                self.pending += 1

    # -- messages

    def send(self, sent: Sent) -> None:
        line, group = self.lines[sent.scheme], self.switch.group
        now, before = self.switch.now, self.pending
        has_room = before < group.pending_max
        known, wrote = self.model.ask(now, sent.scheme, sent.fields, has_room=has_room)
        if wrote:
            self.world.gathering.append(("ask", (now, sent.scheme, sent.fields)))
            self.pending += 1
        place = (*sent.identity, self.model.shard_of(sent.fields[2]))
        due = Due(sent, place, known, self.steps)
        self.due[line][sent.identity].append(due)
        if wrote and known.approved:
            read_ms = round(self.switch.loop.now * 1000)
            due.deadline_ms = read_ms + DEADLINES_MS[sent.scheme]
            self.approvals.append(due)
        line.send(sent.fields)
        assert group.pending == self.pending, f"{sent}: {known}"

    def heard(self, line: Line, reply: Message) -> None:
        """An answer leaves."""
        world = self.world
        assert not self.is_stopped, "answered after the journal failed"
        assert not self.faults.is_dead
        name = identity(reply)
        due = self.due[line][name].pop(0)
        code, approval = answer = answer_of(reply)
        what = f"{due.sent.fields} was answered {answer}, expected {due.known}"
        assert code == due.known.code, what
        assert bool(approval) == due.known.approved, what
        assert len(world.durable) >= max(due.after, due.known.after), what
        self.disk.answered(None)
        if not due.known.is_kept:
            return
        at, _, first = world.told.get(due.place, (0, None, None))
        if at == due.known.at:
            assert answer == first, f"{what}, first {first}"
        else:
            world.told[due.place] = (due.known.at, due.sent, answer)
            if approval:
                assert approval not in world.approval_codes, what
                world.approval_codes.add(approval)

    # -- operators

    async def operate(self) -> None:
        now, chance = self.switch.now, self.chance
        name = chance.choice(list(self.model.accounts))
        pan = chance.choice(list(self.model.cards))
        what = chance.choice(
            ["adjust", "limit", "block", "status", "expiry", "issue", "open"]
        )
        await getattr(self, f"operate_{what}")(now, name, pan)

    async def operate_adjust(self, now: int, name: str, pan: str) -> None:
        """A new one, or one again that may have been lost: it is done once."""
        known, amount = self.world.adjustments, self.chance.choice([-700, 50, 3_000])
        key = self.chance.choice([*list(known)[-5:], f"key-{len(known)}"])
        name, amount = known.setdefault(key, (name, amount))
        done_at = self.model.done.get(key)
        if done_at is not None and now - done_at > self.world.limits.window_ms // 2:
            return  # it may be forgotten, or not
        body = types.AdjustBalance(amount, REASON)
        await self.ask_desk(
            self.adjust(name, body, key),
            [("adjust", (now, name, amount, key))] if done_at is None else [],
        )

    async def adjust(self, name: str, body: types.AdjustBalance, key: str) -> None:
        answer = await self.desk.adjust("maria", name, body, key)
        assert answer == self.world.adjusted.setdefault(key, answer)

    async def operate_limit(self, now: int, name: str, pan: str) -> None:
        limit = self.chance.choice([0, 1_000, 5_000])
        is_new = self.model.accounts[name].limit != limit
        await self.ask_desk(
            self.desk.change_account(
                "maria",
                name,
                types.ChangeAccount(REASON, credit_limit=limit),
            ),
            [("change_limit", (now, name, limit))] if is_new else [],
        )

    async def operate_block(self, now: int, name: str, pan: str) -> None:
        account = self.model.accounts[name]
        is_empty = not (account.balance or account.held)
        status: Any = self.chance.choice(["active", "blocked", "closed"])
        if status == account.status or (status == "closed" and not is_empty):
            return
        body = types.ChangeAccount(REASON, status=status)
        await self.ask_desk(
            self.desk.change_account("maria", name, body),
            [("change_status", (now, name, status))],
        )

    async def operate_status(self, now: int, name: str, pan: str) -> None:
        status: Any = self.chance.choice(CARD_STATUSES)
        await self.change_card(pan, types.ChangeCard("found", status=status), now)

    async def operate_expiry(self, now: int, name: str, pan: str) -> None:
        expiry = self.chance.choice(["2511", "2912"])
        body = types.ChangeCard("renewed", status="active", expiry=expiry)
        await self.change_card(pan, body, now)

    async def change_card(self, pan: str, body: types.ChangeCard, now: int) -> None:
        card = self.model.cards[pan]
        steps: list[tuple[str, Any]] = []
        if body.status not in (card.status, msgspec.UNSET):
            steps.append(("change_card", (now, pan, "status", body.status)))
        if body.expiry is not msgspec.UNSET and int(body.expiry) != card.expiry:
            steps.append(("change_card", (now, pan, "expiry", int(body.expiry))))
        token = self.switch.store.keys.pan_hash(pan.encode()).hex()
        await self.ask_desk(self.desk.change_card("maria", token, body), steps)

    async def operate_issue(self, now: int, name: str, pan: str) -> None:
        if (pan := PANS["unknown"]) in self.model.cards:
            return
        if self.model.accounts[name].status == "closed":
            return
        body = types.IssueCard(pan, name, "3012", REASON)
        await self.ask_desk(
            self.desk.issue_card("maria", body),
            [("issue_card", (now, pan, name, 3012, "active"))],
        )

    async def operate_open(self, now: int, name: str, pan: str) -> None:
        name = f"later-{len(self.model.accounts)}"
        balance = self.chance.choice([0, 100])
        body = types.OpenAccount(name, "GBP", REASON, balance, 20)
        await self.ask_desk(
            self.desk.open_account("maria", body),
            [("open_account", (now, name, 826, balance, 20))],
        )

    async def ask_desk(
        self, coroutine: Coroutine[Any, Any, Any], steps: list[tuple[str, Any]]
    ) -> None:
        # Where there is nothing to write, room for it may be asked for or not.
        has_room = self.pending + len(steps) <= self.switch.group.pending_max
        if not has_room and not steps:
            coroutine.close()
            return
        for name, arguments in steps if has_room else []:
            self.step(name, *arguments)
            self.pending += 1
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0)
        assert self.switch.group.pending == self.pending, steps
        self.operators.append((task, has_room, self.steps))

    async def hear_operators(self) -> None:
        for _ in range(3):  # the future, the task, and who waits for it
            await asyncio.sleep(0)
        waiting = []
        for task, has_room, after in self.operators:
            if not task.done():
                waiting.append((task, has_room, after))
            elif has_room:
                task.result()
                assert len(self.world.durable) >= after, "told before it was durable"
            else:
                assert isinstance(task.exception(), OverCapacity)
        self.operators = waiting

    # -- the books

    def compare(self) -> None:
        """What the states say, and what the model does."""
        accounts: dict[str, Account] = {}
        cards: dict[str, Card] = {}
        pans = {
            self.switch.store.keys.pan_hash(pan.encode()): pan
            for pan in (*PANS.values(), *self.model.cards)
        }
        for state in self.switch.states:
            names = []
            for view in state.accounts():
                names.append(view.account)
                accounts[view.account] = Account(
                    view.currency,
                    view.balance,
                    view.credit_limit,
                    view.held,
                    ACCOUNT_STATUSES[view.status],
                )
            for pan_hash in state.card_hashes():
                card = state.card(pan_hash)
                assert card is not None
                cards[pans[pan_hash]] = Card(
                    card.account, card.expiry, CARD_STATUSES[card.status]
                )
            holds = [
                (names[hold.account_index], hold.remaining) for hold in state.holds()
            ]
            expected = [
                (known.account, known.remaining)
                for known in self.model.holds[state.shard]
            ]
            assert holds == expected
        assert accounts == self.model.accounts
        assert cards == self.model.cards
