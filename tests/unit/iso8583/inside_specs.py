"""Specs with one field of each kind of container, for the tests of what is inside."""

from typing import Any

import iso8583
from iso8583.inside import BerTlv, Inside, NestedBitmap, Positional, Tagged


def field(length: int = 99, content: Any = "ans", **axes: Any) -> iso8583.FieldSpec:
    return iso8583.FieldSpec(name="element", content=content, length=length, **axes)


def spec_of(
    inside: Inside, content: Any = "b", length: int = 999, **axes: Any
) -> iso8583.Spec:
    """Field 60 has this inside: bytes, unless its content class is another."""
    return iso8583.Spec(
        name="inside",
        mti="ascii",
        bitmap="binary",
        prefix_encoding="ascii",
        encodings={
            "a": "ascii",
            "n": "bcd",
            "an": "cp500",
            "ans": "ascii",
            "b": "binary",
            "x+n": "cp500",
        },
        fields={
            11: field(6),
            60: field(length, content, inside=inside, **{"prefix_digits": 3} | axes),
        },
    )


def codec_of(inside: Inside, content: Any = "b", **axes: Any) -> iso8583.Codec:
    return iso8583.Codec(spec_of(inside, content, **axes))


# Where the data of field 60 begins: behind MTI, bitmap, field 11 and a prefix.
DATA_AT = 4 + 8 + 6 + 3


def message(
    codec: iso8583.Codec, value: str | bytes | dict[Any, Any]
) -> iso8583.Message:
    return codec.message({"mti": "0100", 11: "000017", 60: value})


CHIP = BerTlv(tags="emv")
SUBELEMENTS = Tagged(
    id_size=2,
    prefix_digits=2,
    leading={"category": field(1, "a")},
    fields={
        "61": field(5, inside=Positional(fields=(field(1),) * 5, required=1)),
        "92": field(3, sensitive="cvv"),
    },
)
NUMBERED = NestedBitmap(
    size=8,
    fields={
        1: field(1, "an"),
        2: field(15, "n"),
        3: field(20, prefix_digits=2, prefix_encoding="binary"),
        64: field(4, "b"),
    },
)
POSITIONS = Positional(fields=(field(2), field(3), field(4)), required=1)
DATASETS = Tagged(
    id_size=1,
    id_encoding="binary",
    prefix_digits=4,
    prefix_encoding="binary",
    default=field(255, "b", inside=BerTlv()),
)
