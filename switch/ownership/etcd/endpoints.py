"""Connections to the members of an etcd cluster, and which one is asked next.

Rule 1: whether something was sent is known: nothing is, before a connection is there.
Rule 2: nothing is sent twice below this: gRPC's own repeating is off.
Rule 3: the member that answered last is asked next; one that did not answer, last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio
import msgspec

ENDPOINTS_MAX: Final = 16
# Of a listing: as many keys as shards and members there may be, some 200 bytes each.
ANSWER_BYTES_MAX: Final = 16 << 20
# A connection that is cut without a word is noticed. etcd takes more than one ping in
# five seconds for an attack.
PING_MS: Final = 10_000
PING_ANSWER_MS: Final = 3_000
RECONNECT_MS_MIN: Final = 100
RECONNECT_MS_MAX: Final = 1_000
OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.keepalive_time_ms", PING_MS),
    ("grpc.keepalive_timeout_ms", PING_ANSWER_MS),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MS_MAX),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
)
# TLS 1.3 lets a server look at a client's certificate when the client thinks that all
# is well; and what it says then, gRPC keeps to itself.
_SIGN_OF_REFUSED_CLIENT: Final = "TSI_DATA_CORRUPTED"
_REFUSED_CLIENT: Final = " (does etcd take this client's certificate?)"
_FAILED: Final = (
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


class Tls(msgspec.Struct, frozen=True):
    """As PEM. `cert` and `key` are of this client, if etcd wants to know it by them;
    `server_name` is another than the endpoints have, if their certificates do."""

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = None
    server_name: str | None = None

    def __repr__(self) -> str:
        return f"Tls(server_name={self.server_name!r})"


class Method(msgspec.Struct, frozen=True):
    """`is_stream`: both ways; one message each is what most of them are used for."""

    path: str
    request: Any
    response: Any
    is_stream: bool = False


class Endpoint:
    """One member, and what is known of it."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        self.address = address
        self.trouble = "nothing was heard"
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, OPTIONS)
        else:
            name = tls.server_name
            options = (("grpc.ssl_target_name_override", name),) if name else ()
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
            self._channel = grpc.aio.secure_channel(
                address, credentials, (*OPTIONS, *options)
            )
        self._methods: dict[str, Any] = {}

    def method(self, method: Method) -> Any:
        found = self._methods.get(method.path)
        if found is None:
            make = self._channel.unary_unary
            if method.is_stream:
                make = self._channel.stream_stream
            found = self._methods[method.path] = make(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return found

    async def is_connected(self, seconds: float) -> bool:
        """Or becomes so within that time; at once no when it has just failed to."""
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return True
        try:
            async with asyncio.timeout(seconds):
                while state not in _FAILED:
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
                    if state is grpc.ChannelConnectivity.READY:
                        return True
        except TimeoutError:
            self.trouble = f"no connection within {seconds:g} s"
            return False
        return False

    async def close(self) -> None:
        await self._channel.close()


class Endpoints:
    def __init__(self, addresses: Sequence[str], tls: Tls | None) -> None:
        if not 0 < len(addresses) <= ENDPOINTS_MAX:
            raise ValueError(
                f"expected 1 to {ENDPOINTS_MAX} endpoints of etcd, got {len(addresses)}"
            )
        self._line = [Endpoint(address, tls) for address in addresses]

    def __len__(self) -> int:
        return len(self._line)

    def all(self) -> tuple[Endpoint, ...]:
        return tuple(self._line)

    @property
    def next(self) -> Endpoint:
        return self._line[0]

    def put_last(self, endpoint: Endpoint) -> None:
        """Unless somebody else has meanwhile, and it is not its turn anyway."""
        if self._line[0] is endpoint:
            self._line.append(self._line.pop(0))

    def troubles(self) -> str:
        ordered = sorted(self._line, key=lambda endpoint: endpoint.address)
        text = "; ".join(f"{each.address}: {each.trouble}" for each in ordered)
        return text + _REFUSED_CLIENT if _SIGN_OF_REFUSED_CLIENT in text else text

    async def close(self) -> None:
        await asyncio.gather(*(endpoint.close() for endpoint in self._line))
