"""The invariants of the codec.

Whatever bytes come in, `decode` either raises DecodeError, and never any other error,
or gives a message that encodes to the same bytes. What `encode` writes, `decode`
reads as it was given.
"""

from contextlib import suppress
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import iso8583
from iso8583.header import HeaderRole
from tests.messages import content, specs_of_1987
from tests.properties.codec_messages import (
    Fields,
    codecs,
    codecs_and_messages,
    headers,
    messages,
    specs,
    values,
)

ECHOED = (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 70, 90)


@given(codecs_and_messages())
def test_what_is_encoded_is_decoded(codec_and_fields):
    codec, fields = codec_and_fields
    data = codec.encode(fields)
    message = codec.decode(data)
    assert content(message) == fields
    assert list(message) == sorted(fields.keys() - {"mti"})
    assert codec.encode(message) == data
    # Only a dict is written in one pass, and only in order without a second copy.
    assert codec.encode(MappingProxyType(fields)) == data
    assert codec.encode(dict(reversed(fields.items()))) == data


@given(st.data())
def test_what_is_encoded_is_decoded_by_any_spec(data):
    codec = iso8583.Codec(data.draw(specs()))
    fields = data.draw(messages(codec))
    encoded = codec.encode(fields)
    assert content(codec.decode(encoded)) == fields
    assert codec.encode(MappingProxyType(fields)) == encoded
    for size in range(len(encoded)):
        with pytest.raises(iso8583.DecodeError):
            codec.decode(encoded[:size])


@given(st.data())
def test_a_header_is_kept_but_for_its_lengths(data):
    spec = data.draw(specs().filter(lambda spec: spec.header is not None))
    codec = iso8583.Codec(spec)
    assert spec.header is not None
    header = data.draw(headers(spec.header))
    encoded = codec.encode({**data.draw(messages(codec)), "header": header})
    message = codec.decode(encoded)
    assert message.rejected == (len(header) > spec.header.size)
    assert codec.encode(message.to_dict()) == encoded
    sizes: dict[HeaderRole, int] = {
        "header_length": (
            spec.header.reject_size if message.rejected else spec.header.size
        ),
        "total_length": len(encoded),
    }
    for role, expected in sizes.items():
        at, size = spec.header.place(role)
        assert int.from_bytes(encoded[at : at + size]) == (expected if size else 0)
        header = header[:at] + encoded[at : at + size] + header[at + size :]
    assert encoded.startswith(header)
    assert message.header is not None
    assert bytes.fromhex("".join(message.header.values())) == header
    for size in range(len(encoded)):
        with pytest.raises(iso8583.DecodeError):
            codec.decode(encoded[:size])


def read_or_refuse(codec: iso8583.Codec, data: bytes, *, one_form: bool = True) -> None:
    """`one_form`: what the spec's fields say, they say in one way only."""
    fault: iso8583.DecodeError | None = None
    message: iso8583.Message | None
    try:
        message = codec.decode(data)
    except iso8583.DecodeError as error:
        fault = error
        message = error.message
    if fault is None:
        assert message is not None
        assert codec.encode(message) == data
    else:
        assert 0 <= fault.offset <= len(data)
        if message is None:
            return
        # What was walked is a message of its own, and the fault is behind it.
        assert fault.field not in message
        assert codec.decode(bytes(message)) == message
    iso8583.describe(message)
    if not one_form:
        return
    with suppress(iso8583.DecodeError):
        # Text that was read can be written; the bytes may differ in how the bitmaps
        # were written.
        assert codec.message(message.to_dict()) == message


@given(codecs(), st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(codec, data):
    read_or_refuse(codec, data)


@given(codecs(), st.integers(0, 2**128 - 1), st.binary(max_size=400))
def test_any_bytes_behind_a_bitmap_are_read_or_refused(codec, bitmap, data):
    header = codec.encode({"mti": mti_of(codec, "200")})
    words = f"{bitmap:032x}"[: 32 if bitmap >> 127 else 16]
    size = 8 if codec.spec.bitmap == "binary" else 16
    written = bytes.fromhex(words) if size == 8 else words.encode()
    read_or_refuse(codec, header[:-size] + written + data)


def mti_of(codec: iso8583.Codec, rest: str) -> str:
    return f"{codec.spec.version_digits[0]}{rest}"


def broken(data: st.DataObject, codec: iso8583.Codec, fields: Fields) -> bytes:
    frame = bytearray(codec.encode(fields))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(frame)))
        frame[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2)
        )
    return bytes(frame)


