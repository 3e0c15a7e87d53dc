"""`Codec.decode(data, partial=True)`: what was read before the fault, and the fault."""

import copy
import pickle

import pytest

import iso8583

ASCII = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
MIXED = iso8583.Codec(iso8583.load_spec("iso87-mixed"))
REQUEST = {"mti": "0100", 2: "9999990000000014", 4: "000000001500", 11: "000017"}
# Field 11 has three digits less than it should.
CUT_SHORT = ASCII.encode(REQUEST)[:-3]


def part() -> iso8583.Message:
    return ASCII.decode(CUT_SHORT, partial=True)


def test_the_fields_before_the_fault_can_be_read():
    message = part()
    assert message.to_dict() == {key: REQUEST[key] for key in ("mti", 2, 4)}
    assert message.fault is not None
    assert message.fault.field == 11
    assert (message.fault.expected, message.fault.got) == ("6 bytes of data", "3")
    assert message.fault.message is None
    assert "************0014" in iso8583.describe(message)


def test_every_truncation_behind_the_bitmap_gives_a_part():
    data = ASCII.encode(REQUEST)
    for size in range(20, len(data)):
        message = ASCII.decode(data[:size], partial=True)
        with pytest.raises(iso8583.DecodeError) as caught:
            ASCII.decode(data[:size])
        assert str(message.fault) == str(caught.value)
        assert list(message) == [n for n in (2, 4, 11) if n in message]


def test_a_whole_message_has_no_fault():
    message = ASCII.decode(ASCII.encode(REQUEST), partial=True)
    assert message.fault is None
    assert message.encode() == ASCII.encode(REQUEST)


def test_a_part_is_not_encoded():
    message = part()
    for encode in (message.encode, lambda: bytes(message)):
        with pytest.raises(iso8583.EncodeError, match="expected a whole message"):
            encode()
    for codec in (ASCII, MIXED):
        with pytest.raises(iso8583.EncodeError, match="expected a whole message"):
            codec.encode(message)
    message[11] = "000017"
    with pytest.raises(iso8583.EncodeError, match="expected a whole message"):
        message.encode()


def test_a_part_can_be_answered():
    reply = ASCII.reply(part(), copy=(2, 4, 11), set={39: "30"})
    assert reply.fault is None
    assert list(ASCII.decode(reply.encode())) == [2, 4, 39]


def test_a_copy_of_a_part_is_one_too():
    message = part()
    for other in (copy.copy(message), pickle.loads(pickle.dumps(message))):
        assert other == message
        assert str(other.fault) == str(message.fault)
    whole = ASCII.message(message.to_dict())
    assert whole != message


@pytest.mark.parametrize("size", [0, 3, 4, 12])
def test_without_mti_and_bitmap_there_is_no_part(size):
    with pytest.raises(iso8583.DecodeError):
        ASCII.decode(CUT_SHORT[:size], partial=True)
