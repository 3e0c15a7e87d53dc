"""`Codec.reply`: a request's own bytes, other values, its header turned round."""

import pytest

import iso8583

ASCII = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
VISA = iso8583.Codec(iso8583.load_spec("visa-base1"))
CIS = iso8583.Codec(iso8583.load_spec("mastercard-cis"))
REQUEST = {
    "mti": "0100",
    2: "9999990000000014",
    4: "000000001500",
    11: "000017",
    38: "OLD123",
    70: "301",
}


def test_a_reply_has_the_fields_copied_and_those_set():
    request = ASCII.message(REQUEST)
    reply = ASCII.reply(request, copy=(2, 11, 70), set={39: "00", "38": "NEW456"})
    assert reply.to_dict() == {
        "mti": "0110",
        2: REQUEST[2],
        11: "000017",
        38: "NEW456",
        39: "00",
        70: "301",
    }
    assert ASCII.decode(reply.encode()) == reply


def test_what_is_set_takes_the_place_of_what_is_copied():
    request = ASCII.message(REQUEST)
    assert ASCII.reply(request, copy=(11, 38), set={38: "NEW456"})[38] == "NEW456"


def test_a_field_that_the_request_has_not_is_left_out():
    reply = ASCII.reply(ASCII.message(REQUEST), copy=(11, 37))
    assert list(reply) == [11]


def test_bytes_that_are_no_text_are_copied_as_they_came():
    wire = ASCII.encode({"mti": "0100", 11: "000017"}).replace(b"000017", b"\xff" * 6)
    reply = ASCII.reply(ASCII.decode(wire), copy=(11,))
    assert reply.encode().endswith(b"\xff" * 6)
    with pytest.raises(iso8583.DecodeError):
        reply[11]


def test_an_element_may_be_set_by_its_path():
    request = CIS.message({"mti": "0100", 48: {"tcc": "R", "61": "10000"}})
    reply = CIS.reply(request, copy=(48,), set={39: "00", "48.61": "00000"})
    assert reply["48.61"] == "00000"
    assert reply["48.tcc"] == "R"


def test_the_header_of_a_reply_is_turned_round():
    header = {"destination": "111111", "source": "222222"}
    request = VISA.message({"header": header, "mti": "0100", 11: "000017"})
    reply = VISA.reply(request, copy=(11,), set={39: "00"})
    assert reply.header is not None
    assert reply.header["destination"] == "222222"
    assert reply.header["source"] == "111111"
    assert VISA.decode(reply.encode()) == reply


def test_a_reply_is_the_one_of_a_template():
    request = VISA.message({"mti": "0100", 11: "000017", 4: "000000001500"})
    template = iso8583.ReplyTemplate(VISA, "0110", (4, 11))
    reply = VISA.reply(request, copy=(4, 11), set={39: "00"})
    assert reply.encode() == template.build(request, "00")


@pytest.mark.parametrize(
    ("mti", "response"),
    [
        ("0100", "0110"),
        ("0101", "0110"),
        ("0121", "0130"),
        ("0421", "0430"),
        ("0423", "0432"),
        ("1804", "1814"),
        ("2240", "2250"),
        ("2160", "2170"),
    ],
)
def test_the_response_to_a_request_is_known(mti, response):
    assert iso8583.response_mti(mti) == response


@pytest.mark.parametrize("mti", ["0110", "0150", "0180", "0190"])
def test_nothing_answers_a_response(mti):
    with pytest.raises(ValueError, match="expected the MTI of a request"):
        iso8583.response_mti(mti)


def test_the_mti_of_a_reply_may_be_given():
    request = ASCII.message({**REQUEST, "mti": "0190"})
    assert ASCII.reply(request, mti="0110").mti == "0110"
    with pytest.raises(iso8583.EncodeError, match="MTI: expected a str of 4 digits"):
        ASCII.reply(request, mti="110")


def test_a_reply_refuses_what_its_spec_does_not_know():
    request = ASCII.message(REQUEST)
    with pytest.raises(iso8583.EncodeError, match="field 65: expected a field"):
        ASCII.reply(request, copy=(65,))
    with pytest.raises(iso8583.EncodeError, match="field 39: expected 2 characters"):
        ASCII.reply(request, set={39: "000"})


def test_a_reply_is_to_a_request_of_the_same_codec():
    with pytest.raises(ValueError, match="expected a request of the same codec"):
        VISA.reply(ASCII.message(REQUEST))
