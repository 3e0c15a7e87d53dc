"""pyiso8583's interface in plain Python: what every field, spec and fault comes to.

A message is two dictionaries, its text and its bytes ({"len": ..., "data": ...}), by
"h" (header), "t" (MTI), "p" and "1" (bitmaps) and field number. `iso8583._documents`
reads and writes what is wholly in order, and leaves everything else to this.

Rule 1: what pyiso8583 4.x does is right: what it accepts, what it raises with which
        text, and what the documents hold when it does. It is held to that beside the
        real one (tests/properties/test_documents_differential.py).
Rule 2: a spec is whatever its owner made of it. Its properties are looked up when they
        are needed and not before: of those that are never needed, none has to be there.
"""

from __future__ import annotations

import binascii
import contextlib
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from iso8583.errors import DecodeError, EncodeError

__all__ = ["Decoded", "Encoded", "SpecDict", "decode_plainly", "encode_plainly"]

Decoded: TypeAlias = dict[str, str]
Encoded: TypeAlias = dict[str, dict[str, bytes]]
SpecDict: TypeAlias = Mapping[str, Mapping[str, Any]]
FieldDict: TypeAlias = Mapping[str, Any]

FIELDS: Final = range(1, 193)
SECONDARY_FIELDS: Final = range(65, 129)
TERTIARY_FIELDS: Final = range(129, 193)
# A bitmap's first bit says that another follows.
SECONDARY_FOLLOWS: Final = 1
TERTIARY_FOLLOWS: Final = 65


def decode_plainly(s: bytes | bytearray, spec: SpecDict) -> tuple[Decoded, Encoded]:
    if not isinstance(s, bytes | bytearray):
        raise TypeError(
            f"Encoded ISO8583 data must be bytes or bytearray, not {type(s).__name__}"
        )
    reader = _Reader(s, spec)
    reader.read()
    return reader.decoded, reader.encoded


def encode_plainly(doc_dec: Decoded, spec: SpecDict) -> tuple[bytearray, Encoded]:
    if not isinstance(doc_dec, dict):
        raise TypeError(
            f"Decoded ISO8583 data must be dict, not {type(doc_dec).__name__}"
        )
    writer = _Writer(doc_dec, spec)
    writer.write()
    return writer.message, writer.encoded


