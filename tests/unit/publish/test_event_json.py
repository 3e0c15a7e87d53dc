"""The JSON that is written without an `Event` is that of the `Event`."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.ledger import KIND_NAMES, Transaction
from switch.ledger._entry import decode_entries
from switch.publish._event_json import event_json
from switch.publish.events import event_of
from tests.unit.small_bank import ask_everything, opened_bank

# See TransactionBody.
BODY = struct.Struct("<16sII5qQ" + 2 * "QQIHB" + "I3HB2s4s12s8s3B")
HEADER = struct.Struct("<BBHq")
TRANSACTIONS = range(3, 13)

u8, u16 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1)
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
# Years that a date has.
times = st.integers(0, 253_402_300_799_999)
# Each decimal digit is four bits.
mtis = st.integers(0, 9999).map(lambda number: int(f"{number:04d}", 16))
fields_7 = st.one_of(st.integers(0, 10**10 - 1), st.just(1_124_230_646))
traces = st.tuples(fields_7, u64, st.integers(0, 999_999), mtis, u8)


def filled(size: int) -> st.SearchStrategy[bytes]:
    """Of any bytes, with and without fill."""
    texts = st.binary(max_size=size)
    return st.one_of(st.binary(min_size=size, max_size=size), texts).map(
        lambda data: data.ljust(size)
    )


@st.composite
def packed(draw: st.DrawFn) -> bytes:
    texts = [draw(st.binary(max_size=size)) for size in (32, 15, 40)]
    body = BODY.pack(
        draw(st.one_of(st.just(bytes(16)), st.binary(min_size=16, max_size=16))),
        *(draw(u32), draw(u32)),
        *(draw(i64) for _ in range(4)),
        draw(st.one_of(st.just(0), times)),
        draw(u64),
        *draw(traces),
        *draw(traces),
        draw(u32),
        *(draw(u16) for _ in range(3)),
        draw(u8),
        *(draw(filled(size)) for size in (2, 4, 12, 8)),
        *map(len, texts),
    )
    size = HEADER.size + BODY.size + sum(map(len, texts))
    kind = draw(st.sampled_from(TRANSACTIONS))
    return HEADER.pack(kind, 1, size, draw(times)) + body + b"".join(texts)


def check(entry: Transaction, shard: int, commit: int) -> None:
    event = event_of(entry, shard, commit)
    assert event_json(entry, shard, commit) == msgspec.json.encode(event)


@given(packed(), st.integers(0, 65_535), u64, u64)
def test_whatever_a_transaction_says(data, shard, sequence, commit):
    (entry,) = decode_entries(data, sequence)
    assert isinstance(entry, Transaction)
    check(entry, shard, commit)


def test_every_byte_that_a_text_may_have():
    texts = [bytes(range(first, first + 32)) for first in range(0, 256, 32)]
    for text in texts:
        body = BODY.pack(
            *(b"", 0, 0, 0, 0, 0, 0, 0, 0),
            *(0, 0, 0, 0, 0) * 2,
            *(0, 0, 0, 0, 0, b"", b"", b"", b""),
            *(len(text), 0, len(text)),
        )
        size = HEADER.size + BODY.size + 2 * len(text)
        data = HEADER.pack(3, 1, size, 0) + body + 2 * text
        (entry,) = decode_entries(data, 1)
        assert isinstance(entry, Transaction)
        check(entry, 0, 1)


@pytest.mark.parametrize("kind", [KIND_NAMES[number] for number in TRANSACTIONS])
def test_every_kind_of_transaction(kind):
    bank = opened_bank()
    ask_everything(bank)
    found = [
        (shard, entry)
        for shard, entry in bank.entries
        if isinstance(entry, Transaction) and entry.name == kind
    ]
    assert found
    for shard, entry in found:
        check(entry, shard, 7)
