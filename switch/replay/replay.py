"""`switch replay`: captured requests out again, and their answers beside the captured.

Rule 1: order is kept. A connection's requests leave in the order in which they were
        captured. Without a pace, what was answered before a request was captured is
        answered before it is sent, whatever connection it came on.
Rule 2: memory does not grow with the capture. At most EXCHANGES_MAX requests are
        remembered for a captured answer that comes later in the file.
Rule 3: connections of the capture become connections here, at most as many as are
        wanted; beyond that they share.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

import iso8583
from switch.link._framing import Framing
from switch.replay.captures import CapturedFrame
from switch.replay.client import Answer, Client, answer_mti, is_answer, is_request
from switch.replay.comparing import differences
from switch.replay.errors import CaptureError
from switch.replay.matching import Entry, Waiting
from switch.replay.report import ReplayReport, Tally
from switch.replay.request import STANDARD_STATION, Station
from switch.replay.rewriting import Rewriter, Rewritten, UnmappedCardError

# captured requests whose captured answer may still come; about 2 KiB each
EXCHANGES_MAX: Final = 16_384
# a switch takes no more from a connection either (link.outstanding_max)
PACED_WINDOW: Final = 4096
PROGRESS_SECONDS: Final = 0.1
FAULTS_MAX: Final = 10
UNREADABLE_SHOWN_MAX: Final = 10


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    #: times as fast as captured; None: not by the captured times
    speed: float | None = None
    #: requests a second; None: no rate
    rate: float | None = None
    loops: int = 1
    #: requests outstanding on each connection; None: 1 without a pace
    window: int | None = None
    connections_max: int = 64
    timeout_s: float = 5.0
    sign_on: bool = False
    #: fields of answers that may differ
    ignored: frozenset[int] = frozenset()
    shown_max: int = 100

    @property
    def is_paced(self) -> bool:
        return self.speed is not None or self.rate is not None


class _Exchange:
    """A request on its way, and the answers to it, here and in the capture."""

    __slots__ = ("answer", "captured", "entry", "frame", "index", "sent", "task")

    def __init__(self, index: int, frame: CapturedFrame, sent: Rewritten) -> None:
        self.index = index
        self.frame = frame
        self.sent = sent
        self.captured: iso8583.Message | None = None
        self.answer: Answer | None = None
        self.entry: Entry[_Exchange] | None = None
        self.task: asyncio.Task[None] | None = None


class _Line:
    """One of our connections."""

    def __init__(self, client: Client, window: int) -> None:
        self.client = client
        self.room = asyncio.Semaphore(window)


class Replay:
    """One replay: `run`, then `report`."""

    def __init__(
        self,
        plan: ReplayPlan,
        codec: iso8583.Codec,
        framing: Framing,
        rewriter: Rewriter | None = None,
        station: Station = STANDARD_STATION,
    ) -> None:
        self.plan = plan
        self.sent = 0
        #: requests that the capture's other side should answer
        self.turned_round = 0
        self._codec = codec
        self._framing = framing
        self._station = station
        self._rewriter = rewriter or Rewriter()
        self._window = plan.window or (PACED_WINDOW if plan.is_paced else 1)
        self._tally = Tally(plan.shown_max)
        self._counts: Counter[str] = Counter()
        self._unreadable: list[str] = []
        self._lines: dict[int, _Line] = {}
        self._waiting: Waiting[_Exchange] = Waiting()
        self._running: set[asyncio.Task[None]] = set()
        #: of a task: nobody but us looks at it
        self._error: BaseException | None = None
        self._late_s_max = 0.0
        self._faults: list[str] = []
        # of a pass with a pace: when and with which request it began
        self._first = 0
        self._begin_s: float | None = None
        self._captured_begin_s: float | None = None
        self._seconds = 0.0

    async def run(
        self,
        frames: Callable[[], Iterable[CapturedFrame]],
        progress: Callable[[int, int], None] = lambda loop, sent: None,
    ) -> None:
        """`frames` gives the capture from its beginning, once for each loop.

        `progress` gets the loops done and the requests sent, some ten times a second.
        """
        async with contextlib.AsyncExitStack() as stack:
            started_s = time.monotonic()
            try:
                for loop in range(self.plan.loops):
                    self._rewriter.begin_pass()
                    await self._pass(loop, frames(), progress, stack)
                    await self._settle()
            finally:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)
                self._give_up(0)
                self._seconds = time.monotonic() - started_s
                self._look_at_lines()

    async def _pass(
        self,
        loop: int,
        frames: Iterable[CapturedFrame],
        progress: Callable[[int, int], None],
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._begin_s = self._captured_begin_s = None
        shown_s = 0.0
        for frame in frames:
            if (now_s := time.monotonic()) - shown_s >= PROGRESS_SECONDS:
                shown_s = now_s
                progress(loop, self.sent)
            message, is_whole = self._read(frame)
            if message is None:
                continue
            if is_answer(message.mti) and frame.to_switch is not True:
                await self._take_captured(message)
            elif is_request(message.mti) and frame.to_switch is not False:
                await self._send(frame, message, is_whole, stack)
            else:
                self._counts["skipped"] += 1
                self.turned_round += is_request(message.mti)

    def _read(self, frame: CapturedFrame) -> tuple[iso8583.Message | None, bool]:
        """The message, or of a malformed one the part before the fault.

        A malformed one is sent all the same, if an answer could be told as its own.
        """
        try:
            return self._codec.decode(frame.body), True
        except iso8583.DecodeError as error:
            if error.message is not None and 11 in error.message:
                return error.message, False
            self._counts["unreadable"] += 1
            if len(self._unreadable) < UNREADABLE_SHOWN_MAX:
                self._unreadable.append(f"{frame.place}: {error}")
            return None, False

    async def _send(
        self,
        frame: CapturedFrame,
        message: iso8583.Message,
        is_whole: bool,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        try:
            sent = self._rewriter.rewrite(frame.body, message, is_whole=is_whole)
        except UnmappedCardError:
            self._counts["unmapped"] += 1
            return
        line = await self._line(frame.connection, stack)
        await line.room.acquire()
        await self._wait_until_due(frame)
        exchange = _Exchange(self.sent, frame, sent)
        self.sent += 1
        exchange.entry = self._waiting.add(answer_mti(message.mti), message, exchange)
        exchange.task = asyncio.create_task(self._ask(line, exchange))
        self._running.add(exchange.task)
        exchange.task.add_done_callback(self._ended)
        self._give_up(EXCHANGES_MAX)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error

    async def _ask(self, line: _Line, exchange: _Exchange) -> None:
        try:
            exchange.answer = await line.client.ask(
                exchange.sent.body, exchange.sent.message, self.plan.timeout_s
            )
        finally:
            line.room.release()
            # a captured answer has been found, or none will be looked for any more
            if exchange.entry is None:
                self._conclude(exchange)

    async def _take_captured(self, message: iso8583.Message) -> None:
        exchange = self._waiting.take(message)
        if exchange is None:
            self._counts["skipped"] += 1
            return
        exchange.captured, exchange.entry = message, None
        assert exchange.task is not None
        if exchange.task.done():
            self._conclude(exchange)
        elif not self.plan.is_paced:
            await asyncio.wait((exchange.task,))

    def _give_up(self, count_max: int) -> None:
        """Looks no longer for the captured answers of the oldest requests."""
        while len(self._waiting) > count_max:
            entry = next(iter(self._waiting))
            self._waiting.discard(entry)
            exchange = entry.value
            exchange.entry = None
            if exchange.task is None or exchange.task.done():
                self._conclude(exchange)

    def _conclude(self, exchange: _Exchange) -> None:
        found = None
        if exchange.answer is not None and exchange.captured is not None:
            found = differences(
                exchange.captured,
                exchange.answer.message,
                self.plan.ignored,
                exchange.sent.replaced,
            )
        self._tally.add(
            exchange.index,
            exchange.frame.place,
            exchange.sent.message,
            exchange.answer,
            found,
        )

    async def _wait_until_due(self, frame: CapturedFrame) -> None:
        if not self.plan.is_paced:
            return
        now_s = time.monotonic()
        if self._begin_s is None:
            self._begin_s, self._first = now_s, self.sent
            self._captured_begin_s = frame.time_s
        if self.plan.rate is not None:
            due_s = self._begin_s + (self.sent - self._first) / self.plan.rate
        else:
            due_s = self._begin_s + self._captured_s(frame)
        self._late_s_max = max(self._late_s_max, now_s - due_s)
        # without a wait too, the tasks that send have to get their turn
        await asyncio.sleep(max(0.0, due_s - now_s))

    def _captured_s(self, frame: CapturedFrame) -> float:
        if frame.time_s is None or self._captured_begin_s is None:
            raise CaptureError(
                f"{frame.place}: expected a time to replay by, got a message without"
            )
        assert self.plan.speed is not None
        return (frame.time_s - self._captured_begin_s) / self.plan.speed

    async def _line(self, connection: int, stack: contextlib.AsyncExitStack) -> _Line:
        index = connection % self.plan.connections_max
        line = self._lines.get(index)
        if line is None:
            client = Client(
                self.plan.host,
                self.plan.port,
                self._codec,
                self._framing,
                station=self._station,
            )
            await stack.enter_async_context(client)
            if self.plan.sign_on:
                await client.sign_on()
            line = self._lines[index] = _Line(client, self._window)
        return line

    async def _settle(self) -> None:
        """Every request answered or given up; no answer of the capture is awaited."""
        if self._running:
            await asyncio.wait(tuple(self._running))
        self._give_up(0)
        if self._error is not None:
            raise self._error

    def _look_at_lines(self) -> None:
        clients = {index: line.client for index, line in self._lines.items()}
        self._counts["unexpected"] = sum(
            client.unexpected_count for client in clients.values()
        )
        lost = [
            f"connection {index + 1}: {client.lost}"
            for index, client in clients.items()
            if client.lost is not None
        ]
        self._faults = lost[:FAULTS_MAX]

    def report(self, notes: Counter[str]) -> ReplayReport:
        """`notes` are those of the capture."""
        counts = self._tally.counts
        return ReplayReport(
            sent=self.sent,
            answered=self.sent - counts["unanswered"],
            matched=counts["matched"],
            different=counts["different"],
            not_compared=counts["answered"],
            unanswered=counts["unanswered"],
            unexpected=self._counts["unexpected"],
            skipped=self._counts["skipped"],
            unmapped=self._counts["unmapped"],
            unreadable=self._counts["unreadable"],
            different_fields=dict(sorted(self._tally.different_fields.items())),
            response_codes=dict(sorted(self._tally.response_codes.items())),
            latency_ms=self._tally.latencies(),
            latency_buckets=self._tally.buckets(),
            late_ms_max=round(self._late_s_max * 1000, 3),
            seconds=round(self._seconds, 3),
            connections=len(self._lines),
            faults=[*self._faults, *self._unreadable],
            notes=dict(notes),
            frames=self._tally.frames(),
        )
