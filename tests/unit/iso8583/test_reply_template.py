"""Replies: the request's own bytes, and two codes."""

import pytest

import iso8583
from tests.messages import content, specs_of_1987

CODECS = [iso8583.Codec(iso8583.load_spec(name)) for name in specs_of_1987()]
ECHOED = (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 70, 90)
REQUEST: dict[int | str, str] = {
    "mti": "0200",
    2: "4000001234567",
    3: "000000",
    4: "000000001500",
    11: "000017",
    26: "12",
    32: "012345",
    37: "085000100003",
    41: "TERM0001",
    43: "FIRST THIRD BANK".ljust(40),
    49: "840",
    90: "0" * 42,
}
REPLY: dict[int | str, str] = {
    "mti": "0210",
    **{field: value for field, value in REQUEST.items() if field in ECHOED},
    39: "00",
}


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_an_approval(codec):
    template = iso8583.ReplyTemplate(codec, "0210", ECHOED)
    reply = template.build(codec.message(REQUEST), "00", "A1B2C3")
    assert content(codec.decode(reply)) == {**REPLY, 38: "A1B2C3"}
    assert reply == codec.encode({**REPLY, 38: "A1B2C3"})


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_a_decline_has_no_approval_code(codec):
    template = iso8583.ReplyTemplate(codec, "0210", ECHOED)
    reply = template.build(codec.message(REQUEST), "51")
    assert content(codec.decode(reply)) == {**REPLY, 39: "51"}


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_an_approval_code_of_the_requests_own_is_echoed_unless_there_is_another(codec):
    template = iso8583.ReplyTemplate(codec, "0210", (*ECHOED, 38))
    request = codec.message({**REQUEST, 38: "THEIRS"})
    assert content(codec.decode(template.build(request, "00"))) == {
        **REPLY,
        38: "THEIRS",
    }
    reply = template.build(request, "00", "OURS01")
    assert content(codec.decode(reply)) == {**REPLY, 38: "OURS01"}


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_a_request_of_nothing_but_its_mti(codec):
    template = iso8583.ReplyTemplate(codec, "0210", ECHOED)
    reply = template.build(codec.message({"mti": "0200"}), "30")
    assert content(codec.decode(reply)) == {"mti": "0210", 39: "30"}


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_changed_fields_are_echoed_as_changed(codec):
    template = iso8583.ReplyTemplate(codec, "0210", ECHOED)
    request = codec.message(REQUEST)
    request[2] = "400000123456789"
    del request[90]
    reply = codec.decode(template.build(request, "00"))
    assert reply[2] == "400000123456789"
    assert 90 not in reply


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_a_partial_message_is_answered_with_what_it_has(codec):
    data = codec.encode(REQUEST)
    template = iso8583.ReplyTemplate(codec, "0210", ECHOED)
    with pytest.raises(iso8583.DecodeError) as caught:
        codec.decode(data[:-30])
    partial = caught.value.message
    assert partial is not None
    reply = content(codec.decode(template.build(partial, "30")))
    echoed: dict[int | str, str] = {
        field: REQUEST[field] for field in partial if field in ECHOED
    }
    assert reply == echoed | {"mti": "0210", 39: "30"}


def test_field_bytes_are_the_requests_own():
    codec = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
    # Field 41 is not even ASCII: it goes back as it came.
    request = codec.decode(b"0200" + b"0000000000800000" + b"TERM\xff\xfe01")
    template = iso8583.ReplyTemplate(codec, "0210", ECHOED)
    assert template.build(request, "00") == (
        b"0210" + b"0000000002800000" + b"00" + b"TERM\xff\xfe01"
    )


def test_requests_are_of_the_templates_codec():
    first, second = CODECS[:2]
    template = iso8583.ReplyTemplate(first, "0210", ECHOED)
    with pytest.raises(ValueError, match="the template's own codec"):
        template.build(second.message(REQUEST), "00")
    with pytest.raises(TypeError):
        template.build(None, "00")  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [(39,), (1,), (65,), (200,), (-1,)])
def test_fields_that_cannot_be_copied(fields):
    with pytest.raises(ValueError, match="expected fields"):
        iso8583.ReplyTemplate(CODECS[0], "0210", fields)


@pytest.mark.parametrize(
    ("response_code", "approval_code"),
    [("0", None), ("000", None), ("é0", None), ("00", "12345"), ("00", "1234567")],
)
def test_codes_of_another_length(response_code, approval_code):
    template = iso8583.ReplyTemplate(CODECS[0], "0210", ECHOED)
    request = CODECS[0].message(REQUEST)
    with pytest.raises(iso8583.EncodeError):
        template.build(request, response_code, approval_code)


def test_a_spec_without_response_codes_has_no_replies():
    spec = iso8583.Spec(
        name="bare", mti="ascii", bitmap="hex", prefix_encoding="ascii", fields={}
    )
    with pytest.raises(ValueError, match="expected field 38 to be 6 characters"):
        iso8583.ReplyTemplate(iso8583.Codec(spec), "0210", ())
