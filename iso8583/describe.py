"""A message for people to read, card data masked by its kind and not by its length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from iso8583.errors import DecodeError
from iso8583.inside import Part, kind_of

if TYPE_CHECKING:
    from iso8583._codec import Message
    from iso8583.spec import Sensitive

__all__ = [
    "Shown",
    "describe",
    "mask",
    "masked",
    "message_plain",
    "printable",
    "shown",
]

# -- PCI DSS 3.4: the last four digits of a PAN may be shown. Of anything shorter than
# a PAN can be (ISO/IEC 7812: 8 digits and more), four would be too much.
PAN_DIGITS_SHOWN: Final = 4
PAN_LENGTH_MIN: Final = 12
INDENT: Final = 5


class Shown(NamedTuple):
    """A field or an element inside of one, as it may be shown."""

    key: str
    name: str
    # Empty for an element that has others inside: they show it.
    value: str
    # What is inside; None where the spec knows of nothing.
    parts: list[Shown] | None
    # Why it could not be read to its end; "" when it could.
    fault: str


def mask(value: str, sensitive: Sensitive) -> str:
    """What may be shown of one value of this kind."""
    if sensitive == "pan":
        # -- EMV 4.3 book 3, 4.3: compressed numeric is filled up with F.
        digits = value.rstrip("F")
        if len(digits) >= PAN_LENGTH_MIN:
            hidden = len(digits) - PAN_DIGITS_SHOWN
            return "*" * hidden + digits[hidden:]
    return f"<{sensitive}, {len(value)} characters>"


def masked(message: Message, *, unmasked: bool = False) -> dict[int | str, str]:
    """What `message.to_dict()` gives, as it may be shown and logged.

    Of a PAN the last four digits are left; of other card data, and of private fields
    that may hold some, only its kind and length. A field that cannot be read says so.
    `unmasked` shows everything in clear.
    """
    values: dict[int | str, str] = {}
    if message.header is not None:
        values["header"] = "".join(message.header.values())
    values["mti"] = message.mti
    for number in message:
        sensitive = kind_of(message.codec.spec.fields[number])
        try:
            value = message[number]
        except DecodeError as error:
            value = f"<unreadable: expected {error.expected}>"
        else:
            if sensitive is not None and not unmasked:
                value = mask(value, sensitive)
        values[number] = value
    return values


def shown(message: Message, *, unmasked: bool = False) -> list[Shown]:
    """Every field and what is inside, in order, masked as by `masked`."""
    return [_shown(part, unmasked=unmasked, is_field=True) for part in message.parts()]


def _shown(part: Part, *, unmasked: bool, is_field: bool) -> Shown:
    parts = None
    if part.parts is not None:
        parts = [
            _shown(inner, unmasked=unmasked, is_field=False) for inner in part.parts
        ]
    value = part.value
    fault = ""
    if part.fault is not None:
        fault = str(part.fault)
    if parts is not None and not is_field:
        value = ""
    elif part.fault is not None and parts is None:
        value, fault = f"<unreadable: expected {part.fault.expected}>", ""
    elif part.sensitive is not None and not unmasked:
        value = mask(value, part.sensitive)
    return Shown(part.key, part.name, value, parts, fault)


def describe(message: Message, *, unmasked: bool = False) -> str:
    """The message as a tree, one line a field or element, masked as by `masked`.

    Control characters are escaped: what a peer sends does not reach the terminal.
    """
    lines = [f"MTI {message.mti}"]
    for name, value in (message.header or {}).items():
        lines.append(f"    H  {name}: {value}")
    for field in shown(message, unmasked=unmasked):
        lines += _lines(field._replace(key=f"{field.key:>3}"), 2)
    return "\n".join(lines)


def _lines(one: Shown, indent: int) -> Iterator[str]:
    head = f"{' ' * indent}{one.key}  {one.name}"
    value = printable(one.value)
    yield f"{head}: {value}" if one.parts is None or value else head
    for part in one.parts or ():
        yield from _lines(part, indent + INDENT)
    if one.fault:
        yield f"{' ' * (indent + INDENT)}!  {one.fault}"


def message_plain(message: Message, *, unmasked: bool = False) -> dict[str, object]:
    """For JSON, as `describe` shows it."""
    plain: dict[str, object] = {}
    if message.header is not None:
        plain["header"] = message.header
    fields = {one.key: _plain(one) for one in shown(message, unmasked=unmasked)}
    return plain | {"mti": message.mti, "fields": fields}


def _plain(one: Shown) -> dict[str, object]:
    plain: dict[str, object] = {"name": one.name}
    if one.value or one.parts is None:
        plain["value"] = one.value
    if one.parts is not None:
        plain["inside"] = [{"key": part.key} | _plain(part) for part in one.parts]
    if one.fault:
        plain["error"] = one.fault
    return plain


def printable(value: str) -> str:
    """What a peer sends does not reach the terminal."""
    if value.isprintable():
        return value
    return value.encode("unicode_escape").decode("ascii")
