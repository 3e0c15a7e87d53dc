"""The invariants of TCP reassembly:

- however a stream was cut into segments, sent again and put out of order, the same
  frames come out, each once and in order;
- whatever segments are missing, each byte that is not missing comes out at most once
  and in its place, and where bytes are missing the next chunk says so.
"""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from switch.link._framing import FRAMING_NAMES, Framing
from switch.replay.captures.chunks import Chunk, ReadOptions
from switch.replay.captures.cutting import segment_frames
from switch.replay.captures.streams import COUNT, HELD_SIZE_MAX, Segment, Streams

SCHEME, SWITCH = (b"\x0a\0\0\1", 40_000), (b"\x0a\0\0\2", 8583)

sequences = st.one_of(
    st.integers(0, COUNT - 1), st.integers(COUNT - 200, COUNT - 1), st.just(0)
)


@st.composite
def segments_of(draw, stream: bytes, first: int, *, to_switch: bool) -> list[Segment]:
    """Pieces that cover the stream, some of it more than once, in any order."""
    size = len(stream)
    cuts = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=12))})
    pieces = list(itertools.pairwise(cuts))
    more = st.tuples(st.integers(0, size), st.integers(0, size))
    pieces += [
        (start, end) for start, end in draw(st.lists(more, max_size=5)) if start < end
    ]
    ends = (SCHEME, SWITCH) if to_switch else (SWITCH, SCHEME)
    return [
        Segment(
            place=f"{start}",
            time_s=0.0,
            source=ends[0],
            target=ends[1],
            sequence=(first + start) % COUNT,
            data=stream[start:end],
            ack=True,
        )
        for start, end in draw(st.permutations(pieces))
    ]


def syn(first: int, *, to_switch: bool) -> Segment:
    ends = (SCHEME, SWITCH) if to_switch else (SWITCH, SCHEME)
    return Segment(
        place="syn",
        time_s=0.0,
        source=ends[0],
        target=ends[1],
        sequence=(first - 1) % COUNT,
        data=b"",
        syn=True,
        ack=not to_switch,
    )


def chunks_of(segments: list[Segment]) -> list[Chunk]:
    streams = Streams(ReadOptions())
    chunks = [chunk for segment in segments for chunk in streams.add(segment)]
    return chunks + list(streams.end())


@given(st.data())
def test_any_order_of_segments_gives_the_same_frames(data):
    framing = Framing(data.draw(st.sampled_from(FRAMING_NAMES)))
    lists = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
    asked, answered = data.draw(lists), data.draw(lists)
    segments = []
    first: dict[bool, int] = {}
    for to_switch, sent in ((True, asked), (False, answered)):
        stream = b"".join(map(framing.encode, sent))
        first[to_switch] = data.draw(sequences)
        segments += data.draw(
            segments_of(stream, first[to_switch], to_switch=to_switch)
        )
    segments = data.draw(st.permutations(segments))
    opened = [syn(first[is_to], to_switch=is_to) for is_to in (True, False)]
    notes: Counter[str] = Counter()
    frames = list(segment_frames(chunks_of(opened + segments), framing, notes))
    assert [frame.body for frame in frames if frame.to_switch] == asked
    assert [frame.body for frame in frames if not frame.to_switch] == answered
    assert not notes


@given(st.data(), sequences)
def test_what_is_missing_moves_nothing_else(data, first):
    # each byte says its own place
    stream = bytes(range(data.draw(st.integers(1, 256))))
    segments = data.draw(segments_of(stream, first, to_switch=True))
    kept = [segment for segment in segments if data.draw(st.booleans())]
    chunks = chunks_of([syn(first, to_switch=True), *kept])
    expected = sorted({byte for segment in kept for byte in segment.data})
    assert list(b"".join(chunk.data for chunk in chunks)) == expected
    end = 0
    for chunk in chunks:
        assert chunk.is_after_gap == (chunk.data[0] != end)
        assert chunk.data == stream[chunk.data[0] : chunk.data[0] + len(chunk.data)]
        end = chunk.data[-1] + 1


def test_no_more_is_held_behind_a_hole_than_the_bound():
    streams = Streams(ReadOptions())
    list(streams.add(syn(0, to_switch=True)))
    size = 32_768
    given_out = held = 0
    for index in range(1, 200):
        segment = Segment(
            place="",
            time_s=0.0,
            source=SCHEME,
            target=SWITCH,
            sequence=index * size,
            data=bytes(size),
        )
        given_out += sum(len(chunk.data) for chunk in streams.add(segment))
        held = index * size - given_out
        assert held <= HELD_SIZE_MAX
    assert given_out == 199 * size
