"""What the four digits of an MTI say, in the words of ISO 8583.

    version      1987, 1993, 2003; national and private use are 8 and 9
    class        what it is about
    function     where in the exchange it stands
    origin       who began the exchange, and whether the message is a repeat

A digit that the standard leaves open is "reserved".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["MessageType", "Version", "message_type", "response_mti"]

Version: TypeAlias = Literal["1987", "1993", "2003", "national", "private"]

# -- ISO 8583:2003, message type identifier, version number.
VERSION_DIGITS: Final[dict[Version, int]] = {
    "1987": 0,
    "1993": 1,
    "2003": 2,
    "national": 8,
    "private": 9,
}
_VERSIONS: Final[dict[int, str]] = {d: name for name, d in VERSION_DIGITS.items()}
# -- The same, message class.
_CLASSES: Final = {
    1: "authorisation",
    2: "financial",
    3: "file action",
    4: "reversal or chargeback",
    5: "reconciliation",
    6: "administrative",
    7: "fee collection",
    8: "network management",
}
# -- The same, message function; instructions came with 2003.
_FUNCTIONS: Final = {
    0: "request",
    1: "request response",
    2: "advice",
    3: "advice response",
    4: "notification",
    5: "notification acknowledgement",
    6: "instruction",
    7: "instruction acknowledgement",
}
# -- The same, transaction originator; an odd digit is the repeat of the one before.
_ORIGINS: Final = {0: "acquirer", 2: "issuer", 4: "other"}

# -- The same: what is answered by the function one higher.
_ANSWERED: Final = "0246"

RESERVED: Final = "reserved"


class MessageType(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    version: str
    message_class: str
    function: str
    origin: str
    repeat: bool


def message_type(mti: str) -> MessageType:
    """What an MTI says: `message_type("0121")` is an advice, repeated."""
    if len(mti) != 4 or not (mti.isascii() and mti.isdigit()):
        raise ValueError("expected an MTI of 4 digits")
    version, message_class, function, origin = map(int, mti)
    origin_name = _ORIGINS.get(origin & ~1, RESERVED)
    return MessageType(
        version=_VERSIONS.get(version, RESERVED),
        message_class=_CLASSES.get(message_class, RESERVED),
        function=_FUNCTIONS.get(function, RESERVED),
        origin=origin_name,
        repeat=origin_name != RESERVED and origin & 1 == 1,
    )


@lru_cache(maxsize=256)
def response_mti(mti: str) -> str:
    """What answers an MTI: 0110 answers 0100, and 0130 both 0120 and its repeat 0121.

    Whether the request is repeated, its response does not say.
    """
    kind = message_type(mti)
    if mti[2] not in _ANSWERED:
        raise ValueError(f"expected the MTI of a request, got {mti}")
    origin = int(mti[3]) - kind.repeat
    return f"{mti[:2]}{int(mti[2]) + 1}{origin}"
