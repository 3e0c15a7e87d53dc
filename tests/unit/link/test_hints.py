"""What is said of bytes that are not what a link expects."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import iso8583
from switch.link._framing import Framing
from switch.link.guess import TWINS, all_framings, framing_text
from switch.link.hints import Hints
from tests.messages import specs_of_1987
from tests.unit.link.in_memory import Switch, fields

TPDU = bytes.fromhex("6000010002")
CODECS = {name: iso8583.Codec(iso8583.load_spec(name)) for name in specs_of_1987()}
FRAMINGS = [framing for framing in all_framings() if framing is not None]
PAN = "9999990000000014"
PURCHASE = {
    "mti": "0100",
    2: PAN,
    3: "000000",
    4: "000000001500",
    7: "1124120000",
    11: "000017",
    37: "000000000017",
    49: "978",
}
HELLO = bytes.fromhex("160301020001") + bytes(range(100))


def hint_of(data, spec="iso87-ascii", framing="binary2", *, tpdu=False):
    return Hints(CODECS[spec], Framing(framing), tpdu=tpdu)(data)


def stream(spec, framing, tpdu=b""):
    return 2 * framing.encode(tpdu + CODECS[spec].encode(PURCHASE))


@pytest.mark.parametrize("ours", FRAMINGS, ids=framing_text)
@pytest.mark.parametrize("theirs", FRAMINGS, ids=framing_text)
def test_another_framing_is_named(ours, theirs):
    hints = Hints(CODECS["iso87-binary"], ours, tpdu=False)
    expected = f"this looks like {framing_text(theirs)}" if ours != theirs else ""
    assert hints(stream("iso87-binary", theirs)) == expected
    # What is torn off at its end is still known by what is whole.
    assert hints(stream("iso87-binary", theirs)[:-3]) == expected


@pytest.mark.parametrize(
    ("ours", "theirs"), list(itertools.permutations(CODECS, 2)), ids=lambda name: name
)
def test_another_specification_is_named(ours, theirs):
    told = TWINS.get(theirs, theirs)
    is_read = TWINS.get(ours, ours) == told
    data = stream(theirs, Framing("binary2"))
    assert hint_of(data, ours) == ("" if is_read else f"this looks like spec {told}")
    other = stream(theirs, Framing("ascii4"))
    said = "this looks like ascii4"
    assert hint_of(other, ours) == (said if is_read else f"{said}, spec {told}")


@pytest.mark.parametrize("framing", FRAMINGS, ids=framing_text)
def test_a_tpdu_too_much_and_a_tpdu_too_little(framing):
    with_one = stream("iso87-binary", framing, TPDU)
    without = stream("iso87-binary", framing)
    said = "" if framing is FRAMINGS[0] else f"{framing_text(framing)}, "
    assert framing_text(FRAMINGS[0]) == "binary2"
    assert hint_of(with_one, "iso87-binary") == (
        f"this looks like {said}a TPDU before each message"
    )
    assert hint_of(without, "iso87-binary", tpdu=True) == (
        f"this looks like {said}no TPDU"
    )


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (HELLO, "these are TLS bytes: this port is plain"),
        (b"GET / HTTP/1.1\r\n\r\n", "this is an HTTP request"),
        (b"POST /api HTTP/1.0\r\n", "this is an HTTP request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "this is an HTTP request"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "this is SSH"),
        (b"PROXY TCP4 192.0.2.1 ", "this is a header of the PROXY protocol"),
        (b"\r\n\r\n\0\r\nQUIT\n!\x11", "this is a header of the PROXY protocol"),
    ],
)
def test_other_protocols_are_named(data, hint):
    assert hint_of(data) == hint


@given(st.binary(max_size=300))
def test_any_bytes_get_a_hint_or_none(data):
    hint = hint_of(data)
    assert len(hint) < 100


@pytest.mark.parametrize("size", range(60))
def test_a_message_that_is_broken_off_looks_like_nothing(size):
    body = CODECS["iso87-ascii"].encode(PURCHASE)[: size + 20]
    assert hint_of(Framing("ascii4").encode(body)) == ""


# --- on a connection


@pytest.fixture
def said(caplog):
    """The fields of every line of one event."""

    def said(event):
        return [r.switch_fields for r in caplog.records if r.message == event]

    caplog.set_level("INFO", "switch.link")
    return said


def test_the_end_of_a_connection_says_it(said):
    switch = Switch()
    line = switch.connect()
    line.receive(stream("iso87-ascii", Framing("ascii4")))
    switch.turn()
    (closed,) = said("connection closed")
    assert (closed["kind"], closed["hint"]) == ("framing", "this looks like ascii4")
    assert PAN not in str(closed)


@pytest.mark.parametrize("cut", [1, 3, 40])
def test_tls_is_not_waited_for(said, cut):
    """Its first bytes would pass for the length of a long frame."""
    switch = Switch()
    line = switch.connect()
    line.receive(HELLO[:cut])
    line.receive(HELLO[cut:])
    switch.turn()
    (closed,) = said("connection closed")
    assert closed["kind"] == "framing"
    assert closed["reason"] == (
        "binary2 frame at offset 0: expected a frame, got a TLS ClientHello"
    )
    if cut < 6:
        assert closed["hint"] == "these are TLS bytes: this port is plain"


def test_a_message_of_another_specification_says_it_before_the_end(said):
    switch = Switch("iso87-binary")
    line = switch.connect()
    line.receive(stream("iso87-ascii", Framing("binary2")))
    dropped = said("frame dropped: no message of this spec")
    assert [each["hint"] for each in dropped] == [
        "this looks like spec iso87-ascii"
    ] * 2
    assert not line.connection.ending


def test_a_length_that_counts_itself_says_it_with_the_answer(said):
    """The message is cut short by what its length counts too much."""
    switch = Switch(inclusive=True)
    line = switch.connect()
    line.receive(stream("iso87-ascii", Framing("binary2")))
    (answered,) = said("malformed request answered 30")
    assert answered["hint"] == "this looks like binary2"


def test_one_look_a_second_for_a_link(said):
    switch = Switch()
    data = stream("iso87-ascii", Framing("ascii4"))
    hints = []
    for seconds in (0, 0.5, 0.5, 0):
        switch.loop.advance(seconds)
        line = switch.connect()
        line.receive(data)
        hints.append(line.connection.hint)
    assert hints == ["this looks like ascii4", "", "this looks like ascii4", ""]


def test_a_link_that_is_spoken_to_as_it_expects_never_looks(monkeypatch):
    looked: list[bytes] = []
    monkeypatch.setattr(
        "tests.unit.link.in_memory.Hints", lambda *_, **__: looked.append
    )
    switch = Switch()
    line = switch.connect()
    assert [r[39] for r in switch.ask(line, *(fields(stan=n) for n in range(9)))]
    line.send(fields("0110", 1), fields("0800", 2))
    assert looked == []
    line.receive(switch.framing.encode(b"?"))
    assert len(looked) == 1
