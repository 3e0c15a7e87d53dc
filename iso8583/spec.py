"""Specs: how the messages of one scheme lie on the wire, as data.

A field is a choice on each of a few axes, none of which depends on another:

    length           exact, or the maximum where there is a length prefix
    prefix_digits    0 for a fixed length, 1 for LVAR, 2 for LLVAR, 3 for LLLVAR, ...
    prefix_encoding  a text codec ("ascii", "cp500"), "bcd", "binary" or "ber"
    encoding         a text codec, "bcd" or "binary"
    unit             what lengths count: "characters", "digits" or "bytes"
    pad, pad_nibble  where packed digits of an odd count leave half a byte
    separator        the nibble of "=" in packed track data
    sign             a text codec: one byte, C or D, and then packed digits

What a field leaves out comes from the spec: `encodings` by content class,
`prefix_encoding` for all. The content class chooses the encoding and tells people
what to expect; it is not enforced on what others send.

What is inside a field is its `inside` (iso8583/inside.py); what some schemes put before
the MTI is a `HeaderSpec` (iso8583/header.py).
"""

from __future__ import annotations

import codecs
import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from iso8583.errors import SpecError
from iso8583.header import HeaderSpec
from iso8583.inside import BerTlv, Inside, Tagged, check_inside
from iso8583.mti import VERSION_DIGITS, Version

__all__ = [
    "Content",
    "FieldSpec",
    "Sensitive",
    "Spec",
    "Unit",
    "load_spec",
    "save_spec",
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
BITMAPS_MAX: Final = 3
FIELD_NUMBER_MAX: Final = 64 * BITMAPS_MAX
# Its bit says that there is a tertiary bitmap, where a spec has one.
TERTIARY_BITMAP_FIELD: Final = 65
LENGTH_MAX: Final = 0xFFFF
PREFIX_DIGITS_MAX: Final = 6
DIGITS: Final = b"0123456789"
SPEC_FILE_SIZE_MAX: Final = 1 << 20
DIALECT_SUFFIX: Final = ".dialect.json"

Length: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=LENGTH_MAX)]
PrefixDigits: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=PREFIX_DIGITS_MAX)]
Nibble: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=15)]


class FieldSpec(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
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
    separator: Literal["D", "F"] | None = None
    sign: str | None = None
    sensitive: Sensitive | None = None
    inside: Inside | None = None

    @property
    def prefix_size(self) -> int:
        """Bytes on the wire: a digit each as text, two digits a byte otherwise.

        Of BER-TLV's lengths, the least: they grow with the count.
        """
        if self.prefix_encoding == "ber":
            return min(self.prefix_digits, 1)
        if self.prefix_encoding in ("bcd", "binary"):
            return (self.prefix_digits + 1) // 2
        return self.prefix_digits


class Spec(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """One scheme's messages."""

    name: str
    description: str = ""
    header: HeaderSpec | None = None
    mti: str
    versions: tuple[Version, ...] = ()
    bitmap: Literal["hex", "binary"]
    bitmaps: Literal[2, 3] = 2
    prefix_encoding: str
    encodings: dict[Content, str] = {}
    # Fields whose elements are read and written as if they were in one, by a name.
    groups: dict[str, tuple[int, ...]] = {}
    fields: dict[int, FieldSpec]

    def __post_init__(self) -> None:
        if self.mti != "bcd":
            text_tables(self.mti)
        for number in self.fields:
            if not FIELD_NUMBER_MIN <= number <= 64 * self.bitmaps:
                raise SpecError(
                    f"expected field numbers in "
                    f"{FIELD_NUMBER_MIN}..{64 * self.bitmaps}, got {number}"
                )
            if self.bitmaps == BITMAPS_MAX and number == TERTIARY_BITMAP_FIELD:
                raise SpecError(
                    f"expected no field {number}, which says that there is a "
                    f"tertiary bitmap"
                )
            try:
                field = self.field(number)
                check_field(field)
                check_inside(field, self)
            except SpecError as error:
                raise SpecError(f"field {number}: {error}") from None
        for name, numbers in self.groups.items():
            self._check_group(name, numbers)

    def _check_group(self, name: str, numbers: tuple[int, ...]) -> None:
        # A path that begins with a digit begins with a field.
        if not (name.isascii() and name.isidentifier()):
            raise SpecError(f"expected a group's name of letters, got {name!r}")
        if not numbers or len(set(numbers)) != len(numbers):
            raise SpecError(f"group {name}: expected fields, each once")
        for number in numbers:
            field = self.fields.get(number)
            if field is None or not isinstance(field.inside, BerTlv | Tagged):
                raise SpecError(
                    f"group {name}: expected a field that is tagged or ber-tlv inside, "
                    f"got {number}"
                )

    @property
    def version_digits(self) -> tuple[int, ...]:
        """What an MTI may begin with."""
        if not self.versions:
            return tuple(range(10))
        return tuple(VERSION_DIGITS[version] for version in self.versions)

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
        case codec:
            return "bytes" if codec_tables(codec)[1] is None else "characters"


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
            # To find where a field ends, the walk does not read its text.
            units = ("characters",) if codec_tables(codec)[1] else ("bytes",)
    if field.unit not in units:
        raise SpecError(
            f"expected unit {' or '.join(units)} for {field.encoding}, got {field.unit}"
        )
    _check_packed(field)
    if not field.prefix_digits or field.prefix_encoding == "ber":
        return
    if field.prefix_encoding not in ("bcd", "binary"):
        digit_zero(field.prefix_encoding)
    count_max = 10**field.prefix_digits - 1
    if field.prefix_encoding == "binary":
        count_max = 256**field.prefix_size - 1
    if field.length > count_max:
        raise SpecError(
            f"expected a length of at most {count_max} with {field.prefix_digits} "
            f"{field.prefix_encoding} prefix digits, got {field.length}"
        )


def _check_packed(field: FieldSpec) -> None:
    """The axes that only packed digits have."""
    if field.separator is not None and (field.encoding, field.content) != ("bcd", "z"):
        raise SpecError("expected a separator in packed track data only")
    if field.sign is None:
        return
    text_tables(field.sign)
    if (field.encoding, field.content, field.unit) != ("bcd", "x+n", "digits"):
        raise SpecError("expected a sign before packed digits of content 'x+n' only")
    if field.prefix_digits or field.length % 2 == 0:
        raise SpecError(
            "expected a fixed length with a sign: itself and an even number of digits"
        )


NOT_ASCII: Final = 0xFF

# Every character that a single-byte codec could have, less the surrogates.
_BASIC_PLANE: Final = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x10000))))


