"""What can be set on a link: every limit with a name, a unit and its reason.

A scheme number keeps the transactions of one scheme apart from those of another: what
is a repeat, and what a reversal names, is looked for among its own.
"""

from __future__ import annotations

import ipaddress
import zlib
from typing import Annotated, Literal

from msgspec import Meta, Struct

FramingName = Literal["binary2", "binary4", "ascii4", "bcd2"]
Role = Literal["listen", "dial"]
SignOn = Literal["wait", "send"]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
# A day: nothing on a link waits longer.
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]

# The link that there is when none is named; its transactions are of scheme 0.
MAIN = "main"
# A transaction's key has seven bits for it.
SCHEME_MAX = 127


class Address(Struct, frozen=True):
    host: str
    port: Annotated[int, Meta(ge=0, le=65535)]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """HOST:PORT, an IPv6 host in brackets; port 0 lets the system choose."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        digits = port.isascii() and port.isdigit() and len(port) <= 5
        if not (colon and host and digits and int(port) <= 65535):
            raise ValueError(f"expected HOST:PORT, got {text!r}")
        return cls(host, int(port))

    def overlaps(self, other: Address) -> bool:
        """Whether both cannot be listened on at once. Names are not looked up."""
        if self.port != other.port or self.port == 0:
            return False
        if self.host == other.host:
            return True
        ours, theirs = _ip_address(self.host), _ip_address(other.host)
        return (
            ours is not None
            and theirs is not None
            and ours.version == theirs.version
            and (ours == theirs or ours.is_unspecified or theirs.is_unspecified)
        )


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def scheme_of(name: str) -> int:
    """The scheme number of a link that is not given one: by its name, for ever."""
    return 0 if name == MAIN else 1 + zlib.crc32(name.encode()) % SCHEME_MAX


class SessionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Who signs on: schemes mostly do it themselves, so we wait.
    sign_on: SignOn = "wait"
    # True: a financial request before sign-on is answered 91.
    sign_on_required: bool = False
    # A line that is silent for this long is tested, if it was ever used.
    echo_interval_ms: Milliseconds = 60_000
    response_timeout_ms: Milliseconds = 10_000
    # So many of our requests in a row without an answer: the peer is gone.
    unanswered_max: Count = 3


class LinkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Whether the scheme connects to us, or we to it.
    role: Role = "listen"
    # Where we listen, or what we dial.
    address: Address = Address("127.0.0.1", 8583)
    # The name of a specification that is shipped, or the path of one.
    spec: str = "iso87-ascii"
    framing: FramingName = "binary2"
    # True: the length on the wire counts the header too.
    inclusive: bool = False
    # Bytes of a body. No message of the shipped specifications comes near it.
    frame_size_max: Annotated[int, Meta(ge=1, le=65535)] = 8192
    # True: 5 bytes before each message, an id and two addresses; in a reply the
    # addresses have changed places. They count among the bytes of a body.
    tpdu: bool = False
    # Links of one scheme share it. `config.load` gives each name another.
    scheme: Annotated[int, Meta(ge=0, le=SCHEME_MAX)] = 0
    # Listening: each costs a socket and a few KiB; a scheme opens a handful.
    connections_max: Count = 1024
    # Of these, from one address: a peer that opens without end shuts out only itself.
    connections_per_address_max: Count = 256
    # Dialling: how many are kept open.
    connections: Annotated[int, Meta(ge=1, le=64)] = 1
    connect_timeout_ms: Milliseconds = 5_000
    # Until the next attempt after a connection has failed or was lost; doubled with
    # each that fails, up to the maximum. A connection that lasted for the maximum was
    # a good one, and the next attempt is soon again.
    redial_min_ms: Milliseconds = 500
    redial_max_ms: Milliseconds = 30_000
    # From a frame's first byte to its last; a frame is some hundred bytes. Whoever
    # takes longer speaks something else, or wants to keep us waiting.
    frame_timeout_ms: Milliseconds = 30_000
    # Requests of one connection that may wait for their commit; above it we stop
    # reading from that connection until they are answered.
    outstanding_max: Count = 4096
    # Frames in a row that are no message at all: the peer speaks something else.
    undecodable_max: Count = 16
    # An approval that is not durable so long after its request was read is taken back
    # and declined: the scheme has decided in our place by then, or is about to.
    answer_deadline_ms: Milliseconds = 5_000
    # How long answers that are due may take after SIGTERM, and after a peer's half
    # close, before the connection is cut.
    drain_timeout_ms: Milliseconds = 10_000
    session: SessionSettings = SessionSettings()
