"""Nothing that may not be shown is shown, however short."""

import pytest

import iso8583

CODEC = iso8583.Codec(iso8583.load_spec("iso87-mixed"))
SECRETS = {
    2: "4000001234567899",
    34: "40000012345678991234",
    35: "4000001234567899=25121011234",
    36: "0140000012345678991234",
    45: "B4000001234567899^DOE/JANE^2512101",
    48: "CVV2=123",
    52: "0123456789ABCDEF",
    55: "5A084000001234567899",
    62: "anything",
    96: "FEDCBA9876543210",
    120: "anything",
}


@pytest.mark.parametrize(("field", "value"), list(SECRETS.items()))
def test_card_data_is_masked(field, value):
    message = CODEC.message({"mti": "0100", field: value})
    for shown in (
        iso8583.describe(message),
        repr(message),
        repr(iso8583.masked(message)),
    ):
        assert value not in shown
        assert value[:8] not in shown
    assert value in iso8583.describe(message, unmasked=True)
    assert iso8583.masked(message, unmasked=True) == message.to_dict()


@pytest.mark.parametrize("pan", ["1", "1234", "12345678", "12345678901"])
def test_a_short_card_number_is_masked_whole(pan):
    message = CODEC.message({"mti": "0100", 2: pan})
    assert iso8583.masked(message)[2] == f"<pan, {len(pan)} characters>"


@pytest.mark.parametrize(
    ("pan", "shown"),
    [
        ("400000123456", "********3456"),
        ("4000001234567899", "************7899"),
        ("4000001234567890123", "***************0123"),
    ],
)
def test_a_card_number_keeps_its_last_four_digits(pan, shown):
    assert iso8583.masked(CODEC.message({"mti": "0100", 2: pan}))[2] == shown


@pytest.mark.parametrize("name", iso8583.spec_names())
def test_every_shipped_spec_knows_its_card_data(name):
    fields = iso8583.load_spec(name).fields
    kinds = {number: fields[number].sensitive for number in SECRETS}
    # BASE I has something else in 34.
    assert kinds[34] == ("private" if name == "visa-base1" else "pan")
    assert {number: kinds[number] for number in (2, 35, 36, 45, 52, 55)} == {
        2: "pan",
        35: "track",
        36: "track",
        45: "track",
        52: "pin",
        55: "chip",
    }
    assert all(kinds.values())


def test_a_tree():
    message = CODEC.message(
        {"mti": "0100", 2: "4000001234567899", 11: "000017", 52: "0" * 16}
    )
    assert iso8583.describe(message) == (
        "MTI 0100\n"
        "    2  Primary account number: ************7899\n"
        "   11  System trace audit number: 000017\n"
        "   52  PIN data: <pin, 16 characters>"
    )


def test_control_characters_do_not_reach_the_terminal():
    message = CODEC.message({"mti": "0100", 41: "\x1b[2J\r\n\0A"})
    assert iso8583.describe(message).endswith(r": \x1b[2J\r\n\x00A")


def test_an_unreadable_field_says_so():
    message = CODEC.message({"mti": "0100", 41: b"TERM000\xff"})
    assert iso8583.masked(message)[41] == "<unreadable: expected text in ascii>"
