"""The codec beside pyiso8583, on one message, in one process.

    pytest bench/micro/test_codec.py --benchmark-group-by=group

The message is an authorisation request of 20 fields with 130 bytes of chip data, in
ASCII with binary bitmaps and binary chip data: `iso87-mixed`, which is pyiso8583's
`specs.default`. pyiso8583 decodes everything at once; its row stands in each group
for what a program that uses it has to do for the same purpose. In the groups called
iso8583.decode and iso8583.encode, both are called by pyiso8583's interface.
"""

import importlib.util
from types import ModuleType

import pytest

import iso8583
from bench.codec import message
from tests.properties.codec_reference import installed

CODEC = iso8583.Codec(iso8583.load_spec(message.SPEC))
FIELDS = message.request()
DATA = CODEC.encode(FIELDS)
ECHOED = (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49)


def pyiso8583_module(name: str) -> ModuleType:
    """One of pyiso8583's modules by its file: the package has our import name."""
    found = importlib.util.spec_from_file_location(
        f"pyiso8583_{name}", installed() / "iso8583" / f"{name}.py"
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


their_decode = pyiso8583_module("decoder").decode
their_encode = pyiso8583_module("encoder").encode
their_spec = pyiso8583_module("specs").default
OWN_SPEC = iso8583.specs.default
THEIR_FIELDS = message.document()


def theirs_change_and_encode():
    fields, _ = their_decode(DATA, their_spec)
    fields["11"] = message.CHANGED
    return bytes(their_encode(fields, their_spec)[0])


def theirs_reply():
    fields, _ = their_decode(DATA, their_spec)
    reply = {str(key): fields[str(key)] for key in ECHOED if str(key) in fields}
    reply |= {"t": "0110", "38": "A1B2C3", "39": "00"}
    return bytes(their_encode(reply, their_spec)[0])


def ours_read():
    decoded = CODEC.decode(DATA)
    return decoded.mti, [decoded[field] for field in message.READ]


def ours_change_and_encode():
    decoded = CODEC.decode(DATA)
    decoded[11] = message.CHANGED
    return CODEC.encode(decoded)


TEMPLATE = iso8583.ReplyTemplate(CODEC, "0110", ECHOED)


def ours_reply():
    return TEMPLATE.build(CODEC.decode(DATA), "00", "A1B2C3")


def test_both_do_the_same():
    document, _ = their_decode(DATA, their_spec)
    del document["p"]
    assert document == THEIR_FIELDS
    assert bytes(their_encode(dict(THEIR_FIELDS), their_spec)[0]) == DATA
    assert ours_change_and_encode() == theirs_change_and_encode()
    assert ours_reply() == theirs_reply()
    assert iso8583.decode(DATA, OWN_SPEC) == their_decode(DATA, their_spec)
    own, theirs = dict(THEIR_FIELDS), dict(THEIR_FIELDS)
    assert iso8583.encode(own, OWN_SPEC) == their_encode(theirs, their_spec)
    assert own == theirs


CASES = {
    "decode": {
        "ours": lambda: CODEC.decode(DATA),
        "pyiso8583": lambda: their_decode(DATA, their_spec),
    },
    "decode, MTI and 6 fields": {
        "ours": ours_read,
        "pyiso8583": lambda: their_decode(DATA, their_spec),
    },
    "decode to a dict": {
        "ours": lambda: CODEC.decode(DATA).to_dict(),
        "pyiso8583": lambda: their_decode(DATA, their_spec),
    },
    "encode from a dict": {
        "ours": lambda: CODEC.encode(FIELDS),
        "pyiso8583": lambda: their_encode(THEIR_FIELDS, their_spec),
    },
    "decode, change field 11, encode": {
        "ours": ours_change_and_encode,
        "pyiso8583": theirs_change_and_encode,
    },
    "iso8583.decode": {
        "ours": lambda: iso8583.decode(DATA, OWN_SPEC),
        "pyiso8583": lambda: their_decode(DATA, their_spec),
    },
    "iso8583.encode": {
        "ours": lambda: iso8583.encode(THEIR_FIELDS, OWN_SPEC),
        "pyiso8583": lambda: their_encode(THEIR_FIELDS, their_spec),
    },
    "decode, reply": {"ours": ours_reply, "pyiso8583": theirs_reply},
}


@pytest.mark.parametrize(
    ("purpose", "codec"),
    [(purpose, codec) for purpose, codecs in CASES.items() for codec in codecs],
)
def test_cost(benchmark, purpose, codec):
    benchmark.group = purpose
    benchmark(CASES[purpose][codec])
