"""This codec against pyiso8583, the real one: same bytes out, same fields in.

Where bytes are broken, whatever this codec reads, pyiso8583 reads alike. This codec
refuses more; each way in which it does is listed in `may_refuse`.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iso8583
from tests.captures import CAPTURES
from tests.properties.codec_messages import CODECS, Fields, messages
from tests.properties.codec_reference import Reference

# By the names of pyiso8583's own specs where it has them.
PAIRS = [
    ("iso87-ascii", "default_ascii"),
    ("iso87-mixed", "default"),
    ("iso87-binary", "iso87-binary"),
    ("mastercard-cis", "mastercard-cis"),
    ("visa-base1", "visa-base1"),
]
each_pair = pytest.mark.parametrize(("name", "theirs"), PAIRS)


@pytest.fixture(scope="module")
def reference() -> Iterator[Reference]:
    process = Reference()
    for name, theirs in PAIRS:
        if name == theirs:
            process.define(theirs, CODECS[name].spec)
    yield process
    process.close()


def in_hex(codec: iso8583.Codec, fields: Fields) -> Fields:
    """As pyiso8583 shows them: packed track data has the nibble D for "="."""
    return {
        key: value.replace("=", "D")
        if isinstance(key, int) and codec.spec.field(key).encoding == "bcd"
        else value
        for key, value in fields.items()
    }


@each_pair
@given(data=st.data())
@settings(max_examples=150)
def test_both_write_and_read_the_same(reference, name, theirs, data):
    codec = CODECS[name]
    encoded = codec.encode(data.draw(messages(codec, fields_max=25)))
    fields = codec.decode(encoded).to_dict()
    assert reference.encode(theirs, in_hex(codec, fields)) == encoded
    assert reference.decode(theirs, encoded) == in_hex(codec, fields)


@pytest.mark.parametrize("body", CAPTURES["visa-base1"].bodies())
def test_both_read_captured_frames_alike(reference, body):
    codec = CODECS["visa-base1"]
    fields = codec.decode(body).to_dict()
    assert reference.decode("visa-base1", body) == in_hex(codec, fields)


def read(codec: iso8583.Codec, data: bytes) -> Fields | None:
    try:
        return codec.decode(data).to_dict()
    except iso8583.DecodeError:
        return None


def may_refuse(codec: iso8583.Codec, data: bytes, theirs: Fields) -> bool:
    """What pyiso8583 reads and this codec does not, each for its reason."""
    size = 2 if codec.spec.mti == "bcd" else 4
    mti = theirs["mti"]
    # An MTI is four digits: there, any characters.
    if not (mti.isascii() and mti.isdigit()):
        return True
    # A tertiary bitmap where the spec has one: there, always.
    beyond = any(isinstance(key, int) and key > 128 for key in theirs)
    if beyond and codec.spec.bitmaps == 2:
        return True
    with pytest.raises(iso8583.DecodeError) as caught:
        codec.decode(data).to_dict()
    error = caught.value
    # Lengths in the header are right, and tell a reject: there, they are any bytes.
    if isinstance(error.field, str):
        return True
    # Length prefixes are digits: there, whatever int() takes (" 5", "+5", "1_0").
    if error.expected == "a length prefix of digits":
        prefix = bytes.fromhex(error.got)
        encoding = codec.spec.prefix_encoding
        return encoding != "bcd" and not prefix.decode(encoding).isdigit()
    # Field 65 says that there is a tertiary bitmap; an empty one leaves no trace.
    if error.field == 65:
        return True
    # Hex bitmaps are hex digits: there, blanks between them are skipped.
    return error.field == 1 and any(byte in b" \t\n\r\f\v" for byte in data[size:])


@each_pair
@given(data=st.data())
@settings(max_examples=300)
def test_both_read_broken_messages_alike(reference, name, theirs, data):
    codec = CODECS[name]
    frame = bytearray(codec.encode(data.draw(messages(codec, fields_max=6))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(frame)))
        frame[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.one_of(
                st.binary(max_size=2), st.sampled_from([b"", b"0", b"1", b" ", b"F"])
            )
        )
    broken = bytes(frame)
    ours = read(codec, broken)
    other = reference.decode(theirs, broken)
    if ours is not None:
        assert other == in_hex(codec, ours)
    elif other is not None:
        assert may_refuse(codec, broken, other)