class _Reader:
    """One message, and what has been read of it."""

    def __init__(self, s: bytes | bytearray, spec: SpecDict) -> None:
        self.s = s
        self.spec = spec
        self.at = 0
        # The key of what is being read.
        self.key = "h"
        self.decoded: Decoded = {}
        self.encoded: Encoded = {}

    def fault(self, what: str) -> DecodeError:
        return DecodeError(what, self.s, self.decoded, self.encoded, self.at, self.key)

    def read(self) -> None:
        if not self.spec["h"]["max_len"] <= 0:
            self.read_field("h")
        self.read_type()
        present = self.read_bitmap("p", 0)
        if SECONDARY_FOLLOWS in present:
            present |= self.read_bitmap("1", 64)
            present.remove(SECONDARY_FOLLOWS)
        if TERTIARY_FOLLOWS in present:
            # It goes on under the key of the one before it.
            present |= self.read_bitmap(self.key, 128)
            present.remove(TERTIARY_FOLLOWS)
        for number in sorted(present):
            self.read_field(str(number))
        if self.at != len(self.s):
            raise self.fault("Extra data after last field")

    def read_type(self) -> None:
        self.key = "t"
        spec = self.spec["t"]
        size = 2 if spec["data_enc"] == "b" else 4
        data = self.s[self.at : self.at + size]
        self.decoded["t"] = ""
        self.encoded["t"] = {"len": b"", "data": bytes(data)}
        if len(data) != size:
            raise self.fault(f"Field data is {len(data)} bytes, expecting {size}")
        if spec["data_enc"] == "b":
            self.decoded["t"] = data.hex().upper()
        else:
            self.decoded["t"] = self.text(data, spec)
        self.at += size

    def read_bitmap(self, key: str, offset: int) -> set[int]:
        """The numbers of the fields that it says are there."""
        self.key = key
        spec = self.spec[key]
        size = 8 if spec["data_enc"] == "b" else 16
        data = self.s[self.at : self.at + size]
        before, before_text = b"", ""
        if offset == TERTIARY_FIELDS.start - 1:
            before, before_text = self.encoded[key]["data"], self.decoded[key]
            self.encoded[key]["data"] = before + data
        else:
            self.decoded[key] = ""
            self.encoded[key] = {"len": b"", "data": bytes(data)}
        if len(data) != size:
            got = len(self.encoded[key]["data"])
            expected = size * 2 if offset == TERTIARY_FIELDS.start - 1 else size
            raise self.fault(f"Field data is {got} bytes, expecting {expected}")
        if spec["data_enc"] == "b":
            self.decoded[key] = before_text + data.hex().upper()
            bits = bytes(data)
        else:
            text = self.text(data, spec)
            self.decoded[key] = before_text + text
            try:
                bits = bytes.fromhex(text)
            except ValueError:
                raise self.fault("Failed to decode field, non-hex data") from None
        self.at += size
        return {
            offset + 8 * index + bit
            for index, byte in enumerate(bits)
            for bit in range(1, 9)
            if byte << bit & 0x100
        }

    def read_field(self, key: str) -> None:
        self.key = key
        spec = self.spec[key]
        prefix_size = spec["len_type"]
        # "bytes" or "nibbles": specs of before pyiso8583 2.1 do not say.
        unit = spec.get("len_count", "bytes")
        prefix = self.s[self.at : self.at + prefix_size]
        self.decoded[key] = ""
        self.encoded[key] = {"len": bytes(prefix), "data": b""}
        if len(prefix) != prefix_size:
            raise self.fault(
                f"Field length is {len(prefix)} bytes wide, expecting {prefix_size}"
            )
        if prefix_size == 0:
            count = spec["max_len"]
        else:
            count = self.count(prefix, spec)
            if count > spec["max_len"]:
                raise self.fault(
                    f"Field data is {count} {unit}, larger than maximum "
                    f"{spec['max_len']}"
                )
        self.at += prefix_size
        if count == 0:
            return
        is_nibbles = unit == "nibbles"
        size = (count + 1) // 2 if is_nibbles else count
        data = bytes(self.s[self.at : self.at + size])
        self.encoded[key]["data"] = data
        if len(data) != size:
            got = len(data) * 2 if is_nibbles else len(data)
            raise self.fault(f"Field data is {got} {unit}, expecting {count}")
        if spec["data_enc"] != "b":
            self.decoded[key] = self.text(data, spec)
        else:
            self.decoded[key] = data.hex().upper()
            if is_nibbles and count % 2:
                self.decoded[key] = self.without_pad(self.decoded[key], count, spec)
        self.at += size

    def count(self, prefix: bytes | bytearray, spec: FieldDict) -> int:
        """What a length prefix says."""
        encoding = spec["len_enc"]
        if encoding == "b":
            return int.from_bytes(prefix, "big")
        if encoding == "bcd":
            try:
                return int(prefix.hex())
            except ValueError:
                raise self.fault(
                    "Failed to decode field length, invalid BCD data"
                ) from None
        try:
            text = prefix.decode(encoding)
        except LookupError:
            raise self.fault(
                "Failed to decode field length, unknown encoding specified"
            ) from None
        except Exception:  # noqa: BLE001 - a codec may raise anything
            raise self.fault("Failed to decode field length, invalid data") from None
        try:
            return int(text)
        except ValueError:
            raise self.fault(
                "Failed to decode field length, non-numeric data"
            ) from None

    def text(self, data: bytes | bytearray, spec: FieldDict) -> str:
        try:
            return data.decode(spec["data_enc"])
        except LookupError:
            raise self.fault(
                "Failed to decode field, unknown encoding specified"
            ) from None
        except Exception:  # noqa: BLE001 - a codec may raise anything
            raise self.fault("Failed to decode field, invalid data") from None

    def without_pad(self, digits: str, count: int, spec: FieldDict) -> str:
        pad = spec.get("left_pad", "")[:1]
        if len(pad) > 0 and digits[:1] == pad:
            return digits[1:]
        pad = spec.get("right_pad", "")[:1]
        if len(pad) > 0 and digits[-1:] == pad:
            return digits[:-1]
        raise self.fault(f"Field data is {len(digits)} nibbles, expecting {count}")


