"""What is inside a field: one tag of chip data, all of it, and one changed.

    pytest bench/micro/test_inside.py --benchmark-group-by=group

The chip data is 130 bytes in 19 tags, as a terminal sends it for an authorisation. The
messages are decoded before: what is measured is what comes on top of that, but for the
last group, which has a decode in it to show what it adds.
"""

from collections.abc import Callable
from typing import Any

import pytest

import iso8583
from bench.codec.message import CHIP

CODEC = iso8583.Codec(iso8583.load_spec("mastercard-cis"))
DATA = CODEC.encode({"mti": "0100", 11: "000017", 48: "R6105100009203123", 55: CHIP})
MESSAGE = CODEC.decode(DATA)


def change_and_encode():
    message = MESSAGE.copy()
    message["55.9F36"] = "021E"
    return CODEC.encode(message)


def test_the_message_is_what_it_is_said_to_be():
    assert len(MESSAGE[55]) == 2 * 130
    assert MESSAGE.to_dict(inside=True)[55] == CHIP
    assert CODEC.decode(change_and_encode())["55.9F36"] == "021E"


CASES: dict[str, dict[str, Callable[[], Any]]] = {
    "read": {
        "55.9F26": lambda: MESSAGE["55.9F26"],
        "55.9F37, the last": lambda: MESSAGE["55.9F37"],
        "48.61.1": lambda: MESSAGE["48.61.1"],
        "55, whole": lambda: MESSAGE[55],
    },
    "all of it": {
        "to a dict": lambda: MESSAGE.to_dict(inside=True),
        "checked": MESSAGE.validate,
    },
    "change a tag": {"55.9F36": change_and_encode},
    "decode": {
        "nothing inside": lambda: CODEC.decode(DATA),
        "and 55.9F26": lambda: CODEC.decode(DATA)["55.9F26"],
    },
}


@pytest.mark.parametrize(
    ("purpose", "what"),
    [(purpose, what) for purpose, cases in CASES.items() for what in cases],
)
def test_cost(benchmark, purpose, what):
    benchmark.group = purpose
    benchmark(CASES[purpose][what])
