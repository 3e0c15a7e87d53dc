"""Any message of a shipped specification, of a type that exists, in any framing, is
guessed as what it is or as its twin, or the guess names that among those that would do
as well. Any bytes get some guess."""

from hypothesis import given, settings
from hypothesis import strategies as st

from switch.link.guess import TWINS, all_framings, framing_text, guess
from tests.properties.codec_messages import CODECS, codecs_and_messages

FRAMINGS = all_framings()


@settings(max_examples=60)
@given(
    codecs_and_messages(),
    st.from_regex("[012][1-8][0-4][0-5]", fullmatch=True),
    st.sampled_from(FRAMINGS),
)
def test_the_truth_is_the_guess_or_named_beside_it(codec_and_fields, mti, framing):
    codec, fields = codec_and_fields
    version = codec.spec.version_digits
    if int(mti[0]) not in version:
        mti = f"{version[0]}{mti[1:]}"
    body = codec.encode({**fields, "mti": mti})
    record = body if framing is None else framing.encode(body)
    found = guess([record], CODECS.values(), FRAMINGS)
    name = codec.spec.name
    truths = {(one, framing_text(framing)) for one in (name, TWINS.get(name, name))}
    named = [
        (candidate.spec, candidate.framing_name)
        for candidate in (found.best, *found.ambiguous)
    ]
    assert truths & set(named)
    assert found.best.whole


@settings(max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=4))
def test_any_bytes_get_a_guess_that_says_why(records):
    found = guess(records, CODECS.values(), FRAMINGS)
    assert found.why()
    assert found.best.whole or found.best.fault
    assert all(other.whole for other in found.ambiguous)
