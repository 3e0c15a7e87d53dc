"""The message header: what some schemes put before the MTI, as data.

    [ parts ] MTI bitmaps fields
    [ parts | reject ] [ original header ] MTI bitmaps fields     the reject form

A part is so many bytes, and most are nobody's business but the scheme's: they are
kept as they come. A few have a role:

    header_length    of the parts, itself included; of the reject form, reject too
    total_length     of all that is written here: header, MTI, bitmaps and fields
    destination      where the message goes ...
    source           ... and where it is from; a reply has them the other way round
    reject_bitmap    of the reject form: its first bit says that a reason follows
    tpdu             five bytes: 60, destination, source; a reply has those two the
                     other way round as well

Numbers are binary, big-endian. Lengths are never given: they are made right when a
message is written, and a message that has them wrong is refused.

A rejected message comes back as it was, its own header before it, behind a header
that has the reject parts too. It is told by its header length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import hexdigits
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from iso8583.errors import EncodeError, SpecError

__all__ = ["HeaderPart", "HeaderRole", "HeaderSpec"]

HeaderRole: TypeAlias = Literal[
    "bytes", "header_length", "total_length", "destination", "source", "reject_bitmap",
    "tpdu",
]  # fmt: skip

HEADER_SIZE_MAX: Final = 255
# A frame's size takes two bytes; more than four are no number that anyone sends.
NUMBER_SIZES: Final = {"header_length": (1, 4), "total_length": (2, 4)}
ROLE_SIZES: Final = {**NUMBER_SIZES, "tpdu": (5, 5)}
TPDU_DEFAULT: Final = "6000000000"
# What `Message.header` calls the header of the message that was rejected.
ORIGINAL: Final = "original_header"

PartSize: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=HEADER_SIZE_MAX)]
PartValue: TypeAlias = str | bytes


class HeaderPart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    name: str
    size: PartSize
    role: HeaderRole = "bytes"
    # In hex; zeros where it is left out, but for the first byte of a TPDU.
    default: str | None = None

    def __post_init__(self) -> None:
        low, high = ROLE_SIZES.get(self.role, (1, HEADER_SIZE_MAX))
        if not low <= self.size <= high:
            raise SpecError(
                f"header {self.name}: expected "
                f"{low if low == high else f'{low} to {high}'} bytes for "
                f"{self.role}, got {self.size}"
            )
        if self.default is None:
            return
        if self.role in NUMBER_SIZES:
            raise SpecError(f"header {self.name}: expected no default for a length")
        if len(_from_hex(self.default)) != self.size:
            raise SpecError(
                f"header {self.name}: expected a default of {self.size} bytes in hex"
            )

    @property
    def default_bytes(self) -> bytes:
        zeros = TPDU_DEFAULT if self.role == "tpdu" else "00" * self.size
        return _from_hex(self.default or zeros)


class HeaderSpec(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    parts: tuple[HeaderPart, ...]
    # What a reject has beyond the parts, before the header of what was rejected.
    reject: tuple[HeaderPart, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def reject_size(self) -> int:
        """Of the reject's own header; 0 when there is no such form."""
        return self.size + sum(part.size for part in self.reject) if self.reject else 0

    @property
    def default(self) -> bytes:
        return b"".join(part.default_bytes for part in self.parts)

    def place(self, role: HeaderRole) -> tuple[int, int]:
        """Where the part with this role begins, and its size; 0, 0 without one."""
        for part, offset in self._places():
            if part.role == role:
                return offset, part.size
        return 0, 0

    def part_at(self, offset: int) -> tuple[str, int, int]:
        """What has this byte: its name, where it begins, and its size."""
        for part, start in self._places():
            if start <= offset < start + part.size:
                return part.name, start, part.size
        return ORIGINAL, self.reject_size, self.size

    def split(self, header: bytes) -> dict[str, str]:
        """The parts by name, in hex."""
        rejected = len(header) > self.size
        values = {
            part.name: header[offset : offset + part.size].hex().upper()
            for part, offset in self._places()
            if rejected or offset < self.size
        }
        if rejected:
            values[ORIGINAL] = header[self.reject_size :].hex().upper()
        return values

    def join(self, value: PartValue | Mapping[str, PartValue]) -> bytes:
        """The bytes of a header given whole, or by the names of its parts.

        What is left out has its default; whatever lengths say is made right later.
        """
        if isinstance(value, Mapping):
            header = self._from_parts(dict(value))
        else:
            header = _part_bytes("header", value)
        reject_form = self.reject_size + self.size
        if len(header) != self.size and not (
            self.reject and len(header) == reject_form
        ):
            sizes = f"{self.size} or {reject_form}" if self.reject else f"{self.size}"
            raise EncodeError("header", f"{sizes} bytes", f"{len(header)}")
        offset, size = self.place("reject_bitmap")
        if len(header) > self.size and size and not header[offset] & 0x80:
            name, *_ = self.part_at(offset)
            raise EncodeError(f"header {name}", "its first bit set", "0")
        return header

    def _from_parts(self, values: dict[str, PartValue]) -> bytes:
        known = {part.name for part in self.parts}
        reject_only = {part.name for part in self.reject}
        if self.reject:
            reject_only.add(ORIGINAL)
        if not values.keys() <= known | reject_only:
            raise EncodeError("header", "names of its parts", "another key")
        rejected = bool(values.keys() & reject_only)
        header = b"".join(
            self._value(part.name, part.size, part.default_bytes, values)
            for part in (*self.parts, *(self.reject if rejected else ()))
        )
        if rejected:
            header += self._value(ORIGINAL, self.size, self.default, values)
        return header

    def _value(
        self, name: str, size: int, default: bytes, values: dict[str, PartValue]
    ) -> bytes:
        if name not in values:
            return default
        data = _part_bytes(f"header {name}", values[name])
        if len(data) != size:
            raise EncodeError(f"header {name}", f"{size} bytes", f"{len(data)}")
        return data

    def _places(self) -> Iterator[tuple[HeaderPart, int]]:
        offset = 0
        for part in (*self.parts, *self.reject):
            yield part, offset
            offset += part.size


