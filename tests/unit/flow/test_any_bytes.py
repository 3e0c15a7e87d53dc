"""Whatever a peer sends, a connection answers, drops or closes: it never raises, meets
no fault of its own, and no approval takes available funds below zero."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch.ledger import Transaction
from tests.messages import specs_of_1987
from tests.unit.link.in_memory import ACCOUNTS, CARDS, Switch, fields, original

TRACK = "9999990000000001=30122010000000000"
amounts = st.sampled_from([6_000, 10_000, 1, 0, 1_000, 999_999_999_999])
# Mostly one account, so that what is asked adds up.
cards = st.sampled_from(["active"] * 6 + ["credit", *sorted(CARDS)])
types = ["0100", "0200", "0100", "0101", "0120", "0220", "0400", "0420", "0421", "0800"]
seldom = st.sampled_from([False] * 4 + [True])


@st.composite
def messages(draw):
    """A valid one: any flow, few traces so that they repeat and name each other."""
    mti = draw(st.sampled_from(types))
    changes: dict[int, str | None] = {}
    if mti[1] != "8":
        which = st.sampled_from(["0100", "0200", "0120", "0220"])
        if mti in ("0400", "0420", "0421") or draw(seldom):
            changes[90] = original(draw(which), draw(st.integers(1, 4)))
        if draw(seldom):
            changes[95] = f"{draw(amounts):012d}" + "0" * 30
        if draw(seldom):
            changes |= {6: f"{draw(amounts):012d}", 51: "826"}
        if draw(seldom):
            changes |= {35: TRACK, 2: None}
        changes[3] = draw(st.sampled_from(["000000"] * 4 + ["200000", "310000"]))
        changes[39] = draw(st.sampled_from(["00", "05", None]))
    return fields(
        mti,
        draw(st.integers(1, 4)),
        card=draw(cards),
        amount=draw(amounts),
        changes=changes,
    )


# Nine digits or more, as text, as hexadecimal of text in either encoding, or escaped.
# Of a header that is none, four bytes are told.
NINE_DIGITS = re.compile(
    r"[0-9]{9}|(?:3[0-9]){9}|(?:f[0-9]){9}|(?:\\x[0-9a-f]{2}){5}", re.IGNORECASE
)
PIN_BLOCK, CHIP_DATA = "0F1E2D3C4B5A6978", "9F26089CBA0123456789AB"

edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "flip", "cut", "insert", "end"]),
        st.integers(0, 400),
        st.integers(0, 255),
    ),
    max_size=4,
)


def edited(data, changes):
    data = bytearray(data)
    for what, at, value in changes:
        at %= len(data) + 1
        if what == "end":
            del data[at:]
        elif what == "insert":
            data.insert(at, value)
        elif what == "cut":
            del data[at : at + 1 + value % 8]
        elif at < len(data):
            data[at] = value if what == "set" else data[at] ^ (1 << value % 8)
    return bytes(data)


class Auditor:
    """Sums up what the entries say, and knows nothing of how they came about."""

    def __init__(self, switch):
        self._switch = switch
        self._seen = 0
        self._available = {
            account: balance + limit
            for account, (_, balance, limit) in ACCOUNTS.items()
        }

    def look(self):
        entries = self._switch.entries()
        for _, entry in entries[self._seen :]:
            assert isinstance(entry, Transaction)
            taken = entry.held_change - entry.balance_change
            if entry.account:
                self._available[entry.account] -= taken
            else:
                assert taken == 0
            if entry.approved and taken > 0:
                assert self._available[entry.account] >= 0, entry.name
        self._seen = len(entries)
        for account, available in self._available.items():
            assert self._switch.account(account).available == available


@pytest.mark.parametrize("spec", specs_of_1987())
def test_no_valid_frame_is_a_fault(spec):
    @settings(max_examples=100)
    @given(st.lists(messages(), max_size=12))
    def check(asked):
        switch = Switch(spec)
        auditor = Auditor(switch)
        line = switch.connect()
        for message in asked:
            assert len(switch.ask(line, message)) == 1
            auditor.look()
        assert switch.counters.faults == 0

    check()


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(["0100", "0200", "0420"]), st.integers(1, 10_000)),
        min_size=2,
        max_size=20,
    )
)
def test_no_series_of_requests_takes_more_than_there_is(asked):
    switch = Switch()
    auditor = Auditor(switch)
    line = switch.connect()
    for stan, (mti, amount) in enumerate(asked, 1):
        changes = {90: original("0100", stan - 1)} if mti == "0420" else {}
        before = switch.account().available
        (reply,) = switch.ask(line, fields(mti, stan, amount=amount, changes=changes))
        if mti != "0420":
            assert reply[39] == ("00" if amount <= before else "51")
        auditor.look()


@pytest.mark.parametrize("spec", specs_of_1987())
def test_no_mutation_of_valid_frames_is_a_fault(spec):
    @settings(max_examples=250)
    @given(st.lists(st.tuples(messages(), edits), max_size=10))
    def check(asked):
        switch = Switch(spec, undecodable_max=1_000_000)
        auditor = Auditor(switch)
        line = switch.connect()
        for message, changes in asked:
            line.read(
                switch.framing.encode(edited(switch.codec.encode(message), changes))
            )
            switch.settle()
            auditor.look()
        assert switch.counters.faults == 0
        assert not line.connection.ending
        assert switch.counters.outstanding == 0
        assert switch.counters.replies_sent <= switch.counters.frames_received

    check()


@pytest.mark.parametrize("framing", ["binary2", "binary4", "ascii4", "bcd2"])
def test_no_mutation_of_the_stream_is_a_fault(framing):
    @settings(max_examples=100)
    @given(st.lists(messages(), max_size=10), edits, st.lists(st.integers(1, 600)))
    def check(asked, changes, sizes):
        switch = Switch(framing=framing)
        auditor = Auditor(switch)
        line = switch.connect()
        stream = edited(b"".join(map(switch.frame, asked)), changes)
        position = 0
        for size in [*sizes, len(stream)]:
            line.read(stream[position : position + size])
            position += size
            switch.settle()
            auditor.look()
        assert switch.counters.faults == 0
        assert line.connection.end_kind in (None, "framing", "undecodable")

    check()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_a_fault(data):
    switch = Switch()
    line = switch.connect()
    line.read(data)
    line.read(switch.framing.encode(data))
    switch.settle()
    assert switch.counters.faults == 0


class Lines(logging.Handler):
    """What is logged, as it comes: before anything is masked or left out."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.texts = []

    def emit(self, record):
        trace = logging.Formatter().formatException(record.exc_info or (None,) * 3)
        values = getattr(record, "switch_fields", {}).values()
        self.texts.append(" ".join([record.getMessage(), *map(str, values), trace]))


