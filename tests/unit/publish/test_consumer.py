"""A consumer has each event once, whatever was sent again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.publish.consumer import Marks, event_id_of


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40),
    st.lists(st.floats(0, 1), max_size=6),
)
def test_whatever_is_sent_again_is_taken_once_and_nothing_is_missed(entries, rewinds):
    """Entries of some shards fall into some partitions. The publisher goes on until it
    fails, and begins again somewhere before."""
    numbers: dict[int, int] = {}
    sent = []
    for shard, partition in entries:
        numbers[shard] = numbers.get(shard, 0) + 1
        sent.append((partition, f"{shard}-{numbers[shard]}"))
    seen, begin = list(sent), 0
    for rewind in rewinds:
        begin = int(rewind * len(sent))
        seen += sent[begin:]
    marks, taken = Marks(), []
    for index, (partition, event_id) in enumerate(seen):
        if index % 7 == 3:
            marks = Marks(marks.dump())  # as from where the effects are kept
        if marks.take("postings", partition, event_id):
            taken.append((partition, event_id))
    assert taken == sent
    assert len(marks.dump()) <= 4 * 3


def test_topics_are_apart():
    marks = Marks()
    assert marks.take("postings", 0, "1-5")
    assert marks.take("authorisations", 0, "1-4")
    assert not marks.take("postings", 0, "1-4")


@pytest.mark.parametrize("text", ["", "5", "a-1", "1-", "-1", "1-x", "1-2-3"])
def test_what_is_no_id_is_an_error(text):
    with pytest.raises(ValueError, match="expected an id, SHARD-SEQUENCE"):
        Marks().take("postings", 0, text)


class _Record:
    topic, partition, offset = "postings", 3, 7
    headers: tuple[tuple[str, bytes], ...] = (("other", b"1-1"),)


def test_a_record_without_an_id_is_told_by_its_place():
    with pytest.raises(ValueError, match="postings partition 3 at offset 7"):
        event_id_of(_Record())
    record = _Record()
    record.headers = (*record.headers, ("event-id", b"2-9"))
    assert event_id_of(record) == "2-9"
