"""Specs: how the messages of one scheme lie on the wire, as data.

A field is a choice on each of a few axes, none of which depends on another:

    length           exact, or the maximum where there is a length prefix
    prefix_digits    0 for a fixed length, 2 for LLVAR, 3 for LLLVAR, ...
    prefix_encoding  a text codec ("ascii", "cp500"), "bcd" or "binary"
    encoding         a text codec, "bcd" or "binary"
    unit             what lengths count: "characters", "digits" or "bytes"
    pad, pad_nibble  where packed digits of an odd count leave half a byte

What a field leaves out comes from the spec: `encodings` by content class,
`prefix_encoding` for all. The content class chooses the encoding and tells people
what to expect; it is not enforced on what others send.

What is inside a field is its `inside` (iso8583/inside.py); what some schemes put before
the MTI is a `HeaderSpec` (iso8583/header.py).
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from iso8583.errors import SpecError
from iso8583.header import HeaderSpec
from iso8583.inside import Inside, check_inside

__all__ = [
    "Content",
    "FieldSpec",
    "Sensitive",
    "Spec",
    "Unit",
    "load_spec",
    "spec_names",
]

# ISO 8583's classes: a letters, n digits, s special characters, b binary,
# z track data, x+n an amount with its sign (C or D).
Content: TypeAlias = Literal[
    "a", "n", "an", "as", "ns", "ans", "b", "z", "x+n"
]  # fmt: skip

Unit: TypeAlias = Literal["characters", "digits", "bytes"]

# What must never be shown. "private" is content that the spec does not know and
# that in practice may hold any of the others.
Sensitive: TypeAlias = Literal["pan", "track", "pin", "cvv", "chip", "private"]

FIELD_NUMBER_MIN: Final = 2
FIELD_NUMBER_MAX: Final = 128
LENGTH_MAX: Final = 0xFFFF
PREFIX_DIGITS_MAX: Final = 6
SPEC_FILE_SIZE_MAX: Final = 1 << 20
DIALECT_SUFFIX: Final = ".dialect.json"

Length: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=LENGTH_MAX)]
PrefixDigits: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=PREFIX_DIGITS_MAX)]
Nibble: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=15)]


class FieldSpec(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False
):
    name: str
    content: Content
    length: Length
    prefix_digits: PrefixDigits = 0
    prefix_encoding: str | None = None
    encoding: str | None = None
    unit: Unit | None = None
    pad: Literal["left", "right"] = "left"
    pad_nibble: Nibble = 0
    sensitive: Sensitive | None = None
    inside: Inside | None = None

    @property
    def prefix_size(self) -> int:
        """Bytes on the wire: a digit each as text, two digits a byte otherwise."""
        if self.prefix_encoding in ("bcd", "binary"):
            return (self.prefix_digits + 1) // 2
        return self.prefix_digits


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scheme's messages."""

    name: str
    description: str = ""
    header: HeaderSpec | None = None
    mti: str
    bitmap: Literal["hex", "binary"]
    prefix_encoding: str
    encodings: dict[Content, str] = {}
    fields: dict[int, FieldSpec]

    def __post_init__(self) -> None:
        if self.mti != "bcd":
            text_tables(self.mti)
        for number in self.fields:
            if not FIELD_NUMBER_MIN <= number <= FIELD_NUMBER_MAX:
                raise SpecError(
                    f"expected field numbers in "
                    f"{FIELD_NUMBER_MIN}..{FIELD_NUMBER_MAX}, got {number}"
                )
            try:
                field = self.field(number)
                check_field(field)
                check_inside(field, self)
            except SpecError as error:
                raise SpecError(f"field {number}: {error}") from None

    def field(self, number: int) -> FieldSpec:
        """The field with nothing left to the spec's defaults."""
        field = self.fields[number]
        encoding = field.encoding or self.encodings.get(field.content)
        if encoding is None:
            raise SpecError(
                f"expected an encoding, here or for content {field.content!r}"
            )
        return msgspec.structs.replace(
            field,
            encoding=encoding,
            prefix_encoding=field.prefix_encoding or self.prefix_encoding,
            unit=field.unit or default_unit(encoding),
        )