@pytest.fixture
def lines():
    log, handler = logging.getLogger("switch"), Lines()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.mark.parametrize("spec", specs_of_1987())
@pytest.mark.parametrize("in_frames", [True, False])
def test_no_bytes_bring_card_data_into_a_log_line_and_each_frame_brings_one_at_most(
    spec, in_frames, lines
):
    secrets = {35: TRACK, 52: PIN_BLOCK, 55: CHIP_DATA}

    others = st.sampled_from(
        [{}, {}, {"mti": "0110"}, {"mti": "0300"}, {"mti": "0140"}]
    )

    @settings(max_examples=60)
    @given(st.lists(st.tuples(messages(), others, edits), min_size=1, max_size=6))
    def check(asked):
        lines.texts.clear()
        switch = Switch(spec, undecodable_max=1_000_000)
        line = switch.connect()
        bodies = [
            edited(switch.codec.encode(message | secrets | other), changes)
            for message, other, changes in asked
        ]
        # Without frames, the bytes of a message are taken for headers.
        encode = switch.framing.encode if in_frames else bytes
        for body in bodies:
            line.read(encode(body))
            switch.settle()
        for text in lines.texts:
            assert not NINE_DIGITS.search(text), text
            assert PIN_BLOCK not in text.upper()
        ends = [text for text in lines.texts if text.startswith("connection closed")]
        assert len(ends) == int(line.connection.ending)
        # That of a reject says what was rejected, beside that it is dropped.
        beside = ("connection closed", "signed o", "rejected by the peer")
        refused = [text for text in lines.texts if not text.startswith(beside)]
        assert len(refused) <= line.connection.frames_received

    check()
