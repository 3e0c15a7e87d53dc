"""What is inside a field: containers, as data.

A container says how a field's data is cut into elements. An element is a `FieldSpec`
like any other, so it may have a container of its own, and a path names each of them:
"55.9F26" is tag 9F26 of field 55, "127.25.2" element 2 of element 25 of field 127.

    positional   elements one behind the other, numbered from 1
    bitmap       a bitmap, then the elements whose bits are set, numbered from 1
    ber-tlv      tags of 1 to 3 bytes, BER lengths, templates within templates
    tagged       ids of a fixed size, each with a length prefix

What a container is laid over is its field's data: the bytes of binary data and of text;
of packed digits, the digits as ASCII text; of text that is hex digits (`hex`), the
bytes that they stand for.

An element of ber-tlv or tagged has its container's length before it: its own `length`
is the most it may have, and it has no prefix of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

import iso8583.spec as spec
from iso8583.errors import DecodeError, SpecError

__all__ = [
    "BerTlv",
    "Inside",
    "NestedBitmap",
    "Part",
    "Positional",
    "Tagged",
    "Unknown",
    "emv_tags",
]

# Containers within containers, templates included; EMV's own go three deep.
DEPTH_MAX: Final = 8
# Of one field, at every depth; a field of 255 bytes has room for 127.
ELEMENTS_MAX: Final = 1024
# -- EMV 4.3 book 3, annex B: tags of one and two bytes; kernels have some of three.
TAG_SIZE_MAX: Final = 3
# Of a BER length, behind the byte that counts them.
LENGTH_SIZE_MAX: Final = 4
ID_SIZE_MAX: Final = 4
BITMAP_SIZE_MAX: Final = 24
# What stands before data whose length is written in another way: taken off again.
PLAIN_PREFIX_DIGITS: Final = 6
PLAIN_PREFIX: Final[dict[str, Any]] = {
    "prefix_digits": PLAIN_PREFIX_DIGITS,
    "prefix_encoding": "binary",
}

# What a positional container calls what is behind its last element.
REST: Final = "rest"
OCCURRENCE: Final = "#"
STEP: Final = "."

# Ids that the spec does not know: shown and written back, passed over, or a fault.
Unknown: TypeAlias = Literal["keep", "skip", "refuse"]
Form: TypeAlias = Literal["bytes", "digits", "hex"]

IdSize: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=ID_SIZE_MAX)]
PrefixDigits: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=6)]
BitmapSize: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=BITMAP_SIZE_MAX)]


class _Container(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
):
    # The field's text is hex digits of what is inside.
    hex: bool = False
    # Whether a field that cannot be cut this way is a fault to `Message.validate`;
    # some fields hold one thing or another.
    strict: bool = True


class Positional(_Container, frozen=True, kw_only=True, tag="positional"):
    fields: Annotated[tuple[spec.FieldSpec, ...], msgspec.Meta(min_length=1)]
    # They may come so many times, one set behind the other.
    repeats: Annotated[int, msgspec.Meta(ge=1, le=ELEMENTS_MAX)] = 1
    # How many of them must be there; all, unless it is said.
    required: int | None = None
    # The last one takes what is left, up to its length.
    open_end: bool = False
    # What is behind the last one.
    unknown: Unknown = "refuse"


class NestedBitmap(_Container, frozen=True, kw_only=True, tag="bitmap"):
    """A set bit that the spec does not know is a fault: nobody knows how long it is."""

    size: BitmapSize
    encoding: Literal["binary", "hex"] = "binary"
    fields: dict[int, spec.FieldSpec]


class BerTlv(_Container, frozen=True, kw_only=True, tag="ber-tlv"):
    # Names, and what may be shown: EMV's tags.
    tags: Literal["emv"] | None = None
    fields: dict[str, spec.FieldSpec] = {}
    default: spec.FieldSpec | None = None
    unknown: Unknown = "keep"


class Tagged(_Container, frozen=True, kw_only=True, tag="tagged"):
    # In bytes on the wire.
    id_size: IdSize
    id_encoding: str | None = None
    prefix_digits: PrefixDigits
    prefix_encoding: str | None = None
    # Before the first id, by name.
    leading: dict[str, spec.FieldSpec] = {}
    # They are not there where the data begins with a digit, as an id does.
    leading_optional: bool = False
    fields: dict[str, spec.FieldSpec] = {}
    # How ids that the spec does not know are read.
    default: spec.FieldSpec | None = None
    unknown: Unknown = "keep"


Inside: TypeAlias = Positional | NestedBitmap | BerTlv | Tagged


class Part(NamedTuple):
    """A field or an element as it was found, in clear."""

    key: str
    name: str
    sensitive: spec.Sensitive | None
    value: str
    # Elements inside; None where the spec knows of none.
    parts: list[Part] | None
    # Why its value, or what is inside, could not be read to its end.
    fault: DecodeError | None

    # Card data never reaches a log by way of a traceback.
    def __repr__(self) -> str:
        return f"Part({self.key}, {len(self.value)} characters)"


class Element(NamedTuple):
    """One element of a container, with nothing left to defaults."""

    # The bytes of its tag or id; the digits of its number, or its name, in ASCII.
    id: bytes
    field: spec.FieldSpec


class Elements(NamedTuple):
    """A container's elements, as the native code wants them."""

    form: Form
    known: list[Element]
    leading: list[Element]
    # What an id that is not known is read by.
    other: spec.FieldSpec
    prefix_encoding: str
    id_encoding: str


