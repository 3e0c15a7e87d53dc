"""Calls to the owner of a shard: what is tried again, and what is not known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switch.peer.calls import Caller, CallFailed
from switch.peer.framing import Frame, FrameReader, Kind
from switch.peer.memory import MemoryOwners
from switch.shard.errors import Elsewhere

SHARD = 3


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
    def __init__(self, here=None):
        self.owners = MemoryOwners({SHARD: "b"})
        self.asked_here = []
        self.here = here
        self.caller = Caller("a", self.owners, self._answer_here)
        self.line: Any = Line("b")
        lines: dict[str, Any] = {"b": self.line}
        self.caller.lines.update(lines)

    async def _answer_here(self, shard, body):
        self.asked_here.append((shard, body))
        if self.here is not None:
            error, self.here = self.here, None
            raise error
        return b"from here"

    def call(self, *, may_repeat=False, seconds=5.0):
        return asyncio.create_task(
            self.caller.call(SHARD, b"question", may_repeat=may_repeat, seconds=seconds)
        )

    async def sent(self, count=1):
        while len(self.line.frames) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return self.line.frames[-1]

    def say(self, frame, kind, body=b""):
        self.caller.line_said(self.line, Frame(kind, 0, 0, frame.number, 0, body))

    def lose(self):
        self.caller.line_lost(self.line, list(self.line.in_flight))


def run(scenario, **options):
    async def main():
        await scenario(Setting(**options))

    asyncio.run(main())


def test_it_goes_to_the_owner_with_the_time_that_is_left():
    async def scenario(at):
        call = at.call()
        frame = await at.sent()
        assert (frame.kind, frame.shard, frame.body) == (Kind.CALL, SHARD, b"question")
        assert 0 < frame.left_ms <= 5000
        at.say(frame, Kind.RESULT, b"answer")
        assert await call == b"answer"
        assert at.line.in_flight == {}

    run(scenario)


def test_what_is_here_goes_nowhere():
    async def scenario(at):
        at.owners.owners[SHARD] = "a"
        assert await at.call() == b"from here"
        assert at.asked_here == [(SHARD, b"question")]
        assert at.line.frames == []

    run(scenario)


@pytest.mark.parametrize("kind", [Kind.NOT_MINE, Kind.REFUSED])
def test_where_nothing_happened_it_is_asked_again_even_once_only(kind):
    async def scenario(at):
        call = at.call()
        at.say(await at.sent(), kind, b"91why")
        at.say(await at.sent(2), Kind.RESULT, b"answer")
        assert await call == b"answer"

    run(scenario)


def test_a_shard_that_has_just_gone_from_here_is_asked_for_again():
    async def scenario(at):
        at.owners.owners[SHARD] = "a"
        assert await at.call() == b"from here"
        assert len(at.asked_here) == 2

    run(scenario, here=Elsewhere("gone"))


def test_with_no_answer_what_may_be_done_once_only_is_not_known():
    async def scenario(at):
        call = at.call()
        await at.sent()
        at.lose()
        with pytest.raises(CallFailed) as caught:
            await call
        assert caught.value.is_unknown
        assert len(at.line.frames) == 1

    run(scenario)


def test_with_no_answer_what_may_be_repeated_is():
    async def scenario(at):
        call = at.call(may_repeat=True)
        await at.sent()
        at.lose()
        at.say(await at.sent(2), Kind.RESULT, b"answer")
        assert await call == b"answer"

    run(scenario)


def test_what_ends_midway_here_is_not_known_either():
    async def scenario(at):
        at.owners.owners[SHARD] = "a"
        with pytest.raises(CallFailed) as caught:
            await at.call()
        assert caught.value.is_unknown

    run(scenario, here=RuntimeError("the session is lost"))


def test_nobody_has_it_until_the_time_is_over():
    async def scenario(at):
        at.owners.owners.clear()
        with pytest.raises(CallFailed, match="nobody has it") as caught:
            await at.call(seconds=0.1)
        assert not caught.value.is_unknown

    run(scenario)


def test_without_a_way_it_waits_for_one():
    async def scenario(at):
        at.line.has_room = False
        call = at.call()
        await asyncio.sleep(0.01)
        assert at.line.frames == []
        at.line.has_room = True
        at.say(await at.sent(), Kind.RESULT, b"answer")
        assert await call == b"answer"

    run(scenario)
