"""What a peer's bytes look like when they are not what its link expects.

Rule 1: asked only about bytes that are no frames or no messages, and at most once a
        second for a link, for it tries every framing with every specification.
Rule 2: a hint is said only when all of the bytes read as something else. It holds no
        content of a field.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

import iso8583
from iso8583.guess import shipped_specs
from switch.link._framing import Framing
from switch.link.guess import (
    Candidate,
    all_framings,
    cut,
    framing_text,
    guess,
)

# an id and two addresses
TPDU_SIZE: Final = 5

# What protocols begin with that are none of ours.
BEGINNINGS: Final = (
    (b"\x16\x03", "these are TLS bytes: this port is plain"),
    (b"SSH-", "this is SSH"),
    (b"PROXY ", "this is a header of the PROXY protocol"),
    (b"\r\n\r\n\x00\r\nQUIT\n", "this is a header of the PROXY protocol"),
    *(
        (method + b" ", "this is an HTTP request")
        for method in (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT")
    ),
    (b"PRI * HTTP/2", "this is an HTTP request"),
)


class Hints:
    """For one link: what it expects, and what else there is."""

    def __init__(self, codec: iso8583.Codec, framing: Framing, *, tpdu: bool) -> None:
        shipped = (one for one in _shipped_codecs() if one.spec != codec.spec)
        # Of what reads alike the first is told: what differs least from what we are.
        self._codecs = [codec, *shipped]
        self._framings = [
            framing,
            *(
                each
                for each in all_framings()
                if each is not None and framing_text(each) != framing_text(framing)
            ),
        ]
        self._tpdu = tpdu

    def __call__(self, data: bytes) -> str:
        """`data` begins where a frame should; empty when nothing is recognised."""
        for beginning, hint in BEGINNINGS:
            if data.startswith(beginning):
                return hint
        for tpdu in (self._tpdu, not self._tpdu):
            for framing in self._framings:
                found = self._read(data, framing, tpdu=tpdu)
                if found is not None:
                    return self._differences(found, framing, tpdu=tpdu)
        return ""

    def _read(self, data: bytes, framing: Framing, *, tpdu: bool) -> Candidate | None:
        """The specification in which all messages read to their ends, if one does."""
        skipped = TPDU_SIZE if tpdu else 0
        bodies = [body[skipped:] for body in cut(data, framing, is_torn=True)]
        bodies = [body for body in bodies if body]
        # To guess is to read all fields of all bodies: of these, if there are any.
        walking = [codec for codec in self._codecs if _walks(codec, bodies)]
        if not bodies or not walking:
            return None
        best = guess(bodies, walking, [None]).best
        return best if best.whole else None

    def _differences(self, found: Candidate, framing: Framing, *, tpdu: bool) -> str:
        parts = []
        if framing is not self._framings[0]:
            parts.append(framing_text(framing))
        if found.codec is not self._codecs[0]:
            parts.append(f"spec {found.spec}")
        if tpdu != self._tpdu:
            parts.append("a TPDU before each message" if tpdu else "no TPDU")
        return "this looks like " + ", ".join(parts) if parts else ""


def _walks(codec: iso8583.Codec, bodies: Iterable[bytes]) -> bool:
    try:
        for body in bodies:
            codec.decode(body)
    except iso8583.DecodeError:
        return False
    return True


@functools.cache
def _shipped_codecs() -> tuple[iso8583.Codec, ...]:
    return tuple(iso8583.Codec(iso8583.load_spec(name)) for name in shipped_specs())
