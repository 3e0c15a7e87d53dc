"""Where a request waits that is not decided where it came, and what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switch.peer import forwarder as module
from switch.peer.forwarder import RETRY_S, VOID_S_MAX, Forwarder
from switch.peer.framing import Frame, FrameReader, Kind
from switch.peer.memory import MemoryCards, MemoryOwners
from tests.simulation.cluster.virtual import VirtualLoop
from tests.unit.link.in_memory import KEYS, PANS, Switch, fields

SHARD_COUNT = 4
CARD = KEYS.pan_hash(PANS["active"].encode())
UNKNOWN = KEYS.pan_hash(PANS["unknown"].encode())
SWITCH = Switch(shard_count=SHARD_COUNT)
SHARD = SWITCH.directory.shard(CARD)
BODY = SWITCH.codec.encode(fields("0100", 1))
TIME_S = 4.0


class Request:
    """What a connection hands over."""

    link = "main"

    def __init__(self, *, pan_hash=CARD, asks=True, time_s=TIME_S, body=BODY):
        now = asyncio.get_running_loop().time()
        self.body = body
        self.pan_hash = pan_hash
        self.asks = asks
        self.due_ms = int((now + time_s) * 1000)
        self.became = []
        self.is_wanted = True
        self.shard_is_here = True
        self.fault = None

    @property
    def is_done(self):
        return bool(self.became)

    def _become(self, what):
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self.became.append(what)
        self.is_wanted = False

    def answer(self, body):
        self._become(body)

    def refuse(self, code):
        if not self.is_done:
            self._become(code)

    def decide(self, shard):
        if self.shard_is_here:
            self._become(shard)
        return self.shard_is_here

    def abandon(self):
        if not self.is_done:
            self._become("abandoned")


class Line:
    def __init__(self, node):
        self.node = node
        self.in_flight = {}
        self.has_room = True
        self.frames = []

    def send(self, number, frame):
        self.in_flight[number] = None
        self.frames += FrameReader().feed(frame)


class Setting:
    def __init__(self, *, known=None, owners=None):
        self.cards = MemoryCards({CARD: SHARD} if known is None else known)
        self.owners = MemoryOwners({SHARD: "b"} if owners is None else owners)
        self.switch = Switch(shard_count=SHARD_COUNT)
        self.forwarder = Forwarder(
            "a", SHARD_COUNT, {"other": self.switch._dispatcher(1),
            "main": self.switch._dispatcher(0)}, self.cards, self.owners,
            clock=lambda: self.switch.now,
        )  # fmt: skip
        self.line, self.next = Line("b"), Line("c")
        lines: dict[str, Any] = {"b": self.line, "c": self.next}
        self.forwarder.lines.update(lines)

    def forward(self, request):
        assert self.forwarder.forward(request)

    async def sent(self, **options):
        """A request that is in flight to b, and its frame."""
        request = Request(**options)
        self.forward(request)
        await asyncio.sleep(0.001)
        return request, self.line.frames[-1]

    def say(self, line, kind, number, body=b""):
        del line.in_flight[number]
        self.forwarder.line_said(line, Frame(kind, 0, 0, number, 0, body))

    def lose(self, line):
        numbers = list(line.in_flight)
        line.in_flight.clear()
        line.has_room = False
        self.forwarder.line_lost(line, numbers)


@pytest.fixture
def running():
    """Runs a scenario in a setting, in a time of its own."""
    loops = []

    def run(scenario, **options):
        loop = VirtualLoop()
        loops.append(loop)

        async def main():
            setting = Setting(**options)
            await scenario(setting)
            await setting.forwarder.close()

        loop.run_until_complete(main())

    yield run
    for loop in loops:
        loop.close()


# --- to whom


def test_it_goes_to_the_owner_of_its_cards_shard_with_the_time_that_is_left(running):
    async def scenario(at):
        request, frame = await at.sent()
        assert (frame.kind, frame.link, frame.shard) == (Kind.REQUEST, 1, SHARD)
        assert frame.body == BODY
        assert TIME_S * 1000 - 10 <= frame.left_ms <= TIME_S * 1000
        at.say(at.line, Kind.ANSWER, frame.number, b"reply")
        assert request.became == [b"reply"]
        assert at.forwarder.pending == 0

    running(scenario)


def test_a_card_is_looked_up_once(running):
    async def scenario(at):
        await at.sent()
        await at.sent()
        assert at.cards.asked == [CARD]
        assert len(at.line.frames) == 2

    running(scenario)


def test_a_card_that_nobody_has_is_for_the_shard_of_its_hash_and_not_remembered(
    running,
):
    shard = int.from_bytes(UNKNOWN[:8], "little") % SHARD_COUNT

    async def scenario(at):
        for _ in range(2):
            await at.sent(pan_hash=UNKNOWN)
        assert [frame.shard for frame in at.line.frames] == [shard, shard]
        assert at.cards.asked == [UNKNOWN, UNKNOWN]

    running(scenario, owners=dict.fromkeys(range(SHARD_COUNT), "b"))


def test_a_look_up_that_fails_is_made_again(running):
    async def scenario(at):
        at.cards.faults += [OSError("no answer")] * 3
        request = Request()
        at.forward(request)
        await asyncio.sleep(5 * RETRY_S)
        assert len(at.cards.asked) == 4
        assert len(at.line.frames) == 1
        assert request.became == []

    running(scenario)


def test_a_look_up_that_goes_on_failing_ends_with_91(running):
    async def scenario(at):
        at.cards.faults += [OSError("no answer")] * 1000
        request = Request()
        at.forward(request)
        await asyncio.sleep(TIME_S + 0.01)
        assert request.became == ["91"]
        assert at.line.frames == []
        assert at.forwarder.pending == 0

    running(scenario)


def test_so_many_look_ups_at_once_and_no_more(running, monkeypatch):
    monkeypatch.setattr(module, "LOOKUPS_MAX", 2)

    async def scenario(at):
        for _ in range(5):
            at.forward(Request())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(at.cards.asked) == 2
        await asyncio.sleep(0.1)
        assert len(at.line.frames) == 5

    running(scenario)


def test_the_cards_that_are_remembered_are_bounded(running, monkeypatch):
    monkeypatch.setattr(module, "CARDS_KNOWN_MAX", 2)
    hashes = [bytes((number,)) * 16 for number in range(1, 4)]

    async def scenario(at):
        for pan_hash in (*hashes, hashes[0], hashes[2]):
            await at.sent(pan_hash=pan_hash)
        assert at.cards.asked == [*hashes, hashes[0]]

    running(scenario, known=dict.fromkeys(hashes, SHARD))


# --- waiting


def test_without_an_owner_it_waits_for_one(running):
    async def scenario(at):
        request = Request()
        at.forward(request)
        await asyncio.sleep(1.0)
        assert at.line.frames == []
        at.owners.owners[SHARD] = "c"
        at.forwarder.owners_changed()
        await asyncio.sleep(0)
        (frame,) = at.next.frames
        assert 2_900 <= frame.left_ms <= 3_000
        assert request.became == []

    running(scenario, owners={})


@pytest.mark.parametrize("tells", [True, False])
def test_without_a_way_to_its_owner_it_waits_for_one(running, tells):
    async def scenario(at):
        at.line.has_room = False
        at.forward(Request())
        await asyncio.sleep(1.0)
        assert at.line.frames == []
        at.line.has_room = True
        if tells:
            at.forwarder.line_up(at.line)
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(RETRY_S + 0.01)
        assert len(at.line.frames) == 1

    running(scenario)


def test_what_the_shard_gets_here_is_decided_here(running):
    async def scenario(at):
        request = Request()
        request.shard_is_here = False
        at.forward(request)
        await asyncio.sleep(0.5)
        at.owners.owners[SHARD] = "a"
        await asyncio.sleep(0.5)
        assert request.became == []  # its owner, and not yet open
        request.shard_is_here = True
        at.forwarder.owners_changed()
        await asyncio.sleep(0)
        assert request.became == [SHARD]
        assert at.forwarder.pending == 0

    running(scenario, owners={})


def test_an_error_in_deciding_one_is_not_the_others(running):
    async def scenario(at):
        broken, sound = Request(), Request()
        broken.fault = RuntimeError("broken")
        at.forward(broken)
        at.forward(sound)
        await asyncio.sleep(0.01)
        at.owners.owners[SHARD] = "a"
        await asyncio.sleep(RETRY_S * 2)
        assert sound.became == [SHARD]
        assert at.forwarder.pending == 0

    running(scenario, owners={})


def test_a_node_that_has_not_the_shard_is_asked_again_and_so_is_the_next_one(running):
    async def scenario(at):
        request, frame = await at.sent()
        at.say(at.line, Kind.NOT_MINE, frame.number)
        await asyncio.sleep(RETRY_S + 0.01)
        assert len(at.line.frames) == 2
        at.say(at.line, Kind.NOT_MINE, frame.number)
        at.owners.owners[SHARD] = "c"
        await asyncio.sleep(RETRY_S + 0.01)
        at.say(at.next, Kind.ANSWER, frame.number, b"reply")
        assert request.became == [b"reply"]

    running(scenario)


def test_above_its_bound_it_takes_no_more(running, monkeypatch):
    monkeypatch.setattr(module, "FORWARDED_MAX", 2)

    async def scenario(at):
        requests = [Request() for _ in range(3)]
        assert [at.forwarder.forward(request) for request in requests] == [
            True, True, False,
        ]  # fmt: skip
        await asyncio.sleep(TIME_S + 0.1)
        assert requests[2].became == []

    running(scenario, owners={})


def test_a_link_that_the_others_were_not_told_of_is_not_forwarded(running):
    async def scenario(at):
        request = Request()
        request.link = "new"
        assert not at.forwarder.forward(request)

    running(scenario)


def test_whose_peer_is_gone_is_not_sent(running):
    async def scenario(at):
        request = Request()
        at.forward(request)
        await asyncio.sleep(0.01)
        request.is_wanted = False
        at.owners.owners[SHARD] = "b"
        await asyncio.sleep(RETRY_S + 0.01)
        assert (at.line.frames, at.forwarder.pending) == ([], 0)
        assert request.became == ["abandoned"]

    running(scenario, owners={})


# --- at the deadline


def test_what_was_never_sent_is_answered_91_and_that_is_all(running):
    async def scenario(at):
        request = Request()
        at.forward(request)
        await asyncio.sleep(TIME_S - 0.01)
        assert request.became == []
        await asyncio.sleep(0.02)
        assert request.became == ["91"]
        assert (at.forwarder.pending, at.forwarder.expired) == (0, 1)

    running(scenario, owners={})


def test_of_what_a_node_said_that_nothing_happened_nothing_has_to_be_made_true(running):
    async def scenario(at):
        request, frame = await at.sent()
        at.owners.owners.clear()
        at.say(at.line, Kind.NOT_MINE, frame.number)
        await asyncio.sleep(TIME_S)
        assert request.became == ["91"]
        assert at.forwarder.pending == 0
        assert len(at.line.frames) == 1

    running(scenario)


def test_a_91_for_what_is_in_flight_is_made_true(running):
    async def scenario(at):
        request, frame = await at.sent()
        await asyncio.sleep(TIME_S)
        assert request.became == ["91"]
        assert frame.number not in at.line.in_flight
        void = at.line.frames[-1]
        assert (void.kind, void.link, void.shard) == (Kind.VOID, 1, SHARD)
        assert void.body == BODY
        assert void.number != frame.number
        assert at.forwarder.pending == 1
        at.say(at.line, Kind.ANSWER, void.number, b"reply")
        assert (at.forwarder.pending, at.forwarder.voids_made) == (0, 1)
        assert request.became == ["91"]

    running(scenario)


def test_so_is_one_for_what_was_lost_with_its_line_and_by_the_next_owner(running):
    async def scenario(at):
        request, _ = await at.sent()
        at.lose(at.line)
        await asyncio.sleep(TIME_S)
        assert request.became == ["91"]
        await asyncio.sleep(100)
        at.owners.owners[SHARD] = "c"
        at.forwarder.owners_changed()
        await asyncio.sleep(0)
        (void,) = at.next.frames
        assert void.kind == Kind.VOID
        at.lose(at.next)
        at.next.has_room = True
        await asyncio.sleep(RETRY_S + 0.01)
        at.say(at.next, Kind.REFUSED, void.number, b"91no room for it now")
        await asyncio.sleep(RETRY_S + 0.01)
        at.say(at.next, Kind.ANSWER, void.number, b"reply")
        assert (at.forwarder.pending, at.forwarder.voids_made) == (0, 1)

    running(scenario)


def test_what_was_lost_with_its_line_is_sent_again_while_there_is_time(running):
    async def scenario(at):
        request, frame = await at.sent()
        at.lose(at.line)
        at.owners.owners[SHARD] = "c"
        await asyncio.sleep(RETRY_S + 0.01)
        (again,) = at.next.frames
        assert (again.kind, again.body) == (Kind.REQUEST, BODY)
        at.say(at.next, Kind.ANSWER, frame.number, b"reply")
        assert request.became == [b"reply"]
        assert at.forwarder.pending == 0

    running(scenario)


def test_one_that_was_once_lost_is_made_void_though_nobody_else_got_it(running):
    async def scenario(at):
        request, _ = await at.sent()
        at.lose(at.line)
        at.owners.owners.clear()
        await asyncio.sleep(TIME_S)
        assert request.became == ["91"]
        assert at.forwarder.pending == 1

    running(scenario)


def test_what_cannot_be_told_no_is_not_made_void(running):
    async def scenario(at):
        request, _ = await at.sent(asks=False)
        await asyncio.sleep(TIME_S)
        assert request.became == ["91"]
        assert at.forwarder.pending == 0
        assert len(at.line.frames) == 1

    running(scenario)


def test_what_nobody_was_told_is_not_made_void(running):
    async def scenario(at):
        request, _ = await at.sent()
        request.is_wanted = False
        await asyncio.sleep(TIME_S)
        assert at.forwarder.pending == 0
        assert len(at.line.frames) == 1

    running(scenario)


def test_what_cannot_be_made_true_is_given_up_and_said(running):
    async def scenario(at):
        await at.sent()
        at.owners.owners.clear()
        await asyncio.sleep(TIME_S)
        assert at.forwarder.pending == 1
        at.lose(at.line)
        await asyncio.sleep(VOID_S_MAX + 1)
        assert (at.forwarder.pending, at.forwarder.voids_given_up) == (0, 1)

    running(scenario)


def test_a_void_whose_shard_is_here_by_now_counts_when_it_is_durable(running):
    async def scenario(at):
        approval, _ = await at.sent()
        line = at.switch.connect()
        at.switch.ask(line, fields("0100", 1))
        assert at.switch.account().held == 1_000
        at.lose(at.line)
        at.owners.owners.clear()
        await asyncio.sleep(TIME_S)
        at.owners.owners[SHARD] = "a"
        await asyncio.sleep(RETRY_S + 0.01)
        at.switch.turn()
        assert at.switch.account().held == 0
        assert at.forwarder.pending == 1
        at.switch.settle()
        assert (at.forwarder.pending, at.forwarder.voids_made) == (0, 1)
        assert approval.became == ["91"]

    running(scenario)


def test_a_void_that_was_lost_with_the_session_here_goes_to_the_next_owner(running):
    async def scenario(at):
        await at.sent()
        at.lose(at.line)
        at.owners.owners.clear()
        await asyncio.sleep(TIME_S)
        at.owners.owners[SHARD] = "a"
        await asyncio.sleep(RETRY_S + 0.01)
        at.switch.turn()
        assert at.switch.in_flight is not None
        at.switch.group.reset(RuntimeError("over"))
        at.owners.owners[SHARD] = "c"
        at.forwarder.shards_lost()
        await asyncio.sleep(RETRY_S + 0.01)
        assert [frame.kind for frame in at.next.frames] == [Kind.VOID]
        assert at.forwarder.voids_made == 0

    running(scenario)


# --- refusals


def test_what_a_node_refuses_is_answered_96(running):
    async def scenario(at):
        request, frame = await at.sent()
        at.say(at.line, Kind.REFUSED, frame.number, b"96the link is not the same here")
        assert request.became == ["96"]
        assert at.forwarder.pending == 0

    running(scenario)


def test_an_answer_that_is_none_is_answered_96(running):
    async def scenario(at):
        request, frame = await at.sent()
        request.fault = ValueError("no reply")
        at.say(at.line, Kind.ANSWER, frame.number, b"no reply")
        assert request.became == ["96"]

    running(scenario)


def test_an_answer_that_nobody_waits_for_is_nobodys(running):
    async def scenario(at):
        at.forwarder.line_said(at.line, Frame(Kind.ANSWER, 0, 0, 99, 0, b"reply"))

    running(scenario)


# --- the end


def test_draining_waits_for_what_is_pending(running):
    async def scenario(at):
        request, frame = await at.sent()
        draining = asyncio.create_task(at.forwarder.drain(10))
        await asyncio.sleep(1)
        assert not draining.done()
        at.say(at.line, Kind.ANSWER, frame.number, b"reply")
        await draining
        assert request.became == [b"reply"]

    running(scenario)


def test_draining_ends_by_its_time(running):
    async def scenario(at):
        await at.sent(time_s=100)
        await at.forwarder.drain(1)
        assert at.forwarder.pending == 1

    running(scenario)


def test_what_is_pending_at_the_end_is_abandoned(running):
    async def scenario(at):
        request, _ = await at.sent()
        await at.forwarder.close()
        assert request.became == ["abandoned"]

    running(scenario)
