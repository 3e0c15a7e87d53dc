"""What becomes of each push: delivered once, tried again, or put aside.

Rule 1: pushes with the same id are one: while one is being delivered, the other waits
        for how that goes, and comes no sooner again than that; when it was delivered,
        or put aside, the other is passed over. The last REMEMBERED_MAX ids are known;
        of those before a start, none.
Rule 2: what was not taken comes again from NSQ, later each time, and meanwhile keeps
        nobody waiting. After so many times it is put aside, in a file, with the reason.
Rule 3: what is put aside is durable before NSQ forgets it.
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from switch.backoff import delay
from switch.notify.webhook import NotTakenError
from switch.nsq.consumer import Requeue
from switch.nsq.protocol import Message

T = TypeVar("T")

REMEMBERED_MAX: Final = 100_000
RETRY_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MAX: Final = 600.0


class _Push(msgspec.Struct):
    """What of a push we need."""

    id: str
    at: str = ""


class _DeadLetter(msgspec.Struct):
    at: str
    reason: str
    attempts: int
    push: str


class _Begun(NamedTuple):
    """How often it was tried, and when that may be again."""

    tries: int
    due_at: float


class Counts(Protocol):
    """What is counted, somewhere."""

    def delivered(self, seconds: float | None) -> None: ...

    def failed(self) -> None: ...

    def repeated(self) -> None: ...

    def put_aside(self) -> None: ...


class Poster(Protocol):
    async def post(self, push_id: str, body: bytes) -> None:
        """Raises NotTakenError."""


class DeadLetters:
    """A file of JSON lines, made for its owner alone."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def add(self, body: bytes, reason: str, attempts: int) -> None:
        """Durable on return."""
        letter = _DeadLetter(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            reason=reason,
            attempts=attempts,
            push=body.decode("utf-8", "replace"),
        )
        data = msgspec.json.encode(letter) + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class Deliveries:
    """`handle` is a consumer's handler."""

    def __init__(
        self,
        webhook: Poster,
        dead_letters: DeadLetters,
        counts: Counts,
        *,
        attempts_max: int,
        retry_seconds_min: float = RETRY_SECONDS_MIN,
        retry_seconds_max: float = RETRY_SECONDS_MAX,
        remembered_max: int = REMEMBERED_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._webhook = webhook
        self._dead_letters = dead_letters
        self._counts = counts
        self._attempts_max = attempts_max
        self._retry_seconds = retry_seconds_min, retry_seconds_max
        self._remembered_max = remembered_max
        self._clock = clock
        self._done: OrderedDict[str, None] = OrderedDict()
        # Of what is not done: how it goes, and who delivers it at this moment.
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._delivering: dict[str, asyncio.Event] = {}

    async def handle(self, message: Message) -> None:
        try:
            push = msgspec.json.decode(message.body, type=_Push)
        except msgspec.DecodeError as error:
            self._dead_letters.add(message.body, f"no push: {error}", message.attempts)
            self._counts.put_aside()
            return
        while (other := self._delivering.get(push.id)) is not None:
            await other.wait()
        if push.id in self._done:
            self._counts.repeated()
            return
        begun = self._begun.get(push.id)
        if begun is not None and begun.due_at > self._clock():
            raise Requeue(begun.due_at - self._clock())
        mine = self._delivering[push.id] = asyncio.Event()
        try:
            await self._deliver(push, message)
        finally:
            del self._delivering[push.id]
            mine.set()

    async def _deliver(self, push: _Push, message: Message) -> None:
        try:
            await self._webhook.post(push.id, message.body)
        except NotTakenError as error:
            self._counts.failed()
            begun = self._begun.get(push.id)
            # There may be two copies, each with attempts of its own; and before we
            # were started there were some.
            tries = message.attempts if begun is None else begun.tries + 1
            if tries < self._attempts_max:
                seconds = delay(tries - 1, *self._retry_seconds)
                due = _Begun(tries, self._clock() + seconds)
                self._remember(self._begun, push.id, due)
                raise Requeue(seconds) from None
            self._dead_letters.add(message.body, str(error), tries)
            self._counts.put_aside()
        else:
            self._counts.delivered(_age(push))
        self._begun.pop(push.id, None)
        self._remember(self._done, push.id, None)

    def _remember(self, where: "OrderedDict[str, T]", key: str, value: T) -> None:
        where[key] = value
        where.move_to_end(key)
        if len(where) > self._remembered_max:
            where.popitem(last=False)


def _age(push: _Push) -> float | None:
    """Since it was decided, by the clocks of two machines maybe."""
    try:
        at = datetime.fromisoformat(push.at)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return max(time.time() - at.timestamp(), 0.0)
