"""What an answer should have, and where it differs; card data masked."""

from collections.abc import Mapping

import msgspec

import iso8583
from iso8583.describe import mask, masked
from switch.replay.compose import MTI, Composer


class Difference(msgspec.Struct, frozen=True):
    """`expected` is the pattern, `got` what was there ("": nothing)."""

    field: int | str
    expected: str
    got: str

    def __str__(self) -> str:
        name = self.field if self.field == MTI else f"field {self.field}"
        return f"{name}: expected {self.expected or 'none'}, got {self.got or 'none'}"


def compare(
    composer: Composer, expected: Mapping[int | str, str], message: iso8583.Message
) -> list[Difference]:
    shown = masked(message)
    differences = []
    for field, pattern in expected.items():
        if not composer.matches(field, pattern, value_of(message, field)):
            differences.append(
                Difference(
                    field,
                    _pattern_shown(composer, field, pattern),
                    shown.get(field, ""),
                )
            )
    return differences


def value_of(message: iso8583.Message, field: int | str) -> str | None:
    """None also for a field whose bytes are not in its encoding."""
    if field == MTI:
        return message.mti
    assert isinstance(field, int)
    try:
        return message.get(field) if field in message else None
    except iso8583.DecodeError:
        return None


def _pattern_shown(composer: Composer, field: int | str, pattern: str) -> str:
    if not isinstance(field, int) or len(pattern) <= 1:
        return pattern
    sensitive = composer.codec.spec.fields[field].sensitive
    return pattern if sensitive is None else mask(pattern, sensitive)
