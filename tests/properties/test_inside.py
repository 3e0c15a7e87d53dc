"""The invariants of what is inside fields.

Whatever bytes a field has, for any spec: what is inside is read as a plain reading in
Python reads it, or both refuse; a refusal is a DecodeError, and never any other error;
the field's own value and bytes are not touched by it. What was read can be written, and
reads the same. Whatever is written can be read. A change changes what it says, and
nothing else.
"""

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iso8583
from iso8583.inside import (
    BerTlv,
    Inside,
    NestedBitmap,
    Positional,
    Tagged,
    elements,
)
from tests.properties import inside_reference as reference
from tests.properties.codec_messages import CODECS
from tests.unit.iso8583.inside_specs import field, spec_of

LENGTH_MAX = 12
CODECS_COUNT = 1_000
TAGS = ["9C", "5A", "82", "9F02", "5F2A", "DF8104", "70", "E1"]
IDS = ["01", "42", "61", "9Z"]

tlv: st.SearchStrategy[bytes] = st.deferred(
    lambda: st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from([bytes.fromhex(tag) for tag in TAGS]),
                st.one_of(st.binary(max_size=4), tlv),
                st.sampled_from([b"", b"\x81", b"\x82\x00"]),
            ).map(lambda one: one[0] + one[2] + bytes([len(one[1]) & 0x7F]) + one[1]),
            st.just(b"\x00"),
        ),
        max_size=4,
    ).map(b"".join)
)
tagged = st.lists(
    st.tuples(st.sampled_from(IDS), st.text("019AD", max_size=4)).map(
        lambda one: f"{one[0]}{len(one[1]):02}{one[1]}".encode()
    ),
    max_size=4,
).map(lambda parts: b"R" + b"".join(parts))
# Bytes that are more likely than any to be something.
contents = st.one_of(
    st.binary(max_size=40),
    tlv,
    tlv.map(lambda data: data.hex().encode()),
    tagged,
    tagged.map(lambda data: data[1:]),
    st.text("0123456789", max_size=20).map(str.encode),
    st.tuples(st.binary(min_size=1, max_size=2), st.binary(max_size=20)).map(b"".join),
)


