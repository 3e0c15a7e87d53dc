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
    # BASE I and ISO 8583:2003 have something else in 34.
    has_other = name in ("visa-base1", "iso2003-ascii", "iso2003-binary")
    assert kinds[34] == ("private" if has_other else "pan")
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


# ---- what is inside

TLV = (
    "5A0A999999000000000017FF5710" + "9999990000000014D4912123456789FF"[:32]
) + "9F02060000000015009F26080102030405060708DF0102999970055F200244AA"


def test_what_is_inside_is_a_tree_masked_by_kind():
    message = CODEC.message({"mti": "0100", 55: TLV, 90: "0" * 42})
    assert iso8583.describe(message) == (
        "MTI 0100\n"
        f"   55  Integrated circuit card data: <chip, {len(TLV)} characters>\n"
        "       5A  Application primary account number: **************0017\n"
        "       57  Track 2 equivalent data: <track, 32 characters>\n"
        "       9F02  Amount, authorised: 000000001500\n"
        "       9F26  Application cryptogram: <chip, 16 characters>\n"
        "       DF01  unknown tag: <chip, 4 characters>\n"
        "       70  Record template\n"
        "            5F20  Cardholder name: <chip, 4 characters>\n"
        "   90  Original data elements: 000000000000000000000000000000000000000000\n"
        "       1  Original message type: 0000\n"
        "       2  Original system trace audit number: 000000\n"
        "       3  Original transmission date and time: 0000000000\n"
        "       4  Original acquiring institution: 00000000000\n"
        "       5  Original forwarding institution: 00000000000"
    )
    clear = iso8583.describe(message, unmasked=True)
    for value in ("999999000000000017FF", "0102030405060708", "44AA"):
        assert value in clear


def test_card_data_inside_masks_the_field_around_it():
    spec = iso8583.load_spec("iso87-mixed")
    secret = iso8583.FieldSpec(name="CVV", content="n", length=3, sensitive="cvv")
    plain = iso8583.FieldSpec(name="Plain", content="n", length=2)
    spec.fields[61] = iso8583.FieldSpec(
        name="Private",
        content="ans",
        length=99,
        prefix_digits=3,
        inside=iso8583.Positional(fields=(plain, secret)),
    )
    message = iso8583.Codec(spec).message({"mti": "0100", 61: "42123"})
    assert iso8583.masked(message)[61] == "<private, 5 characters>"
    assert iso8583.describe(message) == (
        "MTI 0100\n"
        "   61  Private: <private, 5 characters>\n"
        "       1  Plain: 42\n"
        "       2  CVV: <cvv, 3 characters>"
    )
    assert "42123" in iso8583.describe(message, unmasked=True)


def test_a_fault_is_told_beside_what_came_before_it():
    message = CODEC.message({"mti": "0100", 55: "9C01009A0326"})
    assert iso8583.describe(message).splitlines()[2:] == [
        "       9C  Transaction type: 00",
        "       !  field 55.9A at offset 20: expected 3 bytes of data, got 1",
    ]


def test_no_card_data_is_in_the_repr_of_parts():
    message = CODEC.message({"mti": "0100", 2: "4000001234567899", 55: TLV})
    assert "4000001234567899" not in repr(message.parts())
    assert "9999990000000000" not in repr(message.parts())
    assert [part.key for part in message.parts()] == ["2", "55"]
