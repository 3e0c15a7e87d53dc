"""The link that listens: its address, and who may connect.

Rule: above `connections_max`, above `connections_per_address_max` of one address, and
when descriptors run out, a connection is closed at once and counted; those that are
there never notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import cast

from switch.flow._dispatch import Dispatcher
from switch.link import descriptors
from switch.link._connection import Connection
from switch.link.acceptor import Acceptor
from switch.link.errors import ListenError
from switch.link.link import Link
from switch.link.settings import Address, LinkSettings
from switch.observe.listening import why_not_listening
from switch.observe.log import event

_log = logging.getLogger("switch.link")


class LinkServer(Link):
    _acceptor: Acceptor | None = None

    def __init__(
        self,
        name: str,
        settings: LinkSettings,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(name, settings, dispatcher, clock=clock)
        # Connections by the host that they are from.
        self._hosts: Counter[str] = Counter()

    @property
    def address(self) -> Address:
        """What is listened on, also when the system chose the port."""
        assert self._acceptor is not None
        host, port = self._acceptor.sockets[0].getsockname()[:2]
        return Address(host, port)

    async def start(self) -> None:
        endpoint = self._make_endpoint()
        address = self.settings.address
        try:
            self._acceptor = await Acceptor.listen(
                address.host,
                address.port,
                # A BufferedProtocol in all but its base class; see _connection.pyx.
                lambda: cast(asyncio.BaseProtocol, Connection(endpoint)),
            )
        except (OSError, UnicodeError) as error:
            raise ListenError(why_not_listening(str(address), error)) from None
        event(
            _log,
            logging.INFO,
            "listening",
            link=self.name,
            address=self.address,
            spec=self.dispatcher.codec.spec.name,
            framing=self.settings.framing,
        )

    def down(self) -> str:
        return "not listening" if self._acceptor is None else ""

    def stop_opening(self) -> None:
        super().stop_opening()
        if self._acceptor is not None:
            self._acceptor.close()

    def _refusal(self, connection: Connection) -> str:
        if reason := super()._refusal(connection):
            return reason
        if len(self.connections) >= self.settings.connections_max:
            return "connections_max is reached"
        of_its_host = self._hosts[_host(connection)]
        if of_its_host >= self.settings.connections_per_address_max:
            return "connections_per_address_max is reached"
        if descriptors.is_scarce(connection.descriptor):
            return "descriptors run out"
        return ""

    def _opened(self, connection: Connection) -> bool:
        if not super()._opened(connection):
            return False
        self._hosts[_host(connection)] += 1
        return True

    def _closed(self, connection: Connection) -> None:
        super()._closed(connection)
        host = _host(connection)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]


def _host(connection: Connection) -> str:
    return connection.peer.rpartition(":")[0]
