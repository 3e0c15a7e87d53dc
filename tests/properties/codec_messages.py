"""Hypothesis strategies: specs, and messages that fit them."""

from typing import Any

from hypothesis import strategies as st

import iso8583
from iso8583.spec import Content, Unit

NAMES = iso8583.spec_names()
CODECS = {name: iso8583.Codec(iso8583.load_spec(name)) for name in NAMES}

DIGITS = "0123456789"
HEX_DIGITS = "0123456789ABCDEF"
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
# Long enough to need every digit of a prefix now and then, short enough to be quick.
LENGTH_MAX = 120

Fields = dict[int | str, str]


def alphabet(field: iso8583.FieldSpec) -> str:
    if field.encoding == "bcd":
        return DIGITS + "=" if field.content == "z" else DIGITS
    if field.encoding == "binary":
        return HEX_DIGITS
    # Every text codec here has Latin letters with accents, but ASCII has not.
    return PRINTABLE if field.encoding == "ascii" else PRINTABLE + "éÜñ"


# What the codecs of more bytes a character have here, ASCII and not.
WIDE = {"utf-8": "aZ0 é日𝄞", "utf-16-le": "aZ0 é日𝄞", "shift_jis": "aZ0 日ア"}


def wide_values(encoding: str, least: int, most: int) -> st.SearchStrategy[str]:
    """Text of so many bytes; `x` makes up what is missing."""

    def filled(text: str) -> str:
        missing = max(least - len(text.encode(encoding)), 0)
        return text + "x" * (missing // len("x".encode(encoding)))

    return st.text(WIDE[encoding], max_size=most // 4).map(filled)


def values(field: iso8583.FieldSpec) -> st.SearchStrategy[str]:
    """Text that fits the field."""
    if field.sign is not None:
        size = field.length - 1
        digits = st.text(DIGITS, min_size=size, max_size=size)
        return st.tuples(st.sampled_from("CD"), digits).map("".join)
    shortest = 0 if field.prefix_digits else field.length
    longest = field.length
    if field.prefix_digits:
        longest = min(longest, LENGTH_MAX)
    if field.encoding in WIDE:
        return wide_values(field.encoding, shortest, longest)
    # Text of a byte count is in pairs of digits.
    pairs = field.unit == "bytes"
    return st.text(alphabet(field), min_size=shortest, max_size=longest).flatmap(
        lambda text: (
            st.text(alphabet(field), min_size=len(text), max_size=len(text)).map(
                lambda other: text + other
            )
            if pairs
            else st.just(text)
        )
    )


def messages(codec: iso8583.Codec, fields_max: int = 12) -> st.SearchStrategy[Fields]:
    numbers = sorted(codec.spec.fields)
    chosen: st.SearchStrategy[list[int]] = st.just([])
    if numbers:
        chosen = st.lists(st.sampled_from(numbers), unique=True, max_size=fields_max)

    def of(present: list[int]) -> st.SearchStrategy[Fields]:
        content: dict[Any, st.SearchStrategy[str]] = {
            "mti": st.tuples(
                st.sampled_from(codec.spec.version_digits).map(str),
                st.text(DIGITS, min_size=3, max_size=3),
            ).map("".join)
        }
        for number in sorted(present):
            content[number] = values(codec.spec.field(number))
        return st.fixed_dictionaries(content)

    return chosen.flatmap(of)


def codecs(names: list[str] = NAMES) -> st.SearchStrategy[iso8583.Codec]:
    """The codecs of the shipped specs."""
    return st.sampled_from([CODECS[name] for name in names])


def codecs_and_messages(
    names: list[str] = NAMES,
) -> st.SearchStrategy[tuple[iso8583.Codec, Fields]]:
    return codecs(names).flatmap(
        lambda codec: st.tuples(st.just(codec), messages(codec))
    )


@st.composite
def field_specs(draw: st.DrawFn) -> iso8583.FieldSpec:
    """Any field that a spec may have."""
    encoding = draw(
        st.sampled_from(["ascii", "cp500", "cp1252", "bcd", "binary", *WIDE])
    )
    units: dict[str, list[Unit]] = {name: ["bytes"] for name in (*WIDE, "binary")}
    units["bcd"] = ["digits", "bytes"]
    prefix_digits = draw(st.integers(0, 6))
    prefix_encoding = draw(st.sampled_from(["ascii", "cp037", "bcd", "binary", "ber"]))
    longest = min(10**prefix_digits - 1, LENGTH_MAX) if prefix_digits else 40
    if prefix_digits and prefix_encoding == "ber":
        longest = 2 * LENGTH_MAX
    length = draw(st.integers(1, longest))
    if encoding == "utf-16-le":
        length = max(length - length % 2, 2)
    axes: dict[str, Any] = {}
    content: Content = draw(st.sampled_from(["n", "ans", "b", "z", "x+n"]))
    unit: Unit = draw(st.sampled_from(units.get(encoding, ["characters"])))
    if encoding == "bcd" and content == "z":
        axes["separator"] = draw(st.sampled_from([None, "D", "F"]))
    if (encoding, content, unit, prefix_digits) == ("bcd", "x+n", "digits", 0):
        axes["sign"] = draw(st.sampled_from([None, "ascii", "cp500"]))
        length |= axes["sign"] is not None
    return iso8583.FieldSpec(
        name="field",
        content=content,
        length=length,
        prefix_digits=prefix_digits,
        prefix_encoding=prefix_encoding,
        encoding=encoding,
        unit=unit,
        pad=draw(st.sampled_from(["left", "right"])),
        pad_nibble=draw(st.integers(0, 15)),
        **axes,
    )


@st.composite
def header_specs(draw: st.DrawFn) -> iso8583.HeaderSpec:
    """Any header that a spec may have: a number of parts with a role, in any order."""
    address_size = draw(st.integers(1, 4))
    roles = {
        "header_length": st.integers(1, 4),
        "total_length": st.integers(2, 4),
        "destination": st.just(address_size),
        "tpdu": st.just(5),
    }
    chosen = ["bytes", "bytes", *draw(st.sets(st.sampled_from(sorted(roles))))]
    if "destination" in chosen:
        chosen.append("source")
    parts = [
        iso8583.HeaderPart(
            name=f"part_{index}",
            size=draw(roles.get(role, st.just(address_size))),
            role=role,  # type: ignore[arg-type]
        )
        for index, role in enumerate(draw(st.permutations(chosen)))
    ]
    reject: list[iso8583.HeaderPart] = []
    if "header_length" in chosen and draw(st.booleans()):
        reject = [
            iso8583.HeaderPart(
                name="bitmap", size=2, role="reject_bitmap", default="8000"
            ),
            iso8583.HeaderPart(name="code", size=draw(st.integers(1, 3))),
        ]
    return iso8583.HeaderSpec(parts=tuple(parts), reject=tuple(reject))


@st.composite
def headers(draw: st.DrawFn, spec: iso8583.HeaderSpec) -> bytes:
    """One as it goes on the wire, but that its lengths say anything."""
    is_reject = draw(st.booleans())
    size = spec.size
    if is_reject and spec.reject:
        size += spec.reject_size
    header = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if size > spec.size:
        header[spec.place("reject_bitmap")[0]] |= 0x80
    return bytes(header)


@st.composite
def specs(draw: st.DrawFn) -> iso8583.Spec:
    bitmaps = draw(st.sampled_from([2, 3]))
    numbers = st.integers(2, 64 * bitmaps)
    if bitmaps == 3:
        numbers = numbers.filter(lambda number: number != 65)
    versions = st.sampled_from(["1987", "1993", "2003", "national", "private"])
    return iso8583.Spec(
        name="any",
        header=draw(st.one_of(st.none(), header_specs())),
        mti=draw(st.sampled_from(["ascii", "cp500", "bcd"])),
        versions=tuple(draw(st.sets(versions))),  # type: ignore[arg-type]
        bitmap=draw(st.sampled_from(["hex", "binary"])),
        bitmaps=bitmaps,  # type: ignore[arg-type]
        prefix_encoding="ascii",
        fields=draw(st.dictionaries(numbers, field_specs(), max_size=8)),
    )