@given(codecs_and_messages(), st.data())
def test_broken_messages_are_read_or_refused(codec_and_fields, data):
    codec, fields = codec_and_fields
    read_or_refuse(codec, broken(data, codec, fields))


@given(st.data())
def test_broken_messages_are_read_or_refused_by_any_spec(data):
    codec = iso8583.Codec(data.draw(specs()))
    # A length of BER-TLV may have zeros before it, and Shift JIS two ways to say one
    # thing: both are kept as they came.
    read_or_refuse(
        codec, broken(data, codec, data.draw(messages(codec))), one_form=False
    )


@given(st.data())
def test_changes_are_those_of_a_dict_by_any_spec(data):
    codec = iso8583.Codec(data.draw(specs().filter(lambda spec: spec.fields)))
    model = data.draw(messages(codec))
    message = codec.message(model)
    for number in data.draw(st.permutations(sorted(codec.spec.fields))):
        value = data.draw(values(codec.spec.field(number)))
        message[number] = value
        model[number] = value
        assert bytes(message) == codec.encode(model)
    for number in data.draw(st.permutations(sorted(codec.spec.fields))):
        del message[number]
        del model[number]
        assert bytes(message) == codec.encode(model)
        assert codec.decode(bytes(message)) == message


@given(codecs_and_messages())
def test_every_truncation_is_refused(codec_and_fields):
    codec, fields = codec_and_fields
    data = codec.encode(fields)
    whole = codec.decode(data)
    for size in range(len(data)):
        with pytest.raises(iso8583.DecodeError) as caught:
            codec.decode(data[:size])
        partial = caught.value.message
        if partial is not None:
            walked = list(partial)
            assert walked == list(whole)[: len(walked)]
            assert all(partial[number] == whole[number] for number in walked)


@given(codecs_and_messages(), st.binary(min_size=1, max_size=3))
def test_anything_behind_a_message_is_refused(codec_and_fields, rest):
    codec, fields = codec_and_fields
    data = codec.encode(fields)
    with pytest.raises(iso8583.DecodeError) as caught:
        codec.decode(data + rest)
    assert caught.value.field is None
    assert caught.value.offset == len(data)
    assert caught.value.message == codec.decode(data)


@given(codecs_and_messages(), st.data())
def test_changes_are_those_of_a_dict(codec_and_fields, data):
    codec, model = codec_and_fields
    message = codec.message(model)
    numbers = st.sampled_from(sorted(codec.spec.fields))
    for _ in range(data.draw(st.integers(1, 6))):
        if len(model) > 1 and data.draw(st.booleans()):
            number = data.draw(st.sampled_from(sorted(model.keys() - {"mti"})))
            del message[number]
            del model[number]
        else:
            number = data.draw(numbers)
            value = data.draw(values(codec.spec.field(number)))
            message[number] = value
            model[number] = value
        assert content(message) == model
        assert bytes(message) == codec.encode(model)


@given(codecs_and_messages(specs_of_1987()), st.sampled_from([None, "A1B2C3"]))
def test_a_reply_is_what_encoding_its_fields_gives(codec_and_fields, approval_code):
    codec, fields = codec_and_fields
    template = iso8583.ReplyTemplate(codec, "0210", ECHOED)
    reply = template.build(codec.message(fields), "00", approval_code)
    expected: dict[int | str, str] = {"mti": "0210", 39: "00"}
    expected |= {key: fields[key] for key in ECHOED if key in fields}
    if approval_code is not None:
        expected[38] = approval_code
    assert reply == codec.encode(expected)


@given(
    codecs_and_messages(),
    st.dictionaries(
        st.one_of(st.integers(), st.text(max_size=4), st.none(), st.floats()),
        st.one_of(st.text(), st.binary(), st.integers(), st.none()),
        max_size=4,
    ),
)
def test_anything_is_encoded_or_refused(codec_and_fields, extra):
    codec, fields = codec_and_fields
    try:
        data = codec.encode({**fields, **extra})
    except iso8583.EncodeError:
        return
    codec.decode(data)
