"""How well some bytes read as messages of one spec, and of which spec they may be.

Rule 1: whoever is right finds a message type that exists and walks the message to its
        end; often more than one spec does. What is left is settled by how much the
        fields look like what they should hold.
Rule 2: no content of a field is in a fault.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from iso8583._codec import Codec, Message
from iso8583.errors import DecodeError
from iso8583.spec import FieldSpec

__all__ = ["Reading", "looks_right", "rank", "read"]

# Points, all out of 100 for each message. Reading to the end outweighs any look.
WALKED_POINTS: Final = 60.0
MTI_POINTS: Final = 10.0
CONTENT_POINTS: Final = 30.0

# -- ISO 8583:1987 table 1, :2003 table 3: versions; 8 and 9 are national and private
MTI_VERSIONS: Final = "012"
MTI_CLASSES: Final = "12345678"
MTI_FUNCTIONS: Final = "01234"
MTI_ORIGINS: Final = "012345"

# What fields that mean the same in every specification look like.
DATE_FORMATS: Final = {7: "%m%d%H%M%S", 12: "%H%M%S", 13: "%m%d"}
CONTENT_LETTERS: Final[dict[str, Callable[[str], bool]]] = {
    "n": str.isdigit,
    "a": str.isalpha,
    "an": str.isalnum,
    "z": lambda text: all(c in "0123456789=D" for c in text),
}


class Reading(NamedTuple):
    """How well bytes read by one spec."""

    codec: Codec
    #: the mean of all messages, out of 100
    score: float
    #: the first message type that could be read
    mti: str
    #: where the first message that is not whole fails; "" when all are
    fault: str


def rank(messages: Sequence[bytes], codecs: Iterable[Codec]) -> list[Reading]:
    """The likeliest first: those that read every message whole before the others.

    Of what scores alike, specs of the message's own version win, and then the first of
    `codecs`.
    """
    readings = []
    for codec in codecs:
        each = [read(codec, message) for message in messages]
        score = sum(one.score for one in each) / max(len(each), 1)
        mti = next((one.mti for one in each if one.mti), "")
        fault = next((one.fault for one in each if one.fault), "")
        readings.append(Reading(codec, score, mti, fault))

    def key(one: Reading) -> tuple[bool, float, bool]:
        return bool(one.fault), -one.score, not one.codec.spec.versions

    return sorted(readings, key=key)


def read(codec: Codec, data: bytes) -> Reading:
    message: Message | None
    fault = ""
    try:
        message, walked = codec.decode(data), 1.0
    except DecodeError as error:
        message, fault = error.message, str(error)
        # a fault late in the message leaves something to say for it
        walked = 0.5 * min(error.offset, len(data)) / max(len(data), 1)
    points = WALKED_POINTS * walked
    if message is None:
        return Reading(codec, points, "", fault)
    if _looks_like_mti(message.mti):
        points += MTI_POINTS
    else:
        fault = fault or f"message type {message.mti} is not one of ISO 8583"
    points += CONTENT_POINTS * walked * looks_right(message)
    return Reading(codec, points, message.mti, fault)


def looks_right(message: Message) -> float:
    """The part of the fields that look like what the specification says of them."""
    looked = right = 0
    for number in message:
        field = message.codec.spec.field(number)
        looked += 1
        try:
            text = message[number]
        except DecodeError:
            continue
        right += _looks_like(number, field, text)
    # a message of no fields says nothing for or against
    return right / looked if looked else 0.5


def _looks_like(number: int, field: FieldSpec, text: str) -> bool:
    if number in DATE_FORMATS and field.content == "n":
        return _is_date(text, DATE_FORMATS[number])
    if field.encoding == "binary":
        return True
    if not text.isascii() or not text.isprintable():
        return False
    # what is padded is so on the right, with blanks
    bare = text.rstrip(" ")
    look = CONTENT_LETTERS.get(field.content)
    return look is None or not bare or look(bare)


def _is_date(text: str, layout: str) -> bool:
    if not text.isdigit() or len(text) != sum(2 for c in layout if c == "%"):
        return False
    try:
        # a leap year, for field 7 has none of its own
        datetime.datetime.strptime(f"2000{text}", f"%Y{layout}")  # noqa: DTZ007
    except ValueError:
        return False
    return True


def _looks_like_mti(mti: str) -> bool:
    places = (MTI_VERSIONS, MTI_CLASSES, MTI_FUNCTIONS, MTI_ORIGINS)
    return all(digit in place for digit, place in zip(mti, places, strict=True))
