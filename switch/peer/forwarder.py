"""Requests that are not decided where they arrived: to whom, and what if that fails.

A request waits in one of these places until it is answered:

    looked up   the shard of its card is not known here: `CardLookup` is asked
    parked      nobody has the shard, as far as is known, or there is no way to its node
    in flight   sent to the shard's owner, whose answer is awaited
    answered    by the owner, by a shard that is here by now, or 91 at its deadline

Rule 1: a request may be sent again, to the same node or to the shard's next owner, for
        as long as it has time: the same request gets the same answer.
Rule 2: at its deadline it is answered 91. If it was never sent, or every node that got
        it has said that nothing happened, that is the end of it.
Rule 3: otherwise somebody may have approved it, and the 91 has to be made true: a VOID
        follows, until the owner of the shard says that it is durable. Then nothing is
        held for it, and every repeat gets 91.
Rule 4: nothing happens within `forward`: it may be called amid a read event.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable, Mapping

from iso8583 import DecodeError
from switch.flow._dispatch import Dispatcher
from switch.flow.outcome import Outcome
from switch.link._forwarding import Forwarded
from switch.observe.log import event
from switch.peer._replies import PeerReplies
from switch.peer.asking import PeerLine
from switch.peer.framing import Frame, FrameReader, Kind, pack
from switch.peer.port import CardLookup, Owners

# Requests that wait, and 91s that are to be made true.
FORWARDED_MAX = 65_536
# Cards whose shard is remembered; some 100 bytes each.
CARDS_KNOWN_MAX = 262_144
# Look-ups of cards at once; further ones wait in line.
LOOKUPS_MAX = 64
# Between two looks at what is parked, if nobody tells of a change.
RETRY_S = 0.05
# How long a 91 is tried to be made true. Whoever should do it is not there all the
# while; what it may have held ends with the hold's own time.
VOID_S_MAX = 3600.0
# Of a void, for the node that gets it: it is never late.
VOID_LEFT_MS = 60_000

MS_PER_S = 1000

_log = logging.getLogger("switch.peer")


class _Pending:
    __slots__ = ("is_uncertain", "is_void", "line", "number", "request", "shard")

    def __init__(self, request: Forwarded, number: int, *, is_void: bool) -> None:
        self.request = request
        self.number = number
        self.shard = -1
        self.line: PeerLine | None = None  # on which it is in flight
        self.is_uncertain = False  # it was sent, and what became of it is not known
        self.is_void = is_void


class Forwarder:
    def __init__(
        self,
        node: str,
        shard_count: int,
        dispatchers: Mapping[str, Dispatcher],
        cards: CardLookup,
        owners: Owners,
        *,
        clock: Callable[[], int],
    ) -> None:
        """`dispatchers`: by the link's name, in the order of the numbers that this node
        gives the links in its HELLO; what they count is counted by the link too.
        `clock`: milliseconds since 1970."""
        self.lines: dict[str, PeerLine] = {}
        self.expired = 0
        self.voids_made = 0
        self.voids_given_up = 0
        self._node = node
        self._shard_count = shard_count
        self._links = {name: number for number, name in enumerate(dispatchers)}
        self._replies = PeerReplies(self._made_here, list(dispatchers.values()))
        self._voids_here: dict[int, _Pending] = {}
        self._clock = clock
        self._cards = cards
        self._owners = owners
        self._known: dict[bytes, int] = {}
        self._pending: dict[int, _Pending] = {}
        self._parked: dict[int, dict[int, _Pending]] = {}
        self._unknown: deque[_Pending] = deque()
        self._lookups: set[asyncio.Task[None]] = set()
        self._due: list[tuple[float, int]] = []
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def pending(self) -> int:
        return len(self._pending)

    def forward(self, request: Forwarded) -> bool:
        """See `Endpoint`. False: there is no room for it."""
        if len(self._pending) >= FORWARDED_MAX or request.link not in self._links:
            return False
        pending = self._enter(request, is_void=False)
        shard = self._known.get(request.pan_hash)
        if shard is None:
            self._unknown.append(pending)
            self._loop.call_soon(self._look_up)
        else:
            pending.shard = shard
            self._send_or_park(pending)
        return True

    def owners_changed(self) -> None:
        """A shard has another owner, or is open here now."""
        self._loop.call_soon(self._retry)

    async def drain(self, timeout_s: float) -> None:
        """Until nothing waits, or so long."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            event(
                _log, logging.WARNING, "requests are not settled",
                requests=len(self._pending),
            )  # fmt: skip

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._lookups:
            task.cancel()
        await asyncio.gather(*self._lookups, return_exceptions=True)
        for pending in tuple(self._pending.values()):
            pending.request.abandon()
        self._pending.clear()
        self._parked.clear()

    # -- what lines tell

    def line_up(self, line: PeerLine) -> None:
        self.owners_changed()

    def line_said(self, line: PeerLine, frame: Frame) -> None:
        pending = self._pending.get(frame.number)
        if pending is None:
            return
        pending.line = None
        if frame.kind == Kind.ANSWER:
            self._answered(pending, frame.body)
        elif frame.kind == Kind.NOT_MINE:
            # Who has it is in the owners' own news; this one's may be older than ours.
            self._park(pending)
        else:
            self._refused(pending, line.node, frame.body.decode("utf-8", "replace"))

    def line_lost(self, line: PeerLine, numbers: list[int]) -> None:
        for number in numbers:
            pending = self._pending.get(number)
            if pending is not None:
                pending.line = None
                pending.is_uncertain = True
                self._park(pending)
        self.owners_changed()

    # -- where a request is

    def _enter(self, request: Forwarded, *, is_void: bool) -> _Pending:
        pending = _Pending(request, next(self._numbers), is_void=is_void)
        self._pending[pending.number] = pending
        self._idle.clear()
        due_s = request.due_ms / MS_PER_S
        if is_void:
            due_s = self._loop.time() + VOID_S_MAX
        heapq.heappush(self._due, (due_s, pending.number))
        self._arm()
        return pending

    def _leave(self, pending: _Pending) -> None:
        self._pending.pop(pending.number, None)
        self._voids_here.pop(pending.number, None)
        self._unpark(pending)
        if pending.line is not None:
            pending.line.in_flight.pop(pending.number, None)
            pending.line = None
        if not self._pending:
            self._idle.set()

    def _unpark(self, pending: _Pending) -> None:
        parked = self._parked.get(pending.shard)
        if parked is not None:
            parked.pop(pending.number, None)
            if not parked:
                del self._parked[pending.shard]

    def _park(self, pending: _Pending) -> None:
        self._parked.setdefault(pending.shard, {})[pending.number] = pending
        self._arm()

    def _send_or_park(self, pending: _Pending) -> None:
        line = self._line_to(pending.shard)
        if line is None:
            self._park(pending)
        else:
            self._send(pending, line)

    def _line_to(self, shard: int) -> PeerLine | None:
        owner = self._owners.owner_of(shard)
        line = None if owner is None else self.lines.get(owner)
        return line if line is not None and line.has_room else None

    def _send(self, pending: _Pending, line: PeerLine) -> None:
        request = pending.request
        if not pending.is_void and not request.is_wanted:
            request.abandon()
            self._leave(pending)
            return
        left_ms = int(request.due_ms - self._loop.time() * MS_PER_S)
        kind = Kind.REQUEST
        if pending.is_void:
            kind, left_ms = Kind.VOID, VOID_LEFT_MS
        elif left_ms <= 0:
            self._park(pending)  # its deadline is about to be seen
            return
        pending.line = line
        line.send(
            pending.number,
            pack(
                kind,
                request.body,
                link=self._links[request.link],
                shard=pending.shard,
                number=pending.number,
                left_ms=left_ms,
            ),
        )

    def _retry(self) -> None:
        for shard in tuple(self._parked):
            if self._owners.owner_of(shard) == self._node:
                self._decide_here(shard)
                continue
            if self._line_to(shard) is None:
                continue
            for pending in self._parked.pop(shard).values():
                self._send_or_park(pending)

    def _decide_here(self, shard: int) -> None:
        for pending in tuple(self._parked[shard].values()):
            try:
                is_here = self._decide_one(pending)
            except Exception as error:  # noqa: BLE001 -- ends with its request
                event(_log, logging.ERROR, "request failed", error=error)
                is_here = True
            if not is_here:
                return
            if not pending.is_void:
                self._leave(pending)

    def _decide_one(self, pending: _Pending) -> bool:
        """Whether the shard is here indeed."""
        request = pending.request
        if not pending.is_void:
            return request.decide(pending.shard)
        outcome = self._replies.ask(
            request.body,
            link=self._links[request.link],
            shard=pending.shard,
            number=pending.number,
            read_ms=round(self._loop.time() * MS_PER_S),
            left_ms=VOID_LEFT_MS,
            now=self._clock(),
            is_void=True,
        )
        if outcome != Outcome.ANSWERED:
            return False
        self._unpark(pending)
        self._voids_here[pending.number] = pending
        return True

    def _made_here(self, frames: bytes) -> None:
        for frame in FrameReader().feed(frames):
            pending = self._voids_here.pop(frame.number, None)
            if pending is not None:
                self._answered(pending, frame.body)

    def shards_lost(self) -> None:
        """Nothing is here any more: what was not durable yet is for the next owner."""
        voids = list(self._voids_here.values())
        self._voids_here.clear()
        for pending in voids:
            self._park(pending)

    # -- what becomes of it

    def _answered(self, pending: _Pending, body: bytes) -> None:
        self._leave(pending)
        if pending.is_void:
            self.voids_made += 1
            return
        try:
            pending.request.answer(body)
        except (DecodeError, ValueError) as error:
            event(
                _log, logging.ERROR, "answer of a node is none of the link",
                link=pending.request.link, reason=type(error).__name__,
            )  # fmt: skip
            pending.request.refuse("96")

    def _refused(self, pending: _Pending, node: str, text: str) -> None:
        code, why = text[:2], text[2:]
        if code == "91":
            self._park(pending)
            return
        event(
            _log, logging.ERROR, "request refused by a node",
            node=node, link=pending.request.link, reason=why,
        )  # fmt: skip
        self._leave(pending)
        if pending.is_void:
            self.voids_given_up += 1
        else:
            pending.request.refuse("96")

    def _expire(self, pending: _Pending) -> None:
        request = pending.request
        is_not_true_yet = self._may_be_approved(pending)
        self._leave(pending)
        if pending.is_void:
            self.voids_given_up += 1
            event(
                _log, logging.ERROR, "a hold may be left of a request answered 91",
                link=request.link, seconds=VOID_S_MAX,
            )  # fmt: skip
            return
        self.expired += 1
        request.refuse("91")
        if is_not_true_yet:
            void = self._enter(request, is_void=True)
            void.shard = pending.shard
            self._send_or_park(void)

    @staticmethod
    def _may_be_approved(pending: _Pending) -> bool:
        """By somebody, while its peer is told 91."""
        was_sent = pending.is_uncertain or pending.line is not None
        return was_sent and pending.request.asks and pending.request.is_wanted

    # -- time

    def _arm(self) -> None:
        """One timer: for what is parked, and for the next deadline."""
        if not self._due:
            return
        at = self._due[0][0]
        if self._parked:
            at = min(at, self._loop.time() + RETRY_S)
        if self._timer is not None:
            if self._timer.when() <= at and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._retry()
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            _, number = heapq.heappop(self._due)
            pending = self._pending.get(number)
            if pending is not None:
                self._expire(pending)
        while self._due and self._due[0][1] not in self._pending:
            heapq.heappop(self._due)
        self._arm()

    # -- cards

    def _look_up(self) -> None:
        while self._unknown and len(self._lookups) < LOOKUPS_MAX:
            pending = self._unknown.popleft()
            if pending.number not in self._pending:
                continue
            task = asyncio.create_task(self._look_up_one(pending))
            self._lookups.add(task)
            task.add_done_callback(self._looked_up)

    def _looked_up(self, task: asyncio.Task[None]) -> None:
        self._lookups.discard(task)
        self._look_up()

    async def _look_up_one(self, pending: _Pending) -> None:
        pan_hash = pending.request.pan_hash
        while pending.number in self._pending:
            try:
                shard = await self._cards.shard_of(pan_hash)
            except Exception as error:  # noqa: BLE001 -- it is tried again
                event(_log, logging.WARNING, "card not looked up", reason=error)
                await asyncio.sleep(RETRY_S)
                continue
            if shard is not None:
                self._know(pan_hash, shard)
            if pending.number in self._pending:
                pending.shard = self._default(pan_hash) if shard is None else shard
                self._park(pending)
                self._retry()
            return

    def _know(self, pan_hash: bytes, shard: int) -> None:
        if len(self._known) >= CARDS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[pan_hash] = shard

    def _default(self, pan_hash: bytes) -> int:
        """Where an unknown card is remembered: see `CardDirectory.shard_of`."""
        return int.from_bytes(pan_hash[:8], "little") % self._shard_count
