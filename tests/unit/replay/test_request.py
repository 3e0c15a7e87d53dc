import msgspec
import pytest

import iso8583
from switch.link._framing import Framing
from switch.replay.errors import RequestError
from switch.replay.request import fill, make_template

SPECS = ["iso87-ascii", "iso87-mixed", "iso87-binary", "mastercard-cis", "visa-base1"]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("pan_size", [13, 16, 18, 19])
def test_a_filled_template_is_what_the_codec_decodes(spec, pan_size):
    codec = iso8583.Codec(iso8583.load_spec(spec))
    framing = Framing("ascii4")
    template = make_template(codec, framing, pan_size, "978")
    values = {
        "pan": "9" * 5 + "1234567890123456789"[: pan_size - 5],
        "amount": "000000001234",
        "transmitted": "1231235959",
        "stan": "123456",
        "local_time": "010203",
        "local_date": "0405",
        "expiry": "3012",
        "rrn": "998877665544",
    }
    frame = fill(template.frame, values, template.places)
    message = codec.decode(frame[framing.header_size :])
    assert message.mti == "0100"
    assert [message[field] for field in (2, 4, 7, 11, 12, 13, 14, 37)] == [
        *values.values()
    ]
    assert message[49] == "978"


def test_a_spec_without_a_field_that_we_need_is_refused():
    spec = iso8583.load_spec("iso87-ascii")
    fields = {number: spec.fields[number] for number in spec.fields if number != 37}
    codec = iso8583.Codec(msgspec.structs.replace(spec, fields=fields))
    with pytest.raises(RequestError, match="PAN of 16 digits: field 37: expected"):
        make_template(codec, Framing("binary2"), 16, "978")
