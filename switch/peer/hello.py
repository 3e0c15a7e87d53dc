"""What a node says first, in both directions.

A request is decoded by the node that decides it with its own configuration of the
link. Both must read it alike, so each link has a fingerprint of all that says how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from iso8583 import Codec, Dialect
from switch.peer.errors import PeerProtocolError
from switch.peer.framing import VERSION

# The number of a link has a byte; there are fewer, see `config.LINKS_MAX`.
LINKS_MAX = 255


class LinkOffer(Struct, frozen=True):
    name: str
    fingerprint: str


class Identity(Struct, frozen=True):
    """What must be the same, or not, on both sides."""

    cluster: str
    node: str
    shard_count: int
    # Of the key that card numbers are hashed with: other hashes find other cards.
    pan_key: str


class Hello(Struct, frozen=True):
    version: int
    identity: Identity
    links: tuple[LinkOffer, ...]
    # By the clock that it decides by, in ms since 1970, if it tells. Nothing depends on
    # it: it is for `switch doctor`.
    at_ms: int | None = None


def fingerprint(codec: Codec, dialect: Dialect, scheme: int) -> str:
    """Of how a link's messages are read and answered."""
    plain = msgspec.to_builtins((codec.spec, dialect, scheme), str_keys=True)
    said = msgspec.json.encode(plain, order="deterministic")
    return hashlib.blake2b(said, digest_size=16).hexdigest()


def hello(
    identity: Identity, links: Mapping[str, str], at_ms: int | None = None
) -> bytes:
    """`links`: fingerprints by name, in the order of their numbers."""
    assert len(links) <= LINKS_MAX
    offers = tuple(LinkOffer(name, print_) for name, print_ in links.items())
    return msgspec.msgpack.encode(Hello(VERSION, identity, offers, at_ms))


def decoded(body: bytes) -> Hello:
    """Of whatever node. Raises PeerProtocolError."""
    try:
        return msgspec.msgpack.decode(body, type=Hello)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise PeerProtocolError("greeting of a node", "a HELLO", error) from None


def read_hello(body: bytes, ours: Identity) -> Hello:
    """Raises PeerProtocolError if it is of no node that may talk to this one."""
    said = decoded(body)
    if said.version != VERSION:
        raise PeerProtocolError("version of a node", VERSION, said.version)
    for name in ("cluster", "shard_count", "pan_key"):
        expected, got = getattr(ours, name), getattr(said.identity, name)
        if got != expected:
            raise PeerProtocolError(f"{name} of a node", expected, got)
    if said.identity.node == ours.node:
        raise PeerProtocolError("name of a node", "another one", said.identity.node)
    return said
