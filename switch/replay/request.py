"""Authorisation requests, encoded once by the codec and then filled in.

Where a field's digits are in the encoded bytes is not computed but asked: the codec
encodes the same message with the field all zeros and all ones, and the half bytes that
differ are its digits, in ASCII, EBCDIC and packed BCD alike. So any specification
works, and this file knows none of them.
"""

import datetime
import itertools
import random
from typing import Final

import msgspec

from iso8583 import Codec, ReplyTemplate
from iso8583.dialect import STANDARD, Function, NetworkCodes
from switch.link._framing import Framing
from switch.replay.compose import ENTRY_MODE_FIELD, filled
from switch.replay.errors import RequestError

# the digits that differ from request to request: name, field, number of digits
VARIED_FIELDS: Final = (
    ("amount", 4, 12),
    ("transmitted", 7, 10),
    ("stan", 11, 6),
    ("local_time", 12, 6),
    ("local_date", 13, 4),
    ("expiry", 14, 4),
    ("rrn", 37, 12),
)
PAN_FIELD: Final = 2
PAN_SIZE_MIN: Final = 12
PAN_SIZE_MAX: Final = 19
ACQUIRER: Final = "123456"
APPROVED_CODE: Final = "00"
# the fields of a network management request that its reply echoes
ECHOED_FIELDS: Final = (2, 7, 11, 12, 13, 24, 32, 33, 37, 48, 63, 70, 93, 94, 100)

# first half byte, half bytes from digit to digit, digits
Place = tuple[int, int, int]


class Station(msgspec.Struct, frozen=True):
    """What a message of ours has beside its fields: the scheme's codes for network
    management, and the parts of the header that are not as the specification has them.
    """

    network: NetworkCodes = STANDARD.network
    header: dict[str, str] = {}


STANDARD_STATION: Final = Station()


class RequestTemplate(msgspec.Struct, frozen=True):
    """A whole frame, and where its varied digits are."""

    frame: bytes
    places: dict[str, Place]


def purchase_fields(pan: str, currency: str) -> dict[int, str]:
    """A purchase at a shop; the varied fields hold zeros."""
    fields = {
        PAN_FIELD: pan,
        3: "000000",
        18: "5411",
        ENTRY_MODE_FIELD: "051",
        25: "00",
        32: ACQUIRER,
        41: "TERM0001",
        42: "MERCHANT0000001",
        43: f"{'Corner shop':<25}{'Lisboa':<13}PT",
        49: currency,
    }
    fields.update({number: "0" * size for _, number, size in VARIED_FIELDS})
    return dict(sorted(fields.items()))


def encode(codec: Codec, mti: str, fields: dict[int, str]) -> bytes:
    message: dict[int | str, str] = {"mti": mti}
    message.update(fields.items())
    if ENTRY_MODE_FIELD in fields and ENTRY_MODE_FIELD in codec.spec.fields:
        message[ENTRY_MODE_FIELD] = filled(
            codec, ENTRY_MODE_FIELD, fields[ENTRY_MODE_FIELD]
        )
    return codec.encode(message)


def make_template(
    codec: Codec, framing: Framing, pan_size: int, currency: str
) -> RequestTemplate:
    fields = purchase_fields("0" * pan_size, currency)
    header_size = framing.header_size
    varied = (("pan", PAN_FIELD, pan_size), *VARIED_FIELDS)
    try:
        places = {
            name: find_place(codec, fields, number, size, header_size)
            for name, number, size in varied
        }
        template = RequestTemplate(
            frame=framing.encode(encode(codec, "0100", fields)), places=places
        )
    except ValueError as error:
        raise RequestError(
            f"request with a PAN of {pan_size} digits: {error}"
        ) from error
    _prove(codec, template, fields, varied, header_size)
    return template


def find_place(
    codec: Codec, fields: dict[int, str], number: int, size: int, header_size: int
) -> Place:
    zeros = encode(codec, "0100", {**fields, number: "0" * size})
    ones = encode(codec, "0100", {**fields, number: "1" * size})
    differing = [
        2 * (header_size + index) + half
        for index, (zero, one) in enumerate(zip(zeros, ones, strict=True))
        for half, mask in ((0, 0xF0), (1, 0x0F))
        if (zero ^ one) & mask
    ]
    if len(differing) == size:
        steps = {b - a for a, b in itertools.pairwise(differing)}
        if len(steps) <= 1 and steps <= {1, 2}:
            return differing[0], steps.pop() if steps else 2, size
    raise RequestError(
        f"field {number}: expected {size} digits, one or half a byte each, "
        f"got {len(differing)} half bytes that change with them"
    )


def fill(frame: bytes, values: dict[str, str], places: dict[str, Place]) -> bytes:
    """What the native loop does, in Python: for the proof."""
    filled = bytearray(frame)
    for name, digits in values.items():
        first, stride, _ = places[name]
        for index, digit in enumerate(digits):
            at = first + index * stride
            if at & 1:
                filled[at >> 1] = filled[at >> 1] & 0xF0 | int(digit)
            else:
                filled[at >> 1] = filled[at >> 1] & 0x0F | int(digit) << 4
    return bytes(filled)


def _prove(
    codec: Codec,
    template: RequestTemplate,
    fields: dict[int, str],
    varied: tuple[tuple[str, int, int], ...],
    header_size: int,
) -> None:
    # Pair check: filling the template in must give what the codec encodes.
    draw = random.Random(8583)
    digits = {
        name: "".join(draw.choices("0123456789", k=size)) for name, _, size in varied
    }
    by_number = {number: digits[name] for name, number, _ in varied}
    expected = encode(codec, "0100", {**fields, **by_number})
    got = fill(template.frame, digits, template.places)[header_size:]
    if got != expected:
        raise RequestError(
            "request: expected the filled template to be what the codec encodes"
        )


def network_fields(station: Station, stan: int, function: Function) -> dict[int, str]:
    now = datetime.datetime.now(datetime.UTC)
    code = station.network.functions[function].send
    return {7: now.strftime("%m%d%H%M%S"), 11: f"{stan:06d}", 70: code}


def network_request(
    codec: Codec, station: Station, stan: int, function: Function
) -> bytes:
    """A network management request (0800), encoded."""
    header = {"header": station.header} if station.header else {}
    fields = network_fields(station, stan, function)
    return codec.encode({"mti": "0800", **header, **fields})


def network_reply(codec: Codec, mti: str = "0810") -> ReplyTemplate:
    """The answer to the other side's network management requests."""
    echoed = [number for number in ECHOED_FIELDS if number in codec.spec.fields]
    return ReplyTemplate(codec, mti, echoed)
