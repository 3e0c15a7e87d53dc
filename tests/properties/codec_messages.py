"""Hypothesis strategies: specs, and messages that fit them."""

from typing import Any

from hypothesis import strategies as st

import iso8583

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


def values(field: iso8583.FieldSpec) -> st.SearchStrategy[str]:
    """Text that fits the field."""
    shortest = 0 if field.prefix_digits else field.length
    longest = field.length
    if field.prefix_digits:
        longest = min(longest, LENGTH_MAX)
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
            "mti": st.text(DIGITS, min_size=4, max_size=4)
        }
        for number in sorted(present):
            content[number] = values(codec.spec.field(number))
        return st.fixed_dictionaries(content)

    return chosen.flatmap(of)


def codecs() -> st.SearchStrategy[iso8583.Codec]:
    """The codecs of the shipped specs."""
    return st.sampled_from([CODECS[name] for name in NAMES])


def codecs_and_messages() -> st.SearchStrategy[tuple[iso8583.Codec, Fields]]:
    return codecs().flatmap(lambda codec: st.tuples(st.just(codec), messages(codec)))


@st.composite
def field_specs(draw: st.DrawFn) -> iso8583.FieldSpec:
    """Any field that a spec may have."""
    encoding = draw(st.sampled_from(["ascii", "cp500", "cp1252", "bcd", "binary"]))
    units = {"bcd": ["digits", "bytes"], "binary": ["bytes"]}
    prefix_digits = draw(st.integers(0, 6))
    prefix_encoding = draw(st.sampled_from(["ascii", "cp037", "bcd", "binary"]))
    longest = min(10**prefix_digits - 1, LENGTH_MAX) if prefix_digits else 40
    return iso8583.FieldSpec(
        name="field",
        content=draw(st.sampled_from(["n", "ans", "b", "z"])),
        length=draw(st.integers(1, longest)),
        prefix_digits=prefix_digits,
        prefix_encoding=prefix_encoding,
        encoding=encoding,
        unit=draw(st.sampled_from(units.get(encoding, ["characters"]))),
        pad=draw(st.sampled_from(["left", "right"])),
        pad_nibble=draw(st.integers(0, 15)),
    )


@st.composite
def header_specs(draw: st.DrawFn) -> iso8583.HeaderSpec:
    """Any header that a spec may have: a number of parts with a role, in any order."""
    address_size = draw(st.integers(1, 4))
    roles = {
        "header_length": st.integers(1, 4),
        "total_length": st.integers(2, 4),
        "destination": st.just(address_size),
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


def specs() -> st.SearchStrategy[iso8583.Spec]:
    return st.builds(
        iso8583.Spec,
        name=st.just("any"),
        header=st.one_of(st.none(), header_specs()),
        mti=st.sampled_from(["ascii", "cp500", "bcd"]),
        bitmap=st.sampled_from(["hex", "binary"]),
        prefix_encoding=st.just("ascii"),
        fields=st.dictionaries(st.integers(2, 128), field_specs(), max_size=8),
    )
