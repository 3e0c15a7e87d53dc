"""jPOS packager XML as a spec: what a `GenericPackager` reads.

A packager's class says everything that a field's axes do. What has no counterpart here
is a fault that names the field, the class or attribute, and why; nothing is guessed.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from iso8583.errors import SpecError
from iso8583.foreign import Faults, Fields, is_possible, masked_kind, whole_number
from iso8583.header import HeaderPart, HeaderSpec
from iso8583.inside import DEPTH_MAX, BerTlv, Inside, NestedBitmap, Positional
from iso8583.spec import FieldSpec, Spec

__all__ = ["read_jpos"]

# jPOS writes text in ISO 8859-1, and EBCDIC in code page 1047, which Python lacks: 037
# differs from it in six special characters.
TEXT: Final = "latin-1"
EBCDIC: Final = "cp037"
TRACK_FIELDS: Final = (35, 36)
NESTED_BITMAP_SIZE_MAX: Final = 8

_PREFIX_ENCODINGS: Final = {"A": "ascii", "B": "bcd", "E": EBCDIC}
_BINARY_PREFIXES: Final = {"LLH": 2, "LLLH": 4}
_CLASS: Final = re.compile(
    r"IF(?P<wire>[ABE])_(?P<filled>F?)(?P<prefix>L{0,6}|LLL?H)"
    r"(?P<kind>NUM|NUMERIC|CHAR|ECHAR|BINARY|AMOUNT|AMOUNT2003)"
)
# Packed or not, these have no length prefix; the others that fit the pattern do.
_FIXED: Final = {"NUMERIC", "AMOUNT", "AMOUNT2003"}
_OTHERS: Final[dict[str, dict[str, Any]]] = {
    "IF_CHAR": {"content": "ans", "encoding": TEXT},
    "IFAE_LLCHAR": {
        "content": "ans", "encoding": EBCDIC, "prefix_digits": 2,
        "prefix_encoding": "ascii",
    },
    "IFEA_LLCHAR": {
        "content": "ans", "encoding": TEXT, "prefix_digits": 2,
        "prefix_encoding": EBCDIC,
    },
}  # fmt: skip
_BITMAPS: Final = {"IFA_BITMAP": "hex", "IFB_BITMAP": "binary"}
_NOTHING: Final = ("IF_NOP", "IF_UNUSED")
_MTIS: Final = {"IFA_NUMERIC": "ascii", "IFB_NUMERIC": "bcd", "IFE_NUMERIC": EBCDIC}
_BY_FIELDS: Final = ("GenericPackager", "GenericSubFieldPackager")
_BER_TLV: Final = {
    "DefaultICCBERTLVPackager": BerTlv(tags="emv"),
    "BERTLVAsciiHexPackager": BerTlv(tags="emv", hex=True),
}


def read_jpos(name: str, content: bytes, faults: Faults) -> Spec:
    """The spec that a packager stands for. Raises SpecError."""
    try:
        # A DTD is named in every such file, and never fetched; entities are refused.
        root = fromstring(content, forbid_dtd=False)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise SpecError(f"expected jPOS packager XML: {error}") from None
    if root.tag != "isopackager":
        raise SpecError(f"expected isopackager, got {root.tag}")
    nodes = _by_id(root, "", faults)
    _check_root(root, faults)
    mti = nodes.pop(0, None)
    bitmap = nodes.pop(1, None)
    if mti is None or _class(mti) not in _MTIS or mti.get("length") != "4":
        raise SpecError("field 0: expected an MTI: a NUMERIC class of length 4")
    if bitmap is None or _class(bitmap) not in _BITMAPS:
        raise SpecError(f"field 1: expected one of {', '.join(_BITMAPS)}")
    size = whole_number("field 1", "length", bitmap.get("length"))
    bitmaps: Literal[2, 3] = 3 if size > 16 else 2
    header_size = whole_number("header", "headerLength", root.get("headerLength", "0"))
    fields: Fields = {}
    for number, node in sorted(nodes.items()):
        field = _guarded(node, str(number), masked_kind(number), faults)
        if field is not None and is_possible(number, field, bitmaps, faults):
            fields[number] = field
    return Spec(
        name=name,
        header=_header(header_size),
        mti=_MTIS[_class(mti)],
        bitmap="hex" if _class(bitmap) == "IFA_BITMAP" else "binary",
        bitmaps=bitmaps,
        prefix_encoding="ascii",
        fields=fields,
    )


def _header(size: int) -> HeaderSpec | None:
    return HeaderSpec(parts=(HeaderPart(name="header", size=size),)) if size else None


def _check_root(root: Element, faults: Faults) -> None:
    if root.get("emitBitmap", "true") != "true":
        raise SpecError("isopackager: expected emitBitmap of true")
    if root.get("bitmapField", "1") != "1":
        raise SpecError("isopackager: expected bitmapField of 1")
    if root.get("thirdBitmapField") is not None:
        faults.add(
            "isopackager: thirdBitmapField: a tertiary bitmap among the fields "
            "cannot be expressed"
        )


def _by_id(parent: Element, path: str, faults: Faults) -> dict[int, Element]:
    nodes: dict[int, Element] = {}
    for node in parent:
        place = f"field {path}{node.get('id')}"
        if node.tag not in ("isofield", "isofieldpackager"):
            raise SpecError(f"{place}: expected isofield, got {node.tag}")
        number = whole_number(place, "id", node.get("id"))
        if number in nodes:
            # jPOS goes by the last one.
            faults.add(f"{place}: expected each id once")
        nodes[number] = node
    return nodes


def _class(node: Element, attribute: str = "class") -> str:
    return node.get(attribute, "").rpartition(".")[2]


def _guarded(
    node: Element, path: str, sensitive: Any, faults: Faults
) -> FieldSpec | None:
    """The field, or None where it is nothing or has been left out as a fault."""
    if _class(node) in _NOTHING:
        return None
    with faults.at(f"field {path}"):
        return _field(node, path, sensitive, faults)
    return None


def _field(node: Element, path: str, sensitive: Any, faults: Faults) -> FieldSpec:
    axes = _axes(node, path)
    length = whole_number(f"field {path}", "length", node.get("length"))
    if axes.pop("doubled", False):
        length *= 2
    inside = None
    if node.tag == "isofieldpackager":
        inside = _inside(node, path, sensitive, axes, faults)
    return FieldSpec(
        name=node.get("name", ""),
        length=whole_number(f"field {path}", "length", str(length), least=1),
        sensitive=sensitive,
        inside=inside,
        **axes,
    )


def _axes(node: Element, path: str) -> dict[str, Any]:
    name = _class(node)
    if name in _OTHERS:
        return dict(_OTHERS[name])
    found = _CLASS.fullmatch(name)
    if found is None or not _known(found):
        raise SpecError(f"class {name}: no counterpart here")
    wire, prefix, kind = found["wire"], found["prefix"], found["kind"]
    axes: dict[str, Any] = {}
    if prefix:
        axes["prefix_digits"] = _BINARY_PREFIXES.get(prefix, len(prefix))
        binary = prefix in _BINARY_PREFIXES
        axes["prefix_encoding"] = "binary" if binary else _PREFIX_ENCODINGS[wire]
    if kind == "BINARY":
        # Without a prefix, A and E write two hex digits a byte.
        as_hex = not prefix and wire != "B"
        encoding = _text(wire) if as_hex else "binary"
        return {**axes, "content": "b", "encoding": encoding, "doubled": as_hex}
    if kind in ("CHAR", "ECHAR"):
        text = EBCDIC if kind == "ECHAR" else _text(wire)
        return {**axes, "content": "ans", "encoding": text}
    axes["content"] = "x+n" if kind == "AMOUNT" else "n"
    if wire != "B":
        return {**axes, "encoding": _text(wire)}
    left = node.get("pad") == "true"
    axes |= {"encoding": "bcd", "pad": "left" if left else "right"}
    axes["pad_nibble"] = 15 if found["filled"] and not left else 0
    if kind == "AMOUNT":
        axes["sign"] = "ascii"
    elif path in map(str, TRACK_FIELDS):
        axes |= {"content": "z", "separator": "D"}
    return axes


def _known(found: re.Match[str]) -> bool:
    """Whether jPOS has this combination, and means by it what its parts say."""
    wire, kind, prefix = found["wire"], found["kind"], found["prefix"]
    if found["filled"] and (wire != "B" or kind not in ("NUM", "NUMERIC")):
        return False
    if prefix in _BINARY_PREFIXES and wire != "B":
        return False
    if kind == "ECHAR":
        return prefix in _BINARY_PREFIXES
    if kind == "CHAR":
        return bool(prefix) or wire == "E"
    if kind == "AMOUNT2003":
        return not prefix and wire != "E"
    return kind == "BINARY" or bool(prefix) != (kind in _FIXED)


def _text(wire: str) -> str:
    return EBCDIC if wire == "E" else TEXT


def _inside(
    node: Element, path: str, sensitive: Any, axes: dict[str, Any], faults: Faults
) -> Inside:
    packager = _class(node, "packager")
    if packager in _BER_TLV:
        return _BER_TLV[packager]
    if packager not in _BY_FIELDS:
        raise SpecError(f"packager {packager}: no counterpart here")
    if path.count(".") >= DEPTH_MAX:
        raise SpecError(f"expected packagers at most {DEPTH_MAX} deep")
    as_hex = axes["content"] == "b" and axes["encoding"] != "binary"
    nodes = _by_id(node, f"{path}.", faults)
    if node.get("emitBitmap", "true") == "true":
        return _nested_bitmap(node, path, sensitive, nodes, as_hex, faults)
    kept = [
        (number, element)
        for number, element in sorted(nodes.items())
        if _class(element) not in _NOTHING
    ]
    first = kept[0][0] if kept else 0
    if [number for number, _ in kept] != list(range(first, first + len(kept))):
        raise SpecError("expected ids without gaps where there is no bitmap")
    # One left out would move those behind it: the container goes as a whole.
    strict = Faults()
    elements = tuple(
        field
        for number, element in kept
        if (field := _guarded(element, f"{path}.{number}", sensitive, strict))
    )
    if not elements:
        raise SpecError("expected fields inside")
    return Positional(fields=elements, required=0, hex=as_hex)


def _nested_bitmap(
    node: Element,
    path: str,
    sensitive: Any,
    nodes: dict[int, Element],
    as_hex: bool,
    faults: Faults,
) -> NestedBitmap:
    place = f"field {path}"
    number = whole_number(place, "bitmapField", node.get("bitmapField", "1"))
    bitmap = nodes.pop(number, None)
    if bitmap is None or _class(bitmap) not in _BITMAPS:
        raise SpecError(f"element {number}: expected one of {', '.join(_BITMAPS)}")
    size = whole_number(place, "length", bitmap.get("length"), least=1)
    if size > NESTED_BITMAP_SIZE_MAX:
        raise SpecError(
            f"element {number}: a nested bitmap that grows beyond "
            f"{NESTED_BITMAP_SIZE_MAX} bytes cannot be expressed"
        )
    if 0 in nodes and _class(nodes.pop(0)) not in _NOTHING:
        raise SpecError("element 0: expected nothing before a nested bitmap")
    fields: Fields = {}
    for key, element in sorted(nodes.items()):
        field = _guarded(element, f"{path}.{key}", sensitive, faults)
        if field is not None:
            fields[key] = field
    hex_bitmap = _class(bitmap) == "IFA_BITMAP"
    return NestedBitmap(
        size=size, encoding="hex" if hex_bitmap else "binary", fields=fields, hex=as_hex
    )