@lru_cache(maxsize=64)
def codec_tables(encoding: str) -> tuple[bytes, bytes | None]:
    """The codec's wire bytes to ASCII (or NOT_ASCII), and ASCII back.

    None where a character may take more bytes than one, or where some of ASCII is
    missing. Whatever has no table is left to the codec itself.
    """
    try:
        to_ascii, from_ascii = _tables(encoding)
        size = len(_BASIC_PLANE.encode(encoding, "ignore"))
        if 128 <= size <= 256:
            return to_ascii, from_ascii
        if codecs.lookup(encoding).name == "utf-8":
            # Its bytes below 128 are ASCII wherever they are.
            return to_ascii, None
    except LookupError:
        raise SpecError(f"expected an encoding, got {encoding!r}") from None
    except ValueError:
        pass
    try:
        if "0".encode(encoding).decode(encoding) == "0":
            return bytes([NOT_ASCII]) * 256, None
    except ValueError:
        pass
    raise SpecError(f"expected an encoding that has digits, got {encoding!r}")


def _tables(encoding: str) -> tuple[bytes, bytes]:
    to_ascii = bytearray([NOT_ASCII]) * 256
    from_ascii = bytearray()
    for character in range(128):
        (byte,) = chr(character).encode(encoding)
        from_ascii.append(byte)
        to_ascii[byte] = character
    return bytes(to_ascii), bytes(from_ascii)


def text_tables(encoding: str) -> tuple[bytes, bytes]:
    """The tables of a codec in which MTIs, lengths and signs can be written."""
    to_ascii, from_ascii = codec_tables(encoding)
    if from_ascii is None:
        raise SpecError(
            f"expected a single-byte encoding that has all of ASCII, got {encoding!r}"
        )
    return to_ascii, from_ascii


def digit_zero(encoding: str) -> int:
    """The byte of the digit 0 in a codec in which lengths can be written."""
    to_ascii, from_ascii = text_tables(encoding)
    zero = from_ascii[ord("0")]
    if to_ascii[zero : zero + 10] != DIGITS or sum(map(DIGITS.count, to_ascii)) != 10:
        raise SpecError(f"expected an encoding with digits in a row, got {encoding!r}")
    return zero


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


def load_spec(
    name_or_path: str | os.PathLike[str], left_out: list[str] | None = None
) -> Spec:
    """A spec that comes with the package, by name, or one of yours, by path.

    A file may be this package's JSON, jPOS packager XML, or moov's JSON or YAML. What a
    foreign one says that cannot be expressed here raises SpecError; with a list given,
    it is left out and named there instead.
    """
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
        if path is shipped:
            return msgspec.json.decode(content, type=Spec)
        # Who needs only what is shipped reads nothing else.
        from iso8583.formats import read_foreign, read_own

        return read_foreign(path.name, content, left_out) or read_own(content)
    except (SpecError, msgspec.MsgspecError) as error:
        raise SpecError(f"{name}: {error}") from None


def save_spec(spec: Spec, path: str | os.PathLike[str]) -> None:
    """Writes a spec as this package's JSON: `load_spec` gives one that is equal."""
    content = msgspec.json.format(msgspec.json.encode(checked(spec)), indent=2)
    Path(path).write_bytes(content + b"\n")
