"""An answer beside the one that was captured, field by field.

The message types are the same: by them the two were matched.
"""

import msgspec

import iso8583
from iso8583.describe import masked


class Difference(msgspec.Struct, frozen=True):
    """Card data masked; of two masked values that look alike, the hidden part differs.
    An empty value is a field that is not there."""

    field: int
    captured: str
    got: str


def differences(
    captured: iso8583.Message,
    got: iso8583.Message,
    ignored: frozenset[int],
    replaced: dict[int, tuple[str, str]],
) -> list[Difference]:
    """`replaced` says what was changed in the request: an answer that repeats such a
    field has to repeat what was sent."""
    expected = captured
    for field, (before, sent) in replaced.items():
        if field in captured and _value(captured, field) == before:
            if expected is captured:
                expected = captured.copy()
            expected[field] = sent
    fields = sorted(
        field
        for field in {*expected, *got} - ignored
        if _value(expected, field) != _value(got, field)
    )
    if not fields:
        return []
    ours, theirs = masked(expected), masked(got)
    return [
        Difference(field, *(_shown(each.get(field, "")) for each in (ours, theirs)))
        for field in fields
    ]


def _value(message: iso8583.Message, field: int) -> str | None:
    """None: not there. What cannot be read differs from nothing but itself."""
    try:
        return message.get(field, None)
    except iso8583.DecodeError as error:
        return f"unreadable: {error}"


def _shown(text: str) -> str:
    """What a peer sends does not reach the terminal as it is."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
