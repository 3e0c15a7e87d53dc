"""Calls between nodes: what is asked of a shard, wherever it is, and is no message of a
scheme. What is said in them is the business of whoever calls.

Rule 1: a call goes to the shard's owner, and is tried again while its time lasts when
        nothing has happened: the shard was elsewhere, or there was no room.
Rule 2: when it was sent and no answer came, only one that may be repeated is.
Rule 3: it has connections of its own, so that messages never wait for it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

from switch.peer.asking import PeerLine
from switch.peer.errors import PeerError
from switch.peer.framing import Frame, Kind, pack
from switch.peer.port import Owners
from switch.shard.errors import Elsewhere

CALL_SECONDS_MAX: Final = 15.0
# Calls of a node that wait; whoever comes then is told so.
CALLS_MAX: Final = 1024
# Between two looks at who owns the shard.
RETRY_S: Final = 0.05

MS_PER_S: Final = 1000

# Answers a call here, in a shard that is here. Raises Elsewhere if it is not.
AnswerHere = Callable[[int, bytes], Awaitable[bytes]]


class CallFailed(PeerError):  # noqa: N818 -- what happened
    """Nothing was done, or `is_unknown`: it may have been."""

    def __init__(self, what: str, *, is_unknown: bool = False) -> None:
        super().__init__(what)
        self.is_unknown = is_unknown


class Caller:
    """An `Asker` of `lines`, by the node's name, which its owner keeps."""

    def __init__(self, node: str, owners: Owners, answer_here: AnswerHere) -> None:
        self.lines: dict[str, PeerLine] = {}
        self._node = node
        self._owners = owners
        self._answer_here = answer_here
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Frame | None]] = {}
        self._calls = 0

    async def call(
        self,
        shard: int,
        body: bytes,
        *,
        may_repeat: bool,
        seconds: float = CALL_SECONDS_MAX,
    ) -> bytes:
        """The answer. Raises CallFailed."""
        if self._calls >= CALLS_MAX:
            raise CallFailed(f"expected at most {CALLS_MAX} calls that wait, got more")
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        trouble = "nobody has it"
        self._calls += 1
        try:
            while (left_s := until - loop.time()) > 0:
                try:
                    return await self._try(shard, body, left_s)
                except CallFailed as error:
                    if error.is_unknown and not may_repeat:
                        raise
                    trouble = str(error)
                await asyncio.sleep(min(RETRY_S, left_s))
        finally:
            self._calls -= 1
        raise CallFailed(
            f"shard {shard} did not answer within {seconds:g} s: {trouble}",
            is_unknown=may_repeat,
        )

    async def _try(self, shard: int, body: bytes, left_s: float) -> bytes:
        owner = self._owners.owner_of(shard)
        if owner is None:
            raise CallFailed("nobody has it")
        if owner == self._node:
            return await self._here(shard, body)
        line = self.lines.get(owner)
        if line is None or not line.has_room:
            raise CallFailed(f"no way to node {owner}")
        return await self._ask(line, shard, body, left_s)

    async def _here(self, shard: int, body: bytes) -> bytes:
        try:
            return await self._answer_here(shard, body)
        except Elsewhere:
            raise CallFailed("it has just gone elsewhere") from None
        except Exception as error:
            # What ends it midway says nothing of what became of it.
            raise CallFailed(str(error), is_unknown=True) from error

    async def _ask(
        self, line: PeerLine, shard: int, body: bytes, left_s: float
    ) -> bytes:
        number = next(self._numbers)
        answer: asyncio.Future[Frame | None]
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        left_ms = int(left_s * MS_PER_S)
        line.send(
            number, pack(Kind.CALL, body, shard=shard, number=number, left_ms=left_ms)
        )
        try:
            async with asyncio.timeout(left_s):
                frame = await answer
        except TimeoutError:
            frame = None
        finally:
            del self._waiting[number]
            line.in_flight.pop(number, None)
        if frame is None:
            raise CallFailed(f"no answer of node {line.node}", is_unknown=True)
        if frame.kind == Kind.RESULT:
            return frame.body
        said = frame.body.decode("utf-8", "replace")
        why = f"elsewhere: {said}" if frame.kind == Kind.NOT_MINE else said
        raise CallFailed(f"node {line.node}: {why}")

    # -- what lines tell

    def line_up(self, line: PeerLine) -> None:
        pass  # whoever waits looks by itself

    def line_said(self, line: PeerLine, frame: Frame) -> None:
        self._settle(frame.number, frame)

    def line_lost(self, line: PeerLine, numbers: list[int]) -> None:
        for number in numbers:
            self._settle(number, None)

    def _settle(self, number: int, frame: Frame | None) -> None:
        answer = self._waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_result(frame)
