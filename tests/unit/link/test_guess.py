import itertools

import pytest

import iso8583
from switch.link._framing import FRAMING_NAMES, Framing
from switch.link.errors import NoFramesError
from switch.link.guess import (
    TWINS,
    all_framings,
    cut,
    framing_text,
    guess,
    shipped_specs,
)
from tests.messages import specs_of_1987

CODECS = [
    iso8583.Codec(iso8583.load_spec(name))
    for name in shipped_specs()
    if name in specs_of_1987()
]
FRAMINGS = all_framings()
PAIRS = list(itertools.product(CODECS, FRAMINGS))
PURCHASE = {
    "mti": "0100",
    2: "9999990000000014",
    3: "000000",
    4: "000000001500",
    7: "1124120000",
    11: "000017",
    37: "000000000017",
    39: "00",
    49: "978",
}
MESSAGES = {
    "purchase": PURCHASE,
    "answer": {**PURCHASE, "mti": "0110", 38: "123456"},
    "reversal": {**PURCHASE, "mti": "0420", 90: "0" * 42},
    "echo": {"mti": "0800", 7: "1124120000", 11: "000001", 70: "301"},
}


def name_of(pair):
    codec, framing = pair
    return f"{codec.spec.name} {framing_text(framing)}"


def codec_of(name, lengths, content="n"):
    """In ASCII, with fields of one kind."""
    return iso8583.Codec(
        iso8583.Spec(
            name=name,
            mti="ascii",
            bitmap="hex",
            prefix_encoding="ascii",
            encodings={content: "ascii"},
            fields={
                number: iso8583.FieldSpec(name="", content=content, length=length)
                for number, length in lengths.items()
            },
        )
    )


def frame(codec, framing, fields) -> bytes:
    body: bytes = codec.encode(fields)
    return body if framing is None else bytes(framing.encode(body))


def is_of(candidate, codec, framing) -> bool:
    return (candidate.spec, candidate.framing_name) == (
        codec.spec.name,
        framing_text(framing),
    )


@pytest.mark.parametrize("fields", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_every_spec_in_every_framing_is_guessed(pair, fields):
    codec, framing = pair
    found = guess([frame(codec, framing, fields)], CODECS, FRAMINGS)
    told = TWINS.get(codec.spec.name, codec.spec.name)
    assert (found.best.spec, found.best.framing_name) == (told, framing_text(framing))
    assert found.ambiguous == ()
    assert f"spec {told}: " in found.why()
    assert "all fields walked to the end; next best" in found.why()


@pytest.mark.parametrize("name", FRAMING_NAMES)
def test_a_stream_of_frames_is_cut(name):
    framing = Framing(name)
    data = b"".join(frame(CODECS[0], framing, each) for each in MESSAGES.values())
    found = guess([data], CODECS, FRAMINGS)
    assert is_of(found.best, CODECS[0], framing)
    assert len(cut(data, framing)) == len(MESSAGES)
    assert cut(data[:-1], framing) == []


def test_one_broken_record_does_not_change_the_guess():
    codec, framing = CODECS[0], Framing("binary2")
    records = [frame(codec, framing, each) for each in MESSAGES.values()]
    found = guess([*records, records[0][:-3]], CODECS, FRAMINGS)
    assert is_of(found.best, codec, framing)
    assert not found.best.whole
    assert found.best.fault == "expected whole binary2 frames"


def test_what_two_specs_read_is_ambiguous():
    """Specifications that differ in what the message does not have."""
    other = codec_of("twin", {7: 10, 11: 6, 70: 3})
    codecs = [codec for codec in CODECS if codec.spec.name == "iso87-ascii"]
    found = guess([codecs[0].encode(MESSAGES["echo"])], [*codecs, other], FRAMINGS)
    assert found.best.spec == "iso87-ascii"
    assert [candidate.spec for candidate in found.ambiguous] == ["twin"]
    assert "ambiguous: twin, framing none would do as well" in found.why()


def test_looks_decide_between_those_that_read_everything():
    """The same bytes, of which one specification says that they are digits."""
    codecs = [codec_of("digits", {11: 6}), codec_of("free", {11: 6}, content="ans")]
    data = codecs[1].encode({"mti": "0800", 11: "A-B-C!"})
    found = guess([data], codecs, [None])
    assert found.best.spec == "free"
    assert [candidate.spec for candidate in found.ambiguous] == ["digits"]


def test_nothing_is_guessed_of_nothing():
    with pytest.raises(NoFramesError, match="got records of no bytes"):
        guess([], CODECS, FRAMINGS)
    said = "expected whole binary2 or ascii4 frames, got records of 3 bytes"
    with pytest.raises(NoFramesError, match=said):
        guess([b"abc"], CODECS, [Framing("binary2"), Framing("ascii4")])


def test_a_message_type_that_does_not_exist_is_told():
    found = guess([CODECS[0].encode({"mti": "0028", 11: "000001"})], CODECS, [None])
    assert not found.best.whole
    assert found.best.fault == "message type 0028 is not one of ISO 8583"


def test_no_field_is_in_a_reason():
    body = CODECS[0].encode({"mti": "0100", 2: "9999990000000014", 39: "00"})
    for size in range(5, len(body)):
        found = guess([body[:size]], CODECS, FRAMINGS)
        assert "99999900" not in found.why()
        assert "0014" not in repr(found)


def test_what_only_the_twin_reads_is_of_the_twin():
    codec = next(codec for codec in CODECS if codec.spec.name == "postilion")
    fields = {**PURCHASE, 127: {"2": "key", "25": {"2": "000000001500"}}}
    assert guess([codec.encode(fields)], CODECS, FRAMINGS).best.spec == "postilion"
