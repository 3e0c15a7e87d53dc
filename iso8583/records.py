"""Bytes as people write them: hex or base64, a record a line; `#` begins a comment.

Only the place of a fault is told: a line may hold a card number.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = [
    "DECODERS",
    "HEX_DIGITS",
    "Record",
    "content_of",
    "decode_base64",
    "decode_hex",
    "read_records",
]

HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
BASE64_DIGITS: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
)


def decode_hex(text: str) -> bytes:
    """The bytes; ValueError says what is wrong, and not what was there."""
    _require(text, HEX_DIGITS, "hex digits")
    if len(text) % 2:
        raise ValueError(f"expected an even number of hex digits, got {len(text)}")
    return bytes.fromhex(text)


def decode_base64(text: str) -> bytes:
    _require(text, BASE64_DIGITS, "base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(
            f"expected base64 in whole groups of 4 characters, got {len(text)}"
        ) from None


def _require(text: str, digits: frozenset[str], what: str) -> None:
    for position, character in enumerate(text, start=1):
        if character not in digits:
            raise ValueError(f"expected {what}, got another character at {position}")


def content_of(line: str) -> str:
    """Without comment and blanks."""
    return "".join(line.partition("#")[0].split())


DECODERS: Final[dict[str, Callable[[str], bytes]]] = {
    "hex": decode_hex,
    "base64": decode_base64,
}


class Record(NamedTuple):
    """One message's bytes, and where they stand."""

    place: str
    data: bytes


def read_records(content: bytes, form: str) -> list[Record]:
    """Hex or base64: a record of each line that has any. Otherwise: all is one.

    ValueError says in which line the fault is, and not what was there.
    """
    if form not in DECODERS:
        return [Record("message", content)] if content else []
    records = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if text := content_of(line):
            try:
                records.append(Record(f"line {number}", DECODERS[form](text)))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return records
