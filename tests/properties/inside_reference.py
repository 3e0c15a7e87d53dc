"""What is inside fields, read once more in plain Python, with nothing of the codec but
its specs.

Slow and short: each kind of container in a few lines, as its standard words it.
"""

from collections.abc import Iterator
from typing import Any

import iso8583
from iso8583.inside import (
    DEPTH_MAX,
    ELEMENTS_MAX,
    BerTlv,
    Elements,
    NestedBitmap,
    Positional,
    Tagged,
    elements,
)

Found = tuple[str, iso8583.FieldSpec, bytes, int]  # key, spec, data, count


class RefusedError(Exception):
    pass


def read(field: iso8583.FieldSpec, spec: iso8583.Spec, data: bytes, count: int) -> Any:
    """The value of a resolved field: text, or a dict of what is inside."""
    return _Reader(spec).value(field, data, count, 0)


class _Reader:
    def __init__(self, spec: iso8583.Spec) -> None:
        self.spec = spec
        self.count = 0

    def value(
        self, field: iso8583.FieldSpec, data: bytes, count: int, depth: int
    ) -> Any:
        if field.inside is None:
            return text_of(field, data, count)
        try:
            if depth == DEPTH_MAX:
                raise RefusedError
            found = elements(field, self.spec)
            view = data
            if found.form == "digits":
                view = text_of(field, data, count).encode("ascii")
            elif found.form == "hex":
                view = unhexed(text_of(field, data, count))
            return self.inside(field, found, view, depth + 1)
        except RefusedError:
            if field.inside.strict:
                raise
            return text_of(field, data, count)

    def inside(
        self, field: iso8583.FieldSpec, found: Elements, view: bytes, depth: int
    ) -> dict[str, Any]:
        assert field.inside is not None
        values: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, element, data, count in walk(field.inside, found, view):
            self.count += 1
            if self.count > ELEMENTS_MAX:
                raise RefusedError
            policy = getattr(field.inside, "unknown", "refuse")
            if element is found.other and policy == "refuse":
                raise RefusedError
            if element is found.other and policy == "skip":
                continue
            seen[key] = seen.get(key, 0) + 1
            unique = key if seen[key] == 1 else f"{key}#{seen[key]}"
            is_template = isinstance(field.inside, BerTlv) and int(key[:2], 16) & 0x20
            if is_template and element.inside is None:
                if depth == DEPTH_MAX and field.inside.strict:
                    raise RefusedError
                values[unique] = self.template(field, found, element, data, depth)
            else:
                values[unique] = self.value(element, data, count, depth)
        return values

    def template(
        self,
        field: iso8583.FieldSpec,
        found: Elements,
        element: iso8583.FieldSpec,
        data: bytes,
        depth: int,
    ) -> Any:
        assert field.inside is not None
        try:
            if depth == DEPTH_MAX:
                raise RefusedError
            return self.inside(field, found, data, depth + 1)
        except RefusedError:
            if field.inside.strict:
                raise
            return text_of(element, data, len(data))


def walk(inside: iso8583.Inside, found: Elements, view: bytes) -> Iterator[Found]:
    match inside:
        case Positional():
            return walk_positions(inside, found, view)
        case NestedBitmap():
            return walk_bitmap(inside, found, view)
        case BerTlv():
            return walk_tags(found, view)
        case Tagged():
            return walk_tagged(inside, found, view)


def cut(data: bytes, size: int) -> tuple[bytes, bytes]:
    if size > len(data):
        raise RefusedError
    return data[:size], data[size:]


def sized(field: iso8583.FieldSpec, count: int, prefixed: bool) -> int:
    if count > field.length or (not prefixed and count != field.length):
        raise RefusedError
    return (count + 1) // 2 if field.unit == "digits" else count


def prefix(field: iso8583.FieldSpec, view: bytes) -> tuple[int, bytes]:
    data, view = cut(view, field.prefix_size)
    if field.prefix_encoding == "binary":
        return int.from_bytes(data), view
    digits = data.hex()
    if field.prefix_encoding != "bcd":
        assert field.prefix_encoding is not None
        digits = data.decode(field.prefix_encoding, "replace")
    if not digits.isascii() or not digits.isdigit():
        raise RefusedError
    return int(digits), view


