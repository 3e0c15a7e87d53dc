"""A message for people to read, card data masked by its kind and not by its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iso8583.errors import DecodeError

if TYPE_CHECKING:
    from iso8583._codec import Message
    from iso8583.spec import Sensitive

__all__ = ["describe", "mask", "masked"]

# -- PCI DSS 3.4: the last four digits of a PAN may be shown. Of anything shorter than
# a PAN can be (ISO/IEC 7812: 8 digits and more), four would be too much.
PAN_DIGITS_SHOWN: Final = 4
PAN_LENGTH_MIN: Final = 12


def mask(value: str, sensitive: Sensitive) -> str:
    """What may be shown of one value of this kind."""
    if sensitive == "pan" and len(value) >= PAN_LENGTH_MIN:
        hidden = len(value) - PAN_DIGITS_SHOWN
        return "*" * hidden + value[hidden:]
    return f"<{sensitive}, {len(value)} characters>"


def masked(message: Message, *, unmasked: bool = False) -> dict[int | str, str]:
    """What `message.to_dict()` gives, as it may be shown and logged.

    Of a PAN the last four digits are left; of other card data, and of private fields
    that may hold some, only its kind and length. A field that cannot be read says so.
    `unmasked` shows everything in clear.
    """
    shown: dict[int | str, str] = {}
    if message.header is not None:
        shown["header"] = "".join(message.header.values())
    shown["mti"] = message.mti
    for number in message:
        sensitive = message.codec.spec.fields[number].sensitive
        try:
            value = message[number]
        except DecodeError as error:
            value = f"<unreadable: expected {error.expected}>"
        else:
            if sensitive is not None and not unmasked:
                value = mask(value, sensitive)
        shown[number] = value
    return shown


def describe(message: Message, *, unmasked: bool = False) -> str:
    """The message as a tree, one line a field, masked as by `masked`.

    Control characters are escaped: what a peer sends does not reach the terminal.
    """
    fields = message.codec.spec.fields
    shown = masked(message, unmasked=unmasked)
    lines = [f"MTI {shown.pop('mti')}"]
    shown.pop("header", None)
    for name, value in (message.header or {}).items():
        lines.append(f"    H  {name}: {value}")
    for number, value in shown.items():
        assert isinstance(number, int)
        if not value.isprintable():
            value = value.encode("unicode_escape").decode("ascii")
        lines.append(f"  {number:3}  {fields[number].name}: {value}")
    return "\n".join(lines)
