"""One link: what listening and dialling share; its connections, counts and end.

Rule 1: draining answers everything that was received, then closes; what takes longer
        than `drain_timeout_ms` is cut off.
Rule 2: a link is up when messages can come by it. Why it is not is said in words.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from switch.flow._dispatch import Dispatcher
from switch.link._connection import Connection
from switch.link._counters import LinkCounters
from switch.link._endpoint import Endpoint
from switch.link._forwarding import Forwarded
from switch.link._framing import Framing
from switch.link.hints import Hints
from switch.link.management import Management, NetworkMessages
from switch.link.settings import LinkSettings
from switch.observe.log import event
from switch.observe.metrics import SECONDS_BOUNDS, Histogram, Sample

# Before draining, how long is still read: a peer that never stops sending, or takes no
# answers, cannot keep us here.
READ_OUT_S = 1.0
# Between two looks at connections whose reading has stopped.
HELD_UP_S = 0.001
# Beyond the drain time-out, for the transports to close.
CLOSE_TIMEOUT_S = 5.0

_log = logging.getLogger("switch.link")


class Link(ABC):
    """`LinkServer` and `LinkDialler` are the two kinds."""

    def __init__(
        self,
        name: str,
        settings: LinkSettings,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], int],
        forward: Callable[[Forwarded], bool] | None = None,
    ) -> None:
        """`clock`: milliseconds since 1970. `forward` takes what is for other nodes."""
        self.name = name
        self.settings = settings
        self.dispatcher = dispatcher
        self.counters = LinkCounters()
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._clock = clock
        self._forward = forward
        self._framing = Framing(
            settings.framing, settings.inclusive, settings.frame_size_max
        )
        self._messages = NetworkMessages(dispatcher.codec, clock, dispatcher.dialect)
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @abstractmethod
    async def start(self) -> None:
        """Raises ListenError."""

    @abstractmethod
    def down(self) -> str:
        """Why no message can come by this link; empty when it is up."""

    def stop_opening(self) -> None:
        """No new connection from now on; those there are stay."""
        self.is_draining = True

    async def drain(self, reason: str = "the switch is stopping") -> None:
        """Opens no new connection and ends those there are, answering what is due."""
        self.stop_opening()
        await self._read_what_came()
        for connection in tuple(self.connections):
            connection.finish("drain", reason)
        timeout_s = self.settings.drain_timeout_ms / 1000 + CLOSE_TIMEOUT_S
        try:
            await asyncio.wait_for(self._all_closed.wait(), timeout_s)
        except TimeoutError:
            event(
                _log,
                logging.ERROR,
                "connections did not close",
                link=self.name,
                connections=len(self.connections),
            )

    async def abort(self) -> None:
        """Ends every connection with nothing more sent: the journal has failed."""
        self.stop_opening()
        for connection in tuple(self.connections):
            connection.finish("fault", "the journal cannot be written")
            connection.cut_off()
        await asyncio.wait_for(self._all_closed.wait(), CLOSE_TIMEOUT_S)

    def samples(self) -> Iterator[Sample]:
        """What is counted, for the metrics; the first label is always the link."""
        if not self.is_draining:
            yield Sample("link_up", int(not self.down()), (self.name,))
        for name, value, *labels in self._figures():
            yield Sample(name, value, (self.name, *labels))
        for (mti, code), count in self.dispatcher.counts().items():
            yield Sample("requests", count, (self.name, mti, code))
        for code, count in self.counters.network_answers.items():
            yield Sample("requests", count, (self.name, "0800", code))
        for kind, count in self.counters.closed.items():
            yield Sample("connections_closed", count, (self.name, kind))
        waited = Histogram(
            SECONDS_BOUNDS,
            self.counters.reply_seconds_counts,
            self.counters.reply_seconds_sum,
        )
        yield Sample("reply_seconds", waited, (self.name,))

    def _figures(self) -> Iterator[tuple[str, int] | tuple[str, int, str]]:
        counters = self.counters
        yield "connections", len(self.connections)
        yield "connections_signed_on", sum(each.signed_on for each in self.connections)
        yield "connections_opened", counters.opened
        yield "connections_refused", counters.refused
        yield "dials_failed", counters.dials_failed
        yield "frames_received", counters.frames_received
        yield "requests_forwarded", counters.forwarded
        yield "heartbeats_received", counters.heartbeats_received
        yield "bytes_received", counters.bytes_received
        yield "bytes_sent", counters.bytes_sent
        yield "frames_malformed", counters.malformed_answered, "answered"
        yield "frames_malformed", counters.malformed_dropped, "dropped"
        yield "frames_malformed", counters.malformed_framing, "framing"
        yield "network_requests_unanswered", counters.network_unanswered
        yield "faults", counters.faults
        yield "responses_dropped", counters.responses_unexpected, "nobody"
        yield "responses_dropped", counters.replies_dropped, "peer_gone"
        yield "approvals_withdrawn", counters.replies_late
        yield "reads_paused", counters.paused_by_peer, "peer"
        yield "reads_paused", counters.paused_by_outstanding, "outstanding"
        yield "reads_paused", counters.paused_by_turn, "turn"
        yield "reads_paused", counters.paused_by_pieces, "pieces"
        yield "requests_in_flight", counters.outstanding
        yield "duplicates", self.dispatcher.repeated

    def _make_endpoint(self) -> Endpoint:
        return Endpoint(
            self.name,
            self._framing,
            self.dispatcher,
            self.counters,
            settings=self.settings,
            loop=asyncio.get_running_loop(),
            clock=self._clock,
            open_management=self._open_management,
            opened=self._opened,
            closed=self._closed,
            look=Hints(self.dispatcher.codec, self._framing, tpdu=self.settings.tpdu),
            forward=self._forward,
        )

    # -- what connections tell

    def _open_management(self, connection: Connection) -> Management:
        return Management(
            connection,
            self._messages,
            self.settings.session,
            asyncio.get_running_loop().time,
            self.counters,
        )

    def _refusal(self, connection: Connection) -> str:
        """Why a connection may not stay; empty when it may."""
        return "the link is ending" if self.is_draining else ""

    def _opened(self, connection: Connection) -> bool:
        if reason := self._refusal(connection):
            self.counters.refused += 1
            event(
                _log,
                logging.WARNING,
                "connection refused",
                link=self.name,
                peer=connection.peer,
                reason=reason,
                connections=len(self.connections),
            )
            return False
        self.counters.opened += 1
        self.connections.add(connection)
        self._all_closed.clear()
        event(
            _log,
            logging.INFO,
            "connection opened",
            link=self.name,
            peer=connection.peer,
        )
        return True

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()

    async def _read_what_came(self) -> None:
        """What peers had sent when we were asked to stop, the kernel may still hold."""
        loop = asyncio.get_running_loop()
        end = loop.time() + READ_OUT_S
        quiet_turns = 0
        # Each turn of the loop reads every socket. The first one without news may be
        # the one in which the last connection was read again at its end.
        while quiet_turns < 2 and loop.time() < end:
            before = self.counters.bytes_received
            await asyncio.sleep(0)
            is_held_up = any(each.is_held_up for each in self.connections)
            if self.counters.bytes_received > before or is_held_up:
                quiet_turns = 0
            else:
                quiet_turns += 1
            if is_held_up:
                await asyncio.sleep(HELD_UP_S)
