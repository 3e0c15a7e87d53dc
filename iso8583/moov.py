"""moov-io/iso8583 specs, as its builder exports them: JSON, or YAML of the same shape.

Type, encoding and prefix of a field say together how it lies on the wire. What has no
counterpart here, and what moov itself writes in another way than it reads, is a fault
that names the field, the key, and why; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from iso8583.errors import SpecError
from iso8583.foreign import Faults, Fields, is_possible, masked_kind
from iso8583.inside import DEPTH_MAX, BerTlv, Inside, NestedBitmap, Positional, Tagged
from iso8583.spec import FIELD_NUMBER_MAX, LENGTH_MAX, FieldSpec, Sensitive, Spec

__all__ = ["is_moov", "read_moov"]

# moov's table of EBCDIC is code page 500, but for "|".
EBCDIC: Final = "cp500"
BITMAP_SIZE: Final = 8
# Bits that say that there is another bitmap; moov never reads such a field.
PRESENCE_BITS: Final = (65, 129)

_CONTENTS: Final = {"String": "ans", "Numeric": "n", "Binary": "b", "Track2": "z"}
_TEXTS: Final = {"ASCII": "ascii", "EBCDIC": EBCDIC}
_PACKED: Final = {"BCD": "left", "LBCD": "right"}
_BITMAPS: Final = {"Binary": "binary", "HexToASCII": "hex"}
_MTIS: Final = {"ASCII": "ascii", "BCD": "bcd", "EBCDIC": EBCDIC}
_PREFIX: Final = re.compile(
    r"(?P<written>ASCII|BCD|Hex|EBCDIC|Binary)\.(?P<digits>Fixed|L{1,4})"
)
_PREFIX_ENCODINGS: Final = {
    "ASCII": "ascii", "BCD": "bcd", "EBCDIC": EBCDIC, "Binary": "binary",
}  # fmt: skip
BINARY_PREFIX_SIZE_MAX: Final = 3
_SORTS: Final[dict[str, Callable[[str], int]]] = {
    "StringsByInt": int,
    "StringsByHex": lambda key: int.from_bytes(bytes.fromhex(key)),
}
_PADDINGS: Final = ("Left", "Right", "None")


class _Padding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    pad: str = ""


class _Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    length: int = 0
    enc: str = ""
    padding: _Padding | None = None
    sort: str = ""


class _Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A field as it is written; those inside are read one by one, to name each."""

    type: str = ""
    length: int = 0
    description: str = ""
    enc: str = ""
    prefix: str = ""
    padding: _Padding | None = None
    tag: _Tag | None = None
    subfields: dict[str, Any] = {}
    bitmap: dict[str, Any] | None = None
    disable_auto_expand: bool = False


def is_moov(document: Any) -> bool:
    """Whether a file that has been parsed is one of moov's: its fields have types."""
    if not isinstance(document, dict) or "mti" in document:
        return False
    fields = document.get("fields")
    return isinstance(fields, dict) and any(
        isinstance(field, dict) and "type" in field for field in fields.values()
    )


def read_moov(name: str, document: dict[str, Any], faults: Faults) -> Spec:
    """The spec that a parsed file stands for. Raises SpecError."""
    nodes: dict[int, Any] = {}
    for key, node in document["fields"].items():
        with faults.at(f"field {_shown(key)}"):
            number = _key_number(key, FIELD_NUMBER_MAX)
            if number in nodes:
                raise SpecError("expected each id once")
            nodes[number] = node
    for key in document.keys() - {"name", "fields"}:
        faults.add(f"{_shown(key)}: no counterpart here")
    mti = _node("field 0", nodes.pop(0, None))
    if (mti.type, mti.length) != ("String", 4) or mti.enc not in _MTIS:
        raise SpecError("field 0: expected an MTI: a String of length 4")
    bitmap = _node("field 1", nodes.pop(1, None))
    if bitmap.length not in (0, BITMAP_SIZE) or bitmap.disable_auto_expand:
        raise SpecError(
            f"field 1: expected a Bitmap that grows by {BITMAP_SIZE} bytes, "
            f"got length {_shown(bitmap.length)}"
        )
    fields: Fields = {}
    for number, node in sorted(nodes.items()):
        if number not in PRESENCE_BITS:
            field = _guarded(node, str(number), masked_kind(number), faults)
            if field is not None and is_possible(number, field, 3, faults):
                fields[number] = field
    own_name = document.get("name")
    return Spec(
        name=own_name if isinstance(own_name, str) and own_name else name,
        mti=_MTIS[mti.enc],
        bitmap=_bitmap_encoding("field 1", bitmap),
        bitmaps=3 if max(fields, default=0) > 128 else 2,
        prefix_encoding="ascii",
        fields=fields,
    )