class _Writer:
    """One document, and what has been written of it."""

    def __init__(self, decoded: Decoded, spec: SpecDict) -> None:
        self.decoded = decoded
        self.spec = spec
        self.message = bytearray()
        self.encoded: Encoded = {}

    def fault(self, what: str, key: str) -> EncodeError:
        return EncodeError(what, self.decoded, self.encoded, key)

    def write(self) -> None:
        # Bitmaps are made anew: neither they nor what tells of them is a field.
        self.decoded.pop("1", None)
        self.decoded.pop("65", None)
        if not self.spec["h"]["max_len"] <= 0:
            if "h" not in self.decoded:
                raise self.fault(
                    "Field data is required according to specifications", "h"
                )
            self.write_field("h")
        self.write_type()
        present = self.present()
        if not present.isdisjoint(TERTIARY_FIELDS):
            present.add(TERTIARY_FOLLOWS)
        if not present.isdisjoint(SECONDARY_FIELDS):
            present.add(SECONDARY_FOLLOWS)
        self.write_bitmap("p", 0, present)
        if SECONDARY_FOLLOWS in present:
            self.write_bitmap("1", 64, present)
            present.remove(SECONDARY_FOLLOWS)
        if TERTIARY_FOLLOWS in present:
            self.write_bitmap("1", 128, present)
            present.remove(TERTIARY_FOLLOWS)
        for number in sorted(present):
            self.write_field(str(number))

    def present(self) -> set[int]:
        try:
            present = {int(key) for key in self.decoded if key.isnumeric()}
        except AttributeError:
            wrong = [key for key in self.decoded if not isinstance(key, str)]
            raise self.fault(
                f"Dictionary contains invalid fields {wrong}", "p"
            ) from None
        outside = present.difference(FIELDS)
        if outside:
            raise self.fault(
                f"Dictionary contains fields outside of 1-192 range {sorted(outside)}",
                "p",
            )
        return present

    def write_type(self) -> None:
        if "t" not in self.decoded:
            raise self.fault("Field data is required", "t")
        spec = self.spec["t"]
        expected = 2 if spec["data_enc"] == "b" else 4
        self.encoded["t"] = {"len": b"", "data": b""}
        data, count = self.data("t", spec, "bytes")
        self.encoded["t"]["data"] = data
        if count != expected:
            raise self.fault(f"Field data is {count} bytes, expecting {expected}", "t")
        self.message += data

    def write_bitmap(self, key: str, offset: int, present: set[int]) -> None:
        spec = self.spec[key]
        bits = 0
        for number in present.intersection(range(offset + 1, offset + 65)):
            bits |= 1 << (64 - (number - offset))
        bitmap = bits.to_bytes(8, "big")
        text = bitmap.hex().upper()
        if offset == TERTIARY_FIELDS.start - 1:
            self.decoded[key] += text
        else:
            self.decoded[key] = text
            self.encoded[key] = {"len": b"", "data": b""}
        if spec["data_enc"] != "b":
            bitmap = self.text_data(key, text, spec)
        self.encoded[key]["data"] += bitmap
        self.message += bitmap

    def write_field(self, key: str) -> None:
        spec = self.spec[key]
        self.encoded[key] = {"len": b"", "data": b""}
        unit = spec.get("len_count", "bytes")
        data, count = self.data(key, spec, unit)
        self.encoded[key]["data"] = data
        if spec["len_type"] == 0:
            if count != spec["max_len"]:
                raise self.fault(
                    f"Field data is {count} {unit}, expecting {spec['max_len']}", key
                )
        else:
            if count > spec["max_len"]:
                raise self.fault(
                    f"Field data is {count} {unit}, larger than maximum "
                    f"{spec['max_len']}",
                    key,
                )
            self.encoded[key]["len"] = self.prefix(key, count, spec)
        self.message += self.encoded[key]["len"] + data

    def prefix(self, key: str, count: int, spec: FieldDict) -> bytes:
        size = spec["len_type"]
        encoding = spec["len_enc"]
        if encoding == "b":
            with contextlib.suppress(OverflowError):
                return bytes(count.to_bytes(size, "big"))
        elif encoding == "bcd":
            digits = f"{count:0{size * 2}d}"
            if len(digits) <= size * 2:
                return bytes.fromhex(digits)
        else:
            try:
                prefix = bytes(f"{count:0{size}d}", encoding)
            except LookupError:
                raise self.fault(
                    "Failed to encode field length, unknown encoding specified", key
                ) from None
            except Exception as error:  # noqa: BLE001 - a codec may raise anything
                raise self.fault(
                    f"Failed to encode field length, {error}", key
                ) from None
            # Also when it is too long, and the error shows it.
            self.encoded[key]["len"] = prefix
            if len(prefix) <= size:
                return prefix
        raise self.fault(
            "Failed to encode field length, field length does not fit into "
            "configured field size",
            key,
        )

    def data(self, key: str, spec: FieldDict, unit: str) -> tuple[bytes, int]:
        """A field's data, and how much of it there is in its unit."""
        is_nibbles = unit == "nibbles"
        if spec["data_enc"] != "b":
            data = self.text_data(key, self.decoded[key], spec)
            return data, len(data) * 2 if is_nibbles else len(data)
        digits = value = self.decoded[key]
        if is_nibbles and len(value) % 2:
            digits = self.with_pad(value, spec)
        try:
            data = binascii.a2b_hex(digits)
        except Exception:  # noqa: BLE001 - a value may be anything
            if len(digits) % 2 == 0:
                raise self.fault("Failed to encode field, non-hex data", key) from None
            if is_nibbles:
                raise self.fault(
                    "Failed to encode field, odd-length nibble data, specify pad", key
                ) from None
            raise self.fault(
                "Failed to encode field, odd-length hex data", key
            ) from None
        return data, len(value) if is_nibbles else len(data)

    def with_pad(self, digits: str, spec: FieldDict) -> str:
        left: str = spec.get("left_pad", "")[:1]
        if len(left) > 0:
            return left + digits
        right: str = spec.get("right_pad", "")[:1]
        return digits + right if len(right) > 0 else digits

    def text_data(self, key: str, value: str, spec: FieldDict) -> bytes:
        try:
            return value.encode(spec["data_enc"])
        except LookupError:
            raise self.fault(
                "Failed to encode field, unknown encoding specified", key
            ) from None
        except Exception:  # noqa: BLE001 - a codec may raise anything
            raise self.fault("Failed to encode field, invalid data", key) from None
