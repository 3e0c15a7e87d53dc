"""What the digits of an MTI say."""

import pytest

import iso8583


@pytest.mark.parametrize(
    ("mti", "said"),
    [
        ("0100", ("1987", "authorisation", "request", "acquirer", False)),
        ("0121", ("1987", "authorisation", "advice", "acquirer", True)),
        ("0210", ("1987", "financial", "request response", "acquirer", False)),
        ("1422", ("1993", "reversal or chargeback", "advice", "issuer", False)),
        ("1443", ("1993", "reversal or chargeback", "notification", "issuer", True)),
        ("2564", ("2003", "reconciliation", "instruction", "other", False)),
        ("0805", ("1987", "network management", "request", "other", True)),
        ("8630", ("national", "administrative", "advice response", "acquirer", False)),
        ("9700", ("private", "fee collection", "request", "acquirer", False)),
        ("3987", ("reserved", "reserved", "reserved", "reserved", False)),
    ],
)
def test_each_digit_has_its_word(mti, said):
    version, message_class, function, origin, repeat = said
    assert iso8583.message_type(mti) == iso8583.MessageType(
        version=version,
        message_class=message_class,
        function=function,
        origin=origin,
        repeat=repeat,
    )


@pytest.mark.parametrize("mti", ["", "010", "01000", "01a0", "٠١٠٠"])
def test_what_is_no_mti_is_refused(mti):
    with pytest.raises(ValueError, match="expected an MTI of 4 digits"):
        iso8583.message_type(mti)