def _check(header: HeaderSpec) -> None:
    everything = (*header.parts, *header.reject)
    names = [part.name for part in everything]
    if len({*names, ORIGINAL}) != len(names) + 1:
        raise SpecError(
            f"header: expected part names that differ, none of them {ORIGINAL}"
        )
    if not 1 <= header.size <= HEADER_SIZE_MAX >= header.reject_size:
        raise SpecError(f"header: expected 1 to {HEADER_SIZE_MAX} bytes")
    roles = [part.role for part in everything if part.role != "bytes"]
    if len(set(roles)) != len(roles):
        raise SpecError("header: expected one part of each role")
    if any(part.role not in ("bytes", "reject_bitmap") for part in header.reject):
        raise SpecError("header: expected lengths and stations among the parts")
    if any(part.role == "reject_bitmap" for part in header.parts):
        raise SpecError("header: expected the reject bitmap in the reject form")
    if header.place("destination")[1] != header.place("source")[1]:
        raise SpecError("header: expected destination and source of the same size")
    if header.reject and "header_length" not in roles:
        raise SpecError("header: expected a header length to tell a reject by")


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise SpecError(f"header: expected hex digits, got {text!r}") from None


def _part_bytes(place: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return bytes(value)
    if not isinstance(value, str):
        raise EncodeError(place, "str or bytes", type(value).__name__)
    try:
        return bytes.fromhex(value)
    except ValueError:
        pass
    for offset, character in enumerate(value):
        if character not in hexdigits and not character.isspace():
            raise EncodeError(place, "hex digits", "another character", offset)
    raise EncodeError(place, "two hex digits a byte", "one")