class Maker:
    """Makes any container that a spec may have, by chance. Strategies would take longer
    to draw such a tree than the codec takes to read a thousand fields by it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def field(self, depth: int, *, prefixed: bool = True) -> iso8583.FieldSpec:
        choice = self.random.choice
        prefix = choice([0, 0, 1, 2]) if prefixed else 0
        if depth and choice([True, False, False]):
            return field(
                9 if prefix else LENGTH_MAX,
                "b",
                prefix_digits=prefix,
                inside=self.inside(depth - 1),
            )
        return field(
            self.random.randint(1, 9 if prefix else LENGTH_MAX),
            choice(["an", "ans", "n", "b"]),
            prefix_digits=prefix,
            sensitive=choice([None, "pan"]),
        )

    def some(
        self, keys: Sequence[Any], depth: int, *, prefixed: bool = True
    ) -> dict[Any, iso8583.FieldSpec]:
        chosen = self.random.sample(keys, self.random.randint(0, min(4, len(keys))))
        return {key: self.field(depth, prefixed=prefixed) for key in chosen}

    def inside(self, depth: int) -> Inside:
        choice = self.random.choice
        strict = choice([True, True, False])
        unknown: Any = choice(["keep", "keep", "skip", "refuse"])
        kind = choice([Positional, NestedBitmap, BerTlv, Tagged, Tagged])
        if kind is Positional:
            fields = (*self.some(range(3), depth).values(), self.field(depth))
            required = choice([0, 1, None])
            return Positional(
                fields=fields, required=required, unknown=unknown, strict=strict
            )
        if kind is NestedBitmap:
            return NestedBitmap(
                size=1,
                encoding=choice(["binary", "hex"]),
                fields=self.some(range(1, 9), depth),
                strict=strict,
            )
        if kind is BerTlv:
            return BerTlv(
                tags=choice([None, "emv"]),
                fields=self.some(TAGS, depth, prefixed=False),
                unknown=unknown,
                strict=strict,
            )
        if choice([True, False]):
            return Tagged(
                id_size=1,
                id_encoding=choice(["bcd", "binary"]),
                prefix_digits=2,
                prefix_encoding=choice(["bcd", "binary"]),
                unknown=unknown,
                strict=strict,
            )
        return Tagged(
            id_size=2,
            id_encoding=choice(["ascii", "cp500"]),
            prefix_digits=2,
            fields=self.some(IDS, depth, prefixed=False),
            leading=choice([{}, {"category": field(1)}]),
            leading_optional=choice([True, False]),
            unknown=unknown,
            strict=strict,
        )

    def codec(self) -> iso8583.Codec:
        """With anything inside field 60: bytes, text, hex digits, or packed digits."""
        content = self.random.choice(["b", "b", "ans", "an", "hex", "n"])
        inside = self.inside(2)
        if content == "n":
            lengths = self.random.choices(range(1, 5), k=self.random.randint(1, 4))
            fields = tuple(field(length) for length in lengths)
            inside = Positional(fields=fields, required=self.random.choice([0, None]))
        elif content == "hex":
            inside = msgspec.structs.replace(inside, hex=True)
            content = "an"
        return iso8583.Codec(spec_of(inside, content))


@lru_cache(maxsize=CODECS_COUNT)
def codec_by(seed: int) -> iso8583.Codec:
    return Maker(seed).codec()


def codecs() -> st.SearchStrategy[iso8583.Codec]:
    return st.integers(0, CODECS_COUNT - 1).map(codec_by)


def written(codec: iso8583.Codec, data: bytes) -> iso8583.Message:
    """With these bytes in field 60, or what they say where it has digits."""
    value: bytes | str = data
    if codec.spec.field(60).encoding == "bcd":
        value = "".join(character for character in data.hex() if character.isdigit())
    elif codec.spec.field(60).encoding == "cp500":
        value = data.decode("latin-1").encode("cp500")
    return codec.message({"mti": "0100", 60: value})


def refusal(read: Callable[[], Any]) -> iso8583.DecodeError | None:
    try:
        read()
    except iso8583.DecodeError as error:
        return error
    return None


def checked(message: iso8583.Message) -> dict[str, Any] | str | None:
    """What is inside field 60, by every way to read it; None when it is refused."""
    before = bytes(message)
    fault = refusal(lambda: message.to_dict(inside=True))
    other = refusal(message.validate)
    iso8583.describe(message)
    assert bytes(message) == before
    if fault is None:
        assert other is None
        found: dict[str, Any] | str = message.to_dict(inside=True)[60]
        return found
    assert other is not None
    assert (other.offset, other.expected) == (fault.offset, fault.expected)
    assert str(fault.field).partition(".")[0] == "60"
    assert 0 <= fault.offset <= len(before)
    return None


def leaves_of(inside: dict[str, Any], before: str = "60"):
    for key, value in inside.items():
        if isinstance(value, dict):
            yield from leaves_of(value, f"{before}.{key}")
        else:
            yield f"{before}.{key}", value


@given(codecs(), contents)
def test_any_bytes_are_read_as_a_plain_reading_does(codec, data):
    message = written(codec, data)
    resolved = codec.spec.field(60)
    # behind MTI, bitmap and a prefix of three digits
    wire = bytes(message)[15:]
    count = int(bytes(message)[12:15])
    try:
        expected = reference.read(resolved, codec.spec, wire, count)
    except reference.RefusedError:
        expected = None
    inside = checked(message)
    assert inside == expected
    if isinstance(inside, dict):
        assert list(inside) == list(expected)
        for place, leaf in leaves_of(inside):
            assert message[place] == leaf
            assert place in message


@given(codecs(), contents)
def test_what_was_read_can_be_written_and_reads_the_same(codec, data):
    message = written(codec, data)
    inside = checked(message)
    if inside is None:
        return
    again = codec.message({"mti": "0100", 60: inside})
    assert codec.decode(bytes(again)) == again
    # Padding and long lengths are gone: a second time changes nothing.
    assert again.to_dict(inside=True)[60] == inside
    assert codec.message(again.to_dict(inside=True)) == again


@given(codecs(), contents, st.data())
def test_a_change_changes_nothing_else(codec, data, draws):
    message = written(codec, data)
    inside = checked(message)
    if not isinstance(inside, dict) or not list(leaves_of(inside)):
        return
    before = dict(leaves_of(inside))
    place = draws.draw(st.sampled_from(sorted(before)))
    changed = message.copy()
    changed[place] = before[place]
    assert changed.to_dict(inside=True)[60] == inside
    value = draws.draw(st.sampled_from(["", "1", "12", "4142", *before.values()]))
    try:
        changed[place] = value
    except (iso8583.EncodeError, iso8583.DecodeError):
        assert changed.to_dict(inside=True)[60] == inside
        return
    after = changed.to_dict(inside=True)[60]
    if isinstance(after, dict):
        assert dict(leaves_of(after)).get(place, value) == value
        for other, kept in leaves_of(after):
            if other != place and not other.startswith(place):
                assert before.get(other, kept) == kept
    with_steps = message.copy()
    with_steps[tuple(place.split("."))] = value
    assert with_steps == changed


values = st.recursive(
    st.one_of(st.text("0129AFz", max_size=6), st.binary(max_size=4), st.none()),
    lambda inner: st.dictionaries(
        st.sampled_from([*TAGS, *IDS, "1", "2", "3", "category", "rest", 4]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)


@given(codecs(), values)
def test_anything_is_written_or_refused(codec, value):
    try:
        message = codec.message({"mti": "0100", 60: value})
    except iso8583.EncodeError:
        return
    assert codec.decode(bytes(message)) == message
    # A value given whole is taken as it is, as a field's is: what is inside may be
    # wrong, and is said to be.
    inside = checked(message)
    if isinstance(inside, dict):
        again = codec.message({"mti": "0100", 60: inside})
        assert again.to_dict(inside=True)[60] == inside


@pytest.mark.parametrize("name", CODECS)
@given(data=st.data())
@settings(max_examples=60)
def test_any_bytes_in_the_fields_of_shipped_specs(name, data):
    codec = CODECS[name]
    numbers = [number for number, one in codec.spec.fields.items() if one.inside]
    number = data.draw(st.sampled_from(numbers))
    resolved = codec.spec.field(number)
    content = data.draw(contents)[: resolved.length]
    value: bytes | str = content
    if resolved.encoding == "bcd":
        value = "".join(digit for digit in content.hex() if digit.isdigit())
    if not resolved.prefix_digits:
        filler = "0" if isinstance(value, str) else b"0"
        value = value.ljust(resolved.length, filler)  # type: ignore[arg-type]
    try:
        message = codec.message({"mti": "0100", number: value})
    except iso8583.EncodeError:
        return
    iso8583.describe(message)
    try:
        inside = message.to_dict(inside=True)
    except iso8583.DecodeError:
        return
    assert codec.message(inside).to_dict(inside=True) == inside
    assert elements(resolved, codec.spec).known or number in (55, 104, 123)