def _shown(key: Any) -> str:
    return str(key)[:20]


def _key_number(key: Any, most: int, least: int = 0) -> int:
    text = str(key)
    if text.isascii() and text.isdigit() and len(text) <= len(str(LENGTH_MAX)):
        number = int(text)
        if least <= number <= most:
            return number
    raise SpecError(f"expected a number in {least}..{most}, got {_shown(key)!r}")


def _node(place: str, raw: Any) -> _Node:
    try:
        # YAML comes as text throughout.
        return msgspec.convert(raw, _Node, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise SpecError(f"{place}: {error}") from None


def _bitmap_encoding(place: str, node: _Node) -> Any:
    if node.type != "Bitmap" or node.enc not in _BITMAPS:
        raise SpecError(f"{place}: expected a Bitmap, enc {' or '.join(_BITMAPS)}")
    return _BITMAPS[node.enc]


def _guarded(
    raw: Any, path: str, sensitive: Sensitive | None, faults: Faults
) -> FieldSpec | None:
    """The field, or None where it has been left out as a fault."""
    with faults.at(f"field {path}"):
        node = _node(f"field {path}", raw)
        return _field(node, path, sensitive, faults)
    return None


def _field(
    node: _Node, path: str, sensitive: Sensitive | None, faults: Faults
) -> FieldSpec:
    if node.padding is not None and node.padding.type not in _PADDINGS:
        raise SpecError(f"padding {_shown(node.padding.type)}: no counterpart here")
    prefix = _prefix(node)
    inside = None
    if node.type == "Composite":
        inside = _inside(node, path, sensitive, faults)
        data = _composite_axes(inside)
    else:
        data = _axes(node, is_fixed=not prefix)
    length = node.length
    if not length and prefix.get("prefix_encoding") == "ber":
        length = LENGTH_MAX
    if data.pop("doubled", False):
        length *= 2
    if not 1 <= length <= LENGTH_MAX:
        raise SpecError(f"length: expected 1..{LENGTH_MAX}, got {_shown(node.length)}")
    return FieldSpec(
        name=node.description,
        length=length,
        sensitive=sensitive,
        inside=inside,
        **prefix,
        **data,
    )


def _prefix(node: _Node) -> dict[str, Any]:
    """Nothing where the length is fixed."""
    if node.prefix == "BerTLV":
        return {"prefix_digits": 1, "prefix_encoding": "ber"}
    found = _PREFIX.fullmatch(node.prefix)
    if found is None:
        raise SpecError(f"prefix {_shown(node.prefix) or 'none'}: no counterpart here")
    written, digits = found["written"], len(found["digits"])
    if found["digits"] == "Fixed":
        # Of HexToASCII, moov reads twice the length and cannot write any.
        is_hex = node.enc in ("ASCIIToHex", "HexToASCII")
        if not is_hex if written == "Hex" else node.enc == "ASCIIToHex":
            raise SpecError(
                f"prefix {node.prefix}: moov writes another length than it reads "
                f"with enc {_shown(node.enc) or 'none'}"
            )
        return {}
    if written == "Hex":
        raise SpecError(f"prefix {node.prefix}: lengths in hex digits of text")
    if written == "Binary":
        if digits > BINARY_PREFIX_SIZE_MAX:
            raise SpecError(
                f"prefix {node.prefix}: expected at most "
                f"{BINARY_PREFIX_SIZE_MAX} bytes of length"
            )
        # Of moov, bytes; here, digits, two a byte.
        digits *= 2
    return {"prefix_digits": digits, "prefix_encoding": _PREFIX_ENCODINGS[written]}


def _axes(node: _Node, *, is_fixed: bool) -> dict[str, Any]:
    """What a field is in that has nothing inside."""
    content = _CONTENTS.get(node.type)
    if content is None:
        raise SpecError(f"type {_shown(node.type) or 'none'}: no counterpart here")
    if node.subfields or node.tag or node.bitmap:
        raise SpecError(f"type {node.type}: expected nothing inside")
    if node.enc in _TEXTS:
        content = "ans" if content == "b" else content
        return {"content": content, "encoding": _TEXTS[node.enc]}
    if node.enc in _PACKED:
        content = "z" if content == "z" else "n"
        return {"content": content, "encoding": "bcd", "pad": _PACKED[node.enc]}
    if node.enc == "Binary":
        return {
            "content": content,
            "encoding": "binary" if content == "b" else "latin-1",
        }
    if not is_fixed:
        raise SpecError(
            f"enc {_shown(node.enc) or 'none'}: a length that counts other than what "
            f"is on the wire"
        )
    if node.enc == "HexToASCII":
        return {"content": "b", "encoding": "ascii", "doubled": True}
    if node.enc == "ASCIIToHex" and node.type == "String":
        return {"content": "b", "encoding": "binary"}
    raise SpecError(f"enc {_shown(node.enc) or 'none'}: no counterpart here")


def _composite_axes(inside: Inside) -> dict[str, Any]:
    """As text, where all that is inside is text in one codec; else as bytes."""
    codecs: set[str | None]
    match inside:
        case Positional(fields=elements):
            codecs, within = set(), list(elements)
        case NestedBitmap(encoding=encoding, fields=by_number):
            codecs = {"ascii" if encoding == "hex" else "binary"}
            within = list(by_number.values())
        case Tagged(id_encoding=ids, prefix_encoding=prefix, fields=by_id):
            codecs, within = {ids, prefix}, list(by_id.values())
        case BerTlv():
            codecs, within = {"binary"}, []
    codecs |= {field.encoding for field in within}
    codecs |= {field.prefix_encoding for field in within if field.prefix_digits}
    (codec, *others) = codecs
    if not others and codec in _TEXTS.values():
        return {"content": "ans", "encoding": codec}
    return {"content": "b", "encoding": "binary"}


def _inside(
    node: _Node, path: str, sensitive: Sensitive | None, faults: Faults
) -> Inside:
    if path.count(".") >= DEPTH_MAX:
        raise SpecError(f"expected composites at most {DEPTH_MAX} deep")
    if node.enc:
        raise SpecError(f"enc {_shown(node.enc)}: expected none of a Composite")
    if not node.subfields:
        raise SpecError("subfields: expected some in a Composite")
    if (node.tag is None) == (node.bitmap is None):
        raise SpecError("expected either tag or bitmap in a Composite")
    if node.tag is None:
        return _nested_bitmap(node, path, sensitive, faults)
    if not node.tag.enc:
        return _positional(node, node.tag, path, sensitive)
    if node.tag.enc == "BerTLVTag":
        return _ber_tlv(node, path, sensitive, faults)
    return _tagged(node, node.tag, path, sensitive, faults)


def _nested_bitmap(
    node: _Node, path: str, sensitive: Sensitive | None, faults: Faults
) -> NestedBitmap:
    place = f"field {path}: bitmap"
    bitmap = _node(place, node.bitmap)
    if not bitmap.disable_auto_expand:
        raise SpecError("bitmap: expected disableAutoExpand")
    fields: Fields = {}
    size = bitmap.length or BITMAP_SIZE
    for key, raw in node.subfields.items():
        with faults.at(f"field {path}.{_shown(key)}"):
            number = _key_number(key, 8 * size, least=1)
            if number in fields:
                raise SpecError("expected each id once")
            field = _guarded(raw, f"{path}.{number}", sensitive, faults)
            if field is not None:
                fields[number] = field
    return NestedBitmap(
        size=size, encoding=_bitmap_encoding(place, bitmap), fields=fields
    )


def _positional(
    node: _Node, tag: _Tag, path: str, sensitive: Sensitive | None
) -> Positional:
    order = _SORTS.get(tag.sort)
    if order is None:
        raise SpecError(f"tag.sort: expected {' or '.join(_SORTS)}")
    try:
        keys = sorted(node.subfields, key=order)
    except ValueError:
        raise SpecError(f"tag.sort: expected ids that are {tag.sort[9:]}s") from None
    # One left out would move those behind it: the container goes as a whole.
    strict = Faults()
    elements, open_end = [], False
    for place, key in enumerate(keys, 1):
        raw = node.subfields[key]
        if place == len(keys) and isinstance(raw, dict):
            open_end = raw.get("prefix") == "None.Fixed"
            if open_end:
                raw = raw | {"prefix": "Binary.Fixed", "length": LENGTH_MAX}
        field = _guarded(raw, f"{path}.{_shown(key)}", sensitive, strict)
        if field is not None:
            elements.append(field)
    return Positional(
        fields=tuple(elements),
        # Where the length is fixed, all of them must be there.
        required=None if node.prefix.endswith(".Fixed") else 0,
        open_end=open_end,
    )


def _ber_tlv(
    node: _Node, path: str, sensitive: Sensitive | None, faults: Faults
) -> BerTlv:
    fields: dict[str, FieldSpec] = {}
    for key, raw in node.subfields.items():
        place = f"field {path}.{_shown(key)}"
        with faults.at(place):
            field = _field(
                _node(place, raw), f"{path}.{_shown(key)}", sensitive, faults
            )
            if field.prefix_encoding != "ber":
                raise SpecError("prefix: expected BerTLV behind a BerTLVTag")
            if field.encoding == "bcd":
                raise SpecError("enc: a length that counts digits in BER-TLV")
            if key.upper() in fields:
                raise SpecError("expected each id once")
            fields[key.upper()] = _unprefixed(field)
    return BerTlv(fields=fields, unknown="refuse")


def _unprefixed(field: FieldSpec) -> FieldSpec:
    return msgspec.structs.replace(field, prefix_digits=0, prefix_encoding=None)


def _tagged(
    node: _Node, tag: _Tag, path: str, sensitive: Sensitive | None, faults: Faults
) -> Tagged:
    size, encoding = _id_form(tag)
    fields: dict[str, FieldSpec] = {}
    prefixes = set()
    for key, raw in node.subfields.items():
        place = f"field {path}.{_shown(key)}"
        with faults.at(place):
            field = _field(
                _node(place, raw), f"{path}.{_shown(key)}", sensitive, faults
            )
            name = _id(tag, key, size, encoding)
            if not field.prefix_digits:
                raise SpecError("prefix: expected a length behind a tag")
            if name in fields:
                raise SpecError("expected each id once")
            prefixes.add((field.prefix_digits, field.prefix_encoding))
            fields[name] = _unprefixed(field)
    if len(prefixes) != 1:
        raise SpecError("subfields: expected the same prefix behind every tag")
    ((digits, prefix_encoding),) = prefixes
    return Tagged(
        id_size=size,
        id_encoding=encoding,
        prefix_digits=digits,
        prefix_encoding=prefix_encoding,
        fields=fields,
        unknown="refuse",
    )


def _id_form(tag: _Tag) -> tuple[int, str]:
    """How many bytes a tag has, and what they are in."""
    if tag.enc in _TEXTS:
        return tag.length, _TEXTS[tag.enc]
    if tag.enc == "BCD":
        return (tag.length + 1) // 2, "bcd"
    if tag.enc in ("Binary", "ASCIIToHex"):
        return tag.length, "binary"
    raise SpecError(f"tag.enc {_shown(tag.enc)}: no counterpart here")


def _id(tag: _Tag, key: str, size: int, encoding: str) -> str:
    """A key as this codec writes ids: padded, and in hex where it is bytes."""
    if tag.padding is not None and tag.padding.type in ("Left", "Right"):
        pad = tag.padding.pad
        if len(pad) != 1:
            raise SpecError("tag.padding.pad: expected one character")
        left = tag.padding.type == "Left"
        key = key.rjust(tag.length, pad) if left else key.ljust(tag.length, pad)
    if tag.enc == "Binary":
        return key.encode("latin-1", "replace").hex().upper()
    if encoding == "bcd":
        return key.rjust(2 * size, "0")
    return key.upper() if encoding == "binary" else key
