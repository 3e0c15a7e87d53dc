"""Messages to JSON and back, as docs/codec.md says."""

import json

import msgspec
import pytest

import iso8583

FIELDS = {"mti": "0100", 2: "9999990000000014", 4: "000000001500", 11: "000017"}
CHIP = {"9F26": "42215634A0B2C4A7", "9F36": "0001"}


class Stored(msgspec.Struct):
    message: iso8583.Message


def message_of(name: str) -> iso8583.Message:
    spec = iso8583.load_spec(name)
    mti = "1100" if spec.versions == ("1993",) else "0100"
    return iso8583.Codec(spec).message({**FIELDS, "mti": mti, 55: VALUES[name]})


VALUES = {
    name: {"01": CHIP} if name == "visa-base1" else CHIP
    for name in iso8583.spec_names()
}


@pytest.mark.parametrize("name", iso8583.spec_names())
@pytest.mark.parametrize("inside", [False, True])
def test_a_message_comes_back_from_json_byte_for_byte(name, inside):
    message = message_of(name)
    text = json.dumps(message.to_dict(inside=inside))
    assert message.codec.message(json.loads(text)).encode() == message.encode()


@pytest.mark.parametrize("name", iso8583.spec_names())
def test_a_message_comes_back_from_msgspec_by_two_hooks(name):
    message = message_of(name)

    def enc_hook(value):
        if isinstance(value, iso8583.Message):
            return value.to_dict()
        raise NotImplementedError

    def dec_hook(type_, value):
        return message.codec.message(value) if type_ is iso8583.Message else value

    data = msgspec.json.encode(Stored(message), enc_hook=enc_hook)
    assert msgspec.json.decode(data, type=Stored, dec_hook=dec_hook).message == message
