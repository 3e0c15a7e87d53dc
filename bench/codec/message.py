"""The message that codecs are timed with: an authorisation request as a terminal with a
chip sends it. It imports no codec: in a rival's environment `iso8583` is the rival."""

SPEC = "iso87-mixed"

# 130 bytes in 19 tags.
CHIP = {
    "5F2A": "0840",
    "5F34": "01",
    "82": "5800",
    "84": "A0000000041010",
    "95": "0000000000",
    "9A": "261124",
    "9C": "00",
    "9F02": "000000001500",
    "9F03": "000000000000",
    "9F09": "0002",
    "9F10": "0110A0000F040000000000FF",
    "9F1A": "0840",
    "9F1E": "3132333435363738",
    "9F26": "42215634A0B2C4A7",
    "9F27": "80",
    "9F33": "E0E8E8",
    "9F34": "440300",
    "9F36": "021D",
    "9F37": "13D46EBF",
}


def chip_data() -> str:
    """In hex, as every codec takes it. No tag has more than 127 bytes."""
    return "".join(f"{tag}{len(v) // 2:02X}{v}" for tag, v in CHIP.items())


MTI = "0100"
FIELDS = {
    2: "4000001234567899",
    3: "000000",
    4: "000000001500",
    7: "1207233149",
    11: "000017",
    12: "233149",
    13: "1207",
    14: "3012",
    18: "5499",
    22: "051",
    23: "000",
    25: "00",
    32: "012345",
    35: "4000001234567899=30122011234567890",
    37: "085000100003",
    41: "TERM0001",
    42: "MERCHANT0000001",
    43: "FIRST THIRD BANK       ST LOUIS     MOUS",
    49: "840",
    55: chip_data(),
}
READ = (2, 3, 4, 11, 41, 49)
CHANGED = "999999"  # of field 11


def request() -> dict[int | str, str]:
    """As our codec has it."""
    fields: dict[int | str, str] = {"mti": MTI}
    fields.update(FIELDS.items())
    return fields


def document() -> dict[str, str]:
    """As pyiso8583 has it."""
    return {"t": MTI, **{str(number): value for number, value in FIELDS.items()}}
