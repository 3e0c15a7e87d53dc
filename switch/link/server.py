"""The listening side of one link: its address, its connections, its end.

Rule 1: above `connections_max` a connection is closed at once and counted; those that
        are there never notice.
Rule 2: draining answers everything that was received, then closes; what takes longer
        than `drain_timeout_ms` is cut off.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator
from typing import cast

from iso8583 import Dialect
from iso8583.dialect import STANDARD
from switch.flow._dispatch import Dispatcher
from switch.link._connection import Connection, Endpoint
from switch.link._counters import LinkCounters
from switch.link._framing import Framing
from switch.link.errors import ListenError
from switch.link.management import Management, NetworkMessages
from switch.link.settings import Address, LinkSettings
from switch.observe.log import event
from switch.observe.metrics import SECONDS_BOUNDS, Histogram, Sample

# Connections that the kernel keeps until we take them: a scheme that reconnects after
# a restart does so with all of them in one moment.
BACKLOG = 1024
# Before draining, turns of the loop that still read: a peer that never stops sending
# cannot keep us here.
DRAIN_TURNS_MAX = 100
# Beyond the drain time-out, for the transports to close.
CLOSE_TIMEOUT_S = 1.0

_log = logging.getLogger("switch.link")


class LinkServer:
    def __init__(
        self,
        settings: LinkSettings,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], int],
        dialect: Dialect = STANDARD,
    ) -> None:
        """`clock`: milliseconds since 1970."""
        self.settings = settings
        self.dispatcher = dispatcher
        self.counters = LinkCounters()
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._clock = clock
        self._framing = Framing(
            settings.framing, settings.inclusive, settings.frame_size_max
        )
        self._messages = NetworkMessages(dispatcher.codec, clock, dialect)
        self._server: asyncio.Server | None = None
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @property
    def address(self) -> Address:
        """What is listened on, also when the system chose the port."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(host, port)

    async def start(self) -> None:
        """Raises ListenError."""
        loop = asyncio.get_running_loop()
        endpoint = Endpoint(
            self._framing,
            self.dispatcher,
            self.counters,
            settings=self.settings,
            loop=loop,
            clock=self._clock,
            open_management=self._open_management,
            opened=self._opened,
            closed=self._closed,
        )
        listen = self.settings.listen
        try:
            self._server = await loop.create_server(
                # A BufferedProtocol in all but its base class; see _connection.pyx.
                lambda: cast(asyncio.BaseProtocol, Connection(endpoint)),
                listen.host,
                listen.port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise ListenError(_explain(listen, error)) from None
        event(
            _log,
            logging.INFO,
            "listening",
            address=self.address,
            spec=self.dispatcher.codec.spec.name,
            framing=self.settings.framing,
        )

    async def drain(self) -> None:
        """Takes no new connection and ends those there are, answering what is due."""
        self._stop_listening()
        await self._read_what_came()
        for connection in tuple(self.connections):
            connection.finish("drain", "the switch is stopping")
        timeout_s = self.settings.drain_timeout_ms / 1000 + CLOSE_TIMEOUT_S
        try:
            await asyncio.wait_for(self._all_closed.wait(), timeout_s)
        except TimeoutError:
            event(
                _log,
                logging.ERROR,
                "connections did not close",
                connections=len(self.connections),
            )

    async def abort(self) -> None:
        """Ends every connection with nothing more sent: the journal has failed."""
        self._stop_listening()
        for connection in tuple(self.connections):
            connection.finish("fault", "the journal cannot be written")
            connection.cut_off()
        await asyncio.wait_for(self._all_closed.wait(), CLOSE_TIMEOUT_S)

    def samples(self) -> Iterator[Sample]:
        """What is counted, for the metrics."""
        counters = self.counters
        signed_on = sum(connection.signed_on for connection in self.connections)
        yield Sample("connections", len(self.connections))
        yield Sample("connections_signed_on", signed_on)
        yield Sample("connections_accepted", counters.accepted)
        yield Sample("connections_refused", counters.refused)
        for kind, count in counters.closed.items():
            yield Sample("connections_closed", count, (kind,))
        yield Sample("frames_received", counters.frames_received)
        yield Sample("heartbeats_received", counters.heartbeats_received)
        yield Sample("bytes_received", counters.bytes_received)
        yield Sample("bytes_sent", counters.bytes_sent)
        for outcome in ("answered", "dropped", "framing"):
            count = getattr(counters, f"malformed_{outcome}")
            yield Sample("frames_malformed", count, (outcome,))
        yield Sample("faults", counters.faults)
        yield Sample("responses_dropped", counters.responses_unexpected, ("nobody",))
        yield Sample("responses_dropped", counters.replies_dropped, ("peer_gone",))
        yield Sample("approvals_withdrawn", counters.replies_late)
        yield Sample("reads_paused", counters.paused_by_peer, ("peer",))
        yield Sample("reads_paused", counters.paused_by_outstanding, ("outstanding",))
        yield Sample("requests_in_flight", counters.outstanding)
        for (mti, code), count in self.dispatcher.counts().items():
            yield Sample("requests", count, (mti, code))
        for code, count in counters.network_answers.items():
            yield Sample("requests", count, ("0800", code))
        yield Sample("duplicates", self.dispatcher.repeated)
        yield Sample(
            "reply_seconds",
            Histogram(
                SECONDS_BOUNDS,
                counters.reply_seconds_counts,
                counters.reply_seconds_sum,
            ),
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

    def _opened(self, connection: Connection) -> bool:
        if self.is_draining or len(self.connections) >= self.settings.connections_max:
            self.counters.refused += 1
            event(
                _log,
                logging.WARNING,
                "connection refused",
                peer=connection.peer,
                connections_max=self.settings.connections_max,
                draining=self.is_draining,
            )
            return False
        self.counters.accepted += 1
        self.connections.add(connection)
        self._all_closed.clear()
        event(_log, logging.INFO, "connection opened", peer=connection.peer)
        return True

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()

    async def _read_what_came(self) -> None:
        """What peers had sent when we were asked to stop, the kernel may still hold."""
        for _ in range(DRAIN_TURNS_MAX):
            before = self.counters.bytes_received
            await asyncio.sleep(0)  # a turn of the loop reads every socket
            if self.counters.bytes_received == before:
                return

    def _stop_listening(self) -> None:
        self.is_draining = True
        if self._server is not None:
            self._server.close()


def _explain(listen: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{listen}: already in use by another process; give a free address"
    return f"{listen}: cannot be listened on: {(error.strerror or str(error)).lower()}"