def take(field: iso8583.FieldSpec, view: bytes) -> tuple[bytes, int, bytes]:
    count = field.length
    if field.prefix_digits:
        count, view = prefix(field, view)
    data, view = cut(view, sized(field, count, bool(field.prefix_digits)))
    return data, count, view


def walk_positions(inside: Positional, found: Elements, view: bytes) -> Iterator[Found]:
    required = len(found.known) if inside.required is None else inside.required
    for index, element in enumerate(found.known):
        if not view:
            if index < required:
                raise RefusedError
            return
        if inside.open_end and index + 1 == len(found.known):
            data, count, view = view, len(view), b""
            sized(element.field, count, True)
        else:
            data, count, view = take(element.field, view)
        yield str(index + 1), element.field, data, count
    if view:
        yield "rest", found.other, view, len(view)


def walk_bitmap(inside: NestedBitmap, found: Elements, view: bytes) -> Iterator[Found]:
    if inside.encoding == "hex":
        bitmap, view = cut(view, 2 * inside.size)
        bitmap = unhexed(bitmap.decode("latin-1"))
    else:
        bitmap, view = cut(view, inside.size)
    known = {int(element.id): element.field for element in found.known}
    for number, bit in enumerate(f"{int.from_bytes(bitmap):0{8 * inside.size}b}", 1):
        if bit == "1":
            if number not in known:
                raise RefusedError
            data, count, view = take(known[number], view)
            yield str(number), known[number], data, count
    if view:
        raise RefusedError


def walk_tags(found: Elements, view: bytes) -> Iterator[Found]:
    known = {element.id: element.field for element in found.known}
    while view := view.lstrip(b"\0"):
        size = 1
        if view[0] & 0x1F == 0x1F:
            size = 2
            while view[size - 1 : size] >= b"\x80":
                size += 1
        if size > 3:
            raise RefusedError
        tag, view = cut(view, size)
        first, view = cut(view, 1)
        length = first[0]
        if length & 0x80:
            if not 1 <= length & 0x7F <= 4:
                raise RefusedError
            number, view = cut(view, length & 0x7F)
            length = int.from_bytes(number)
        field = known.get(tag, found.other)
        data, view = cut(view, sized(field, length, True))
        yield tag.hex().upper(), field, data, length


def walk_tagged(inside: Tagged, found: Elements, view: bytes) -> Iterator[Found]:
    encoding = found.id_encoding
    is_text = encoding not in ("bcd", "binary")
    first = view[:1].decode(encoding if is_text else "latin-1", "replace")
    begins_with_id = not view or (first.isascii() and first.isdigit())
    if not (inside.leading_optional and begins_with_id):
        for element in found.leading:
            if not view:
                raise RefusedError
            data, count, view = take(element.field, view)
            yield element.id.decode(), element.field, data, count
    known = {element.id: element.field for element in found.known}
    while view:
        name, view = cut(view, inside.id_size)
        key = name.hex().upper()
        if is_text:
            key = name.decode(encoding, "replace")
            if not all("!" <= character <= "~" for character in key) or {*".#"} & {
                *key
            }:
                raise RefusedError
        count, view = prefix(found.other, view)
        field = known.get(name, found.other)
        data, view = cut(view, sized(field, count, True))
        yield key, field, data, count


def unhexed(text: str) -> bytes:
    if len(text) % 2 or not set(text) <= set("0123456789abcdefABCDEF"):
        raise RefusedError
    return bytes.fromhex(text)


def text_of(field: iso8583.FieldSpec, data: bytes, count: int) -> str:
    if field.encoding == "binary":
        return data.hex().upper()
    if field.encoding == "bcd":
        digits = data.hex().upper()
        if field.unit == "digits" and count % 2:
            pad = f"{field.pad_nibble:X}"
            nibble = digits[0] if field.pad == "left" else digits[-1]
            digits = digits[1:] if field.pad == "left" else digits[:-1]
            if nibble != pad:
                raise RefusedError
        return digits.replace("D", "=") if field.content == "z" else digits
    assert field.encoding is not None
    try:
        return data.decode(field.encoding)
    except UnicodeDecodeError:
        raise RefusedError from None