def default_unit(encoding: str) -> Unit:
    match encoding:
        case "bcd":
            return "digits"
        case "binary":
            return "bytes"
        case _:
            return "characters"


def check_field(field: FieldSpec) -> None:
    assert field.encoding is not None
    assert field.prefix_encoding is not None
    units: tuple[Unit, ...]
    match field.encoding:
        case "bcd":
            units = ("digits", "bytes")
        case "binary":
            units = ("bytes",)
        case codec:
            units = ("characters",)
            text_tables(codec)
    if field.unit not in units:
        raise SpecError(
            f"expected unit {' or '.join(units)} for {field.encoding}, got {field.unit}"
        )
    if not field.prefix_digits:
        return
    if field.prefix_encoding not in ("bcd", "binary"):
        text_tables(field.prefix_encoding)
    count_max = 10**field.prefix_digits - 1
    if field.prefix_encoding == "binary":
        count_max = 256**field.prefix_size - 1
    if field.length > count_max:
        raise SpecError(
            f"expected a length of at most {count_max} with {field.prefix_digits} "
            f"{field.prefix_encoding} prefix digits, got {field.length}"
        )


NOT_ASCII: Final = 0xFF

# Every character that a single-byte codec could have, less the surrogates.
_BASIC_PLANE: Final = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x10000))))


@lru_cache(maxsize=64)
def text_tables(encoding: str) -> tuple[bytes, bytes]:
    """The codec's wire bytes to ASCII (or NOT_ASCII), and ASCII back.

    Characters outside ASCII are left to the codec itself.
    """
    to_ascii = bytearray([NOT_ASCII]) * 256
    from_ascii = bytearray()
    try:
        for character in range(128):
            (byte,) = chr(character).encode(encoding)
            from_ascii.append(byte)
            to_ascii[byte] = character
        size = len(_BASIC_PLANE.encode(encoding, "ignore"))
    except LookupError:
        raise SpecError(f"expected an encoding, got {encoding!r}") from None
    except ValueError:
        size = 0
    if not 128 <= size <= 256:
        raise SpecError(
            f"expected a single-byte encoding that has all of ASCII, got {encoding!r}"
        )
    return bytes(to_ascii), bytes(from_ascii)


def checked(spec: Spec) -> Spec:
    """The same spec with the types and limits checked that a file's would be.

    A copy: whatever becomes of the original's dicts, this one stays as checked.
    """
    if not isinstance(spec, Spec):
        raise TypeError(f"expected a Spec, got {type(spec).__name__}")
    try:
        return msgspec.convert(msgspec.to_builtins(spec), Spec)
    except msgspec.MsgspecError as error:
        raise SpecError(f"{spec.name}: {error}") from None


def spec_names() -> list[str]:
    """The specs that come with the package."""
    folder = resources.files("iso8583") / "specs"
    return sorted(
        entry.name.removesuffix(".json")
        for entry in folder.iterdir()
        if entry.name.endswith(".json") and not entry.name.endswith(DIALECT_SUFFIX)
    )


def load_spec(name_or_path: str | os.PathLike[str]) -> Spec:
    """A spec that comes with the package, by name, or one of yours, by path."""
    name = os.fspath(name_or_path)
    shipped = resources.files("iso8583") / "specs" / f"{name}.json"
    path = shipped if name in spec_names() else Path(name)
    try:
        with path.open("rb") as file:
            content = file.read(SPEC_FILE_SIZE_MAX + 1)
    except OSError as error:
        raise SpecError(
            f"expected one of {', '.join(spec_names())} or a readable file, "
            f"got {name!r}: {error.strerror}"
        ) from None
    if len(content) > SPEC_FILE_SIZE_MAX:
        raise SpecError(f"{name}: expected at most {SPEC_FILE_SIZE_MAX} bytes")
    try:
        return msgspec.json.decode(content, type=Spec)
    except msgspec.MsgspecError as error:
        raise SpecError(f"{name}: {error}") from None