class EmvTag(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    tag: str
    name: str
    # -- EMV 4.3 book 3, 4.3: a, an, ans, b, cn, n, var.; and its length as in annex A.
    format: str
    length: str
    sensitive: spec.Sensitive | None = None


@lru_cache(maxsize=1)
def emv_tags() -> dict[str, EmvTag]:
    """EMV's tags, by their hex digits."""
    file = resources.files("iso8583") / "data" / "emv.json"
    tags = msgspec.json.decode(file.read_bytes(), type=list[EmvTag])
    return {tag.tag: tag for tag in tags}


# The same for every spec, and many: resolved once.
@lru_cache(maxsize=1)
def _emv_elements() -> dict[str, Element]:
    return {
        tag.tag: Element(
            bytes.fromhex(tag.tag),
            msgspec.structs.replace(
                _bytes_field(tag.name, tag.sensitive),
                encoding="binary",
                unit="bytes",
                **PLAIN_PREFIX,
            ),
        )
        for tag in emv_tags().values()
    }


def _bytes_field(name: str, sensitive: spec.Sensitive | None) -> spec.FieldSpec:
    return spec.FieldSpec(
        name=name, content="b", length=spec.LENGTH_MAX, sensitive=sensitive
    )


def kind_of(field: spec.FieldSpec) -> spec.Sensitive | None:
    """What a field's whole value is to be masked as: it shows what is inside, too."""
    if field.sensitive is not None or field.inside is None:
        return field.sensitive
    match field.inside:
        case Positional(fields=inside):
            within = list(inside)
        case NestedBitmap(fields=by_number):
            within = list(by_number.values())
        case BerTlv(tags="emv"):
            return "chip"
        case BerTlv(fields=by_tag, default=default):
            within = [*by_tag.values(), *([default] if default else [])]
        case Tagged(leading=leading, fields=by_id, default=default):
            within = [*leading.values(), *by_id.values()]
            within += [default] if default else []
    return "private" if any(map(kind_of, within)) else None


def form_of(field: spec.FieldSpec) -> Form:
    """What the container of this (resolved) field is laid over."""
    assert field.inside is not None
    if field.encoding == "bcd":
        return "digits"
    return "hex" if field.inside.hex else "bytes"


def elements(field: spec.FieldSpec, of: spec.Spec) -> Elements:
    """What is directly inside a resolved field. Raises SpecError."""
    inside = field.inside
    assert inside is not None
    assert field.encoding is not None
    if inside.hex and field.encoding in ("bcd", "binary"):
        raise SpecError(f"expected hex digits in text, got {field.encoding}")
    form = form_of(field)
    defaults = _Defaults(form, field.encoding, of)
    unknown = spec.FieldSpec(
        name="unknown",
        content="b" if defaults.text is None else "ans",
        length=spec.LENGTH_MAX,
        encoding=defaults.text or "binary",
        sensitive=field.sensitive,
    )
    match inside:
        case Positional():
            return _positional(inside, defaults, unknown)
        case NestedBitmap():
            return _bitmap(inside, defaults, unknown)
        case BerTlv():
            return _ber_tlv(inside, defaults, field)
        case Tagged():
            return _tagged(inside, defaults, unknown)


class _Defaults:
    """What an element has that says nothing of its own."""

    def __init__(self, form: Form, encoding: str, of: spec.Spec) -> None:
        self.form = form
        self.of = of
        #: the text codec that the field is in; None for bytes
        self.text: str | None = None
        if form == "digits":
            self.text = "ascii"
        elif form == "bytes" and encoding != "binary":
            self.text = encoding
        self.prefix = "ascii" if form == "digits" else of.prefix_encoding

    def resolve(self, field: spec.FieldSpec, **changes: Any) -> spec.FieldSpec:
        encoding = field.encoding
        if encoding is None and self.form == "bytes":
            encoding = self.of.encodings.get(field.content)
        elif encoding is None:
            encoding = "ascii" if self.form == "digits" else "binary"
        if encoding is None:
            raise SpecError(
                f"expected an encoding, here or for content {field.content!r}"
            )
        prefix = field.prefix_encoding or self.prefix
        if self.form == "digits" and {encoding, prefix} & {"bcd", "binary"}:
            raise SpecError("expected text inside packed digits")
        resolved = msgspec.structs.replace(
            field,
            encoding=encoding,
            prefix_encoding=prefix,
            unit=field.unit or spec.default_unit(encoding),
        )
        resolved = msgspec.structs.replace(resolved, **changes)
        if resolved.prefix_digits:
            _check_prefix(prefix)
        spec.check_field(resolved)
        return resolved

    # An element whose length its container says.
    def counted(self, field: spec.FieldSpec, **changes: Any) -> spec.FieldSpec:
        if field.prefix_digits or field.prefix_encoding is not None:
            raise SpecError("expected no prefix beside the container's")
        return self.resolve(field, **changes)


def _positional(
    inside: Positional, defaults: _Defaults, unknown: spec.FieldSpec
) -> Elements:
    fields = inside.fields * inside.repeats
    count = len(fields)
    required = count if inside.required is None else inside.required
    if not 0 <= required <= count <= ELEMENTS_MAX:
        raise SpecError(f"expected 0 to {count} required fields, got {required}")
    known = []
    for number, field in enumerate(fields, 1):
        with _place(str(number)):
            if inside.open_end and number == count:
                resolved = defaults.counted(field, **PLAIN_PREFIX)
                if resolved.unit == "digits":
                    raise SpecError("expected an open end that counts bytes")
            else:
                resolved = defaults.resolve(field)
        known.append(Element(str(number).encode(), resolved))
    other = defaults.resolve(unknown, **PLAIN_PREFIX)
    return Elements(defaults.form, known, [], other, "", "")


def _bitmap(
    inside: NestedBitmap, defaults: _Defaults, unknown: spec.FieldSpec
) -> Elements:
    if defaults.form == "digits" and inside.encoding == "binary":
        raise SpecError("expected text inside packed digits")
    known = []
    for number, field in sorted(inside.fields.items()):
        if not 1 <= number <= inside.size * 8:
            raise SpecError(
                f"expected numbers in 1..{inside.size * 8} of a bitmap of "
                f"{inside.size} bytes, got {number}"
            )
        with _place(str(number)):
            known.append(Element(str(number).encode(), defaults.resolve(field)))
    other = defaults.resolve(unknown, **PLAIN_PREFIX)
    return Elements(defaults.form, known, [], other, "", "")


def _ber_tlv(inside: BerTlv, defaults: _Defaults, field: spec.FieldSpec) -> Elements:
    if defaults.form == "digits":
        raise SpecError("expected bytes, or hex digits of them, around ber-tlv")
    by_tag = dict(_emv_elements()) if inside.tags == "emv" else {}
    for tag, element in inside.fields.items():
        with _place(tag):
            by_tag[tag] = Element(_tag_bytes(tag), _ber_element(element, defaults))
    known = sorted(by_tag.values(), key=_number)
    default = inside.default or _bytes_field("unknown tag", field.sensitive)
    other = _ber_element(default, defaults)
    return Elements(defaults.form, known, [], other, "", "")


def _number(element: Element) -> int:
    return int.from_bytes(element.id)


# Lengths count bytes, and data without an encoding is bytes: digits for whoever reads.
def _ber_element(field: spec.FieldSpec, defaults: _Defaults) -> spec.FieldSpec:
    if field.unit == "digits":
        raise SpecError("expected a unit of bytes or characters in ber-tlv")
    if field.encoding is None:
        field = msgspec.structs.replace(field, encoding="binary")
    unit = "bytes" if field.encoding == "bcd" else field.unit
    field = msgspec.structs.replace(field, unit=unit)
    return defaults.counted(field, **PLAIN_PREFIX)


# -- EMV 4.3 book 3, annex B1: five low bits set say that more bytes follow, and the
# high bit of each of those that it is not the last.
def _tag_bytes(text: str) -> bytes:
    try:
        tag = bytes.fromhex(text)
    except ValueError:
        tag = b""
    follows = bool(tag) and tag[0] & 0x1F == 0x1F
    if (
        not 1 <= len(tag) <= TAG_SIZE_MAX
        or tag[0] == 0
        or text != tag.hex().upper()
        or follows != (len(tag) > 1)
        or any(not byte & 0x80 for byte in tag[1:-1])
        or (follows and tag[-1] & 0x80)
    ):
        raise SpecError(
            f"expected a tag of 1 to {TAG_SIZE_MAX} bytes in upper-case hex"
        )
    return tag


def _tagged(inside: Tagged, defaults: _Defaults, unknown: spec.FieldSpec) -> Elements:
    id_encoding = inside.id_encoding or defaults.text or "binary"
    prefix_encoding = inside.prefix_encoding or defaults.prefix
    _check_prefix(prefix_encoding)
    if defaults.form == "digits" and {id_encoding, prefix_encoding} & {"bcd", "binary"}:
        raise SpecError("expected text inside packed digits")
    if id_encoding not in ("bcd", "binary"):
        spec.text_tables(id_encoding)
    prefix: dict[str, Any] = {
        "prefix_digits": inside.prefix_digits,
        "prefix_encoding": prefix_encoding,
    }
    known = []
    for text, field in inside.fields.items():
        with _place(text):
            data = _id_bytes(text, inside.id_size, id_encoding)
            known.append(Element(data, defaults.counted(field, **prefix)))
    known.sort(key=_number)
    leading = []
    for name, field in inside.leading.items():
        with _place(name):
            if not re.fullmatch(r"[a-z][a-z_]*", name) or len(name) == id_length(
                inside.id_size, id_encoding
            ):
                raise SpecError("expected a name in small letters, not as long as ids")
            leading.append(Element(name.encode(), defaults.resolve(field)))
    if inside.default is not None:
        other = defaults.counted(inside.default, **prefix)
    else:
        most = 10**inside.prefix_digits - 1
        if prefix_encoding == "binary":
            most = 256 ** ((inside.prefix_digits + 1) // 2) - 1
        length = min(most, spec.LENGTH_MAX)
        other = defaults.counted(unknown, length=length, **prefix)
    return Elements(defaults.form, known, leading, other, prefix_encoding, id_encoding)


def id_length(size: int, encoding: str) -> int:
    """How many characters an id has in a path."""
    return 2 * size if encoding in ("bcd", "binary") else size


def _id_bytes(text: str, size: int, encoding: str) -> bytes:
    data = b""
    if encoding in ("bcd", "binary"):
        if re.fullmatch(r"[0-9]*" if encoding == "bcd" else r"[0-9A-F]*", text):
            data = bytes.fromhex(text) if len(text) % 2 == 0 else b""
    elif re.fullmatch(r"[!-~]*", text) and not {OCCURRENCE, STEP} & set(text):
        data = text.encode(encoding)
    if len(data) != size:
        raise SpecError(f"expected an id of {size} bytes in {encoding}")
    return data


@contextmanager
def _place(step: str) -> Iterator[None]:
    """Says in whatever SpecError which element it is about."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"element {step}: {error}") from None


def _check_prefix(encoding: str) -> None:
    if encoding == "ber":
        raise SpecError("expected another prefix encoding inside a field, got 'ber'")


def check_inside(field: spec.FieldSpec, of: spec.Spec, depth: int = 1) -> None:
    """Raises SpecError for whatever inside a resolved field cannot be."""
    if field.inside is None:
        return
    if depth > DEPTH_MAX:
        raise SpecError(f"expected containers at most {DEPTH_MAX} deep")
    found = elements(field, of)
    for element in _all(found):
        if element.field.inside is not None:
            with _place(_shown(element, found, field.inside)):
                check_inside(element.field, of, depth + 1)


def _all(found: Elements) -> Iterator[Element]:
    yield from found.leading
    yield from found.known
    yield Element(b"default", found.other)


def _shown(element: Element, found: Elements, inside: Inside) -> str:
    if element.id == b"default":
        return "default"
    if isinstance(inside, BerTlv):
        return element.id.hex().upper()
    if element in found.leading or not isinstance(inside, Tagged):
        return element.id.decode()
    if found.id_encoding in ("bcd", "binary"):
        return element.id.hex().upper()
    return element.id.decode(found.id_encoding)
