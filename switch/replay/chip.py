"""Chip data (field 55) as a tree of tags, for people to read.

Rule 1: what comes is somebody else's bytes: depth, number of tags and their size are
        bounded, and a fault is told beside what came before it, not raised.
Rule 2: a value is shown in clear only if `emv_tags` says that it tells of the terminal
        or the transaction. Whatever comes from the card, and every tag that isn't in
        the table, is masked.

    tag      1 to 3 bytes; all five low bits of the first: another follows, and after
             that one more while the high bit says so
    length   1 byte up to 127; or 0x81, 0x82 and a number of 1 or 2 bytes
    value    tags again, where bit 0x20 of the first tag byte says so

-- EMV 4.3 book 3, annex B: BER-TLV. Zero bytes between tags are padding.
"""

from typing import Final

import msgspec

from iso8583.describe import mask
from switch.replay.emv_tags import EMV_TAGS, OPEN

# templates within templates; the standard's own go three deep
DEPTH_MAX: Final = 8
# tags of one field, at every depth; field 55 has 255 bytes, some specs 999
TAGS_MAX: Final = 512
TAG_SIZE_MAX: Final = 3
# bytes of a length, behind the byte that counts them: a field is 64 KiB at most
LENGTH_SIZE_MAX: Final = 2

CONSTRUCTED: Final = 0x20
UNKNOWN_NAME: Final = "unknown tag"


class Tag(msgspec.Struct):
    """One tag, and what is in it: a value, or tags."""

    tag: str
    value: bytes = b""
    tags: "list[Tag] | None" = None

    # Chip data never reaches a log by way of a traceback.
    def __repr__(self) -> str:
        return f"Tag({self.tag}, {len(self.value)} bytes)"

    @property
    def name(self) -> str:
        return EMV_TAGS[self.tag][0] if self.tag in EMV_TAGS else UNKNOWN_NAME

    def shown(self, *, unmasked: bool = False) -> str:
        """The value as it may be shown: hex digits, or its kind and length."""
        digits = self.value.hex().upper()
        kind = EMV_TAGS[self.tag][1] if self.tag in EMV_TAGS else "chip"
        if unmasked or kind == OPEN:
            return digits
        if kind == "pan":
            # -- EMV 4.3 book 3, annex A: compressed numeric, filled up with F
            return mask(digits.rstrip("F"), "pan")
        return mask(digits, kind)


class ChipData(msgspec.Struct, frozen=True):
    tags: list[Tag]
    #: "": all of it was read
    fault: str = ""


class _FaultError(Exception):
    pass


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.count = 0

    def read(self, start: int, end: int, depth: int, found: list[Tag]) -> None:
        """Adds to `found` as it goes: after a fault it holds what came before it."""
        at = start
        while at < end:
            if not self.data[at]:
                at += 1
                continue
            self.count += 1
            if self.count > TAGS_MAX:
                raise _FaultError(f"offset {at}: expected at most {TAGS_MAX} tags")
            constructed = bool(self.data[at] & CONSTRUCTED)
            name, at = self._name(at, end)
            size, at = self._length(at, end, name)
            if size > end - at:
                raise _FaultError(
                    f"tag {name} at offset {at}: expected {size} bytes, got {end - at}"
                )
            if not constructed:
                found.append(Tag(name, self.data[at : at + size]))
            elif depth > DEPTH_MAX:
                raise _FaultError(
                    f"tag {name} at offset {at}: expected tags at most {DEPTH_MAX} deep"
                )
            else:
                inside: list[Tag] = []
                found.append(Tag(name, tags=inside))
                self.read(at, at + size, depth + 1, inside)
            at += size

    def _name(self, at: int, end: int) -> tuple[str, int]:
        size = 1
        if self.data[at] & 0x1F == 0x1F:
            size = 2
            while at + size <= end and self.data[at + size - 1] & 0x80:
                size += 1
        if size > TAG_SIZE_MAX:
            raise _FaultError(
                f"offset {at}: expected a tag of at most {TAG_SIZE_MAX} bytes"
            )
        if at + size > end:
            raise _FaultError(f"offset {at}: expected a tag of {size} bytes, got fewer")
        return self.data[at : at + size].hex().upper(), at + size

    def _length(self, at: int, end: int, name: str) -> tuple[int, int]:
        if at >= end:
            raise _FaultError(f"tag {name} at offset {at}: expected a length, got none")
        first = self.data[at]
        if first < 0x80:
            return first, at + 1
        size = first & 0x7F
        if not 1 <= size <= LENGTH_SIZE_MAX or at + 1 + size > end:
            raise _FaultError(
                f"tag {name} at offset {at}: expected a length of 1 to "
                f"{LENGTH_SIZE_MAX} bytes, got 0x{first:02X}"
            )
        return int.from_bytes(self.data[at + 1 : at + 1 + size], "big"), at + 1 + size


def read_chip_data(data: bytes) -> ChipData:
    """Every tag, in order, those that come twice too; and why it ended early."""
    tags: list[Tag] = []
    try:
        _Reader(data).read(0, len(data), 1, tags)
    except _FaultError as fault:
        return ChipData(tags, str(fault))
    return ChipData(tags)
