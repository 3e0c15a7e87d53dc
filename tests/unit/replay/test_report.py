import re
from typing import Any
from xml.etree import ElementTree

import pytest

import iso8583
from switch.replay.client import Answer
from switch.replay.comparing import Difference
from switch.replay.load import Latencies
from switch.replay.page import histogram, page
from switch.replay.report import BUCKETS_MS, Bucket, ReplayReport, Tally

CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
MESSAGE = CODEC.message({"mti": "0100", 2: "9999990000000014", 11: "000001"})
ANSWER = CODEC.message({"mti": "0110", 11: "000001", 39: "00"})


def report_of(tally: Tally, **more) -> ReplayReport:
    figures: dict[str, Any] = dict.fromkeys(
        (
            *("sent", "answered", "matched", "different", "not_compared"),
            *("unanswered", "unexpected", "skipped", "unmapped", "unreadable"),
        ),
        0,
    )
    figures |= {
        "different_fields": tally.different_fields,
        "response_codes": tally.response_codes,
        "latency_ms": Latencies(*[0.0] * 4),
        "latency_buckets": tally.buckets(),
        "late_ms_max": 0.0,
        "seconds": 1.0,
        "connections": 1,
        "faults": [],
        "notes": {},
        "frames": tally.frames(),
    }
    return ReplayReport(**figures | more)


def add(tally: Tally, elapsed_ms: float, index: int = 0, differences=None) -> None:
    answer = Answer(ANSWER, elapsed_ms)
    tally.add(index, f"line {index}", MESSAGE, answer, differences)


def test_answers_are_counted_by_how_long_they_took():
    tally = Tally(0)
    for elapsed_ms in (0.3, 0.31, 0.5, 1.2, 99_999.0):
        add(tally, elapsed_ms)
    counts = {each.up_to_ms: each.count for each in tally.buckets()}
    assert {end: count for end, count in counts.items() if count} == {
        0.3: 1,
        0.5: 2,
        1.5: 1,
        None: 1,
    }
    assert next(iter(counts)) == 0.3
    assert tally.latencies().max == pytest.approx(99_999.0, rel=0.01)
    assert list(BUCKETS_MS) == sorted(BUCKETS_MS)


def test_the_histogram_has_a_bar_of_its_height_for_each_bucket():
    buckets = [Bucket(1.0, 50), Bucket(1.5, 0), Bucket(None, 100)]
    svg = ElementTree.fromstring(histogram(buckets))
    heights = [float(bar.get("height", "")) for bar in svg.iter("rect")]
    assert heights == [80.0, 0.0, 160.0]
    texts = [text.text for text in svg.iter("text")]
    assert texts == ["50", "1", None, "1.5", "100", "more"]


@pytest.mark.parametrize(
    "fault",
    [
        *({"different": 1}, {"unanswered": 1}, {"unexpected": 1}, {"unmapped": 1}),
        *({"unreadable": 1}, {"faults": ["connection 1: closed"]}),
    ],
)
def test_any_fault_is_told_on_the_page(fault):
    good, bad = report_of(Tally(0)), report_of(Tally(0), **fault)
    assert good.complete
    assert not bad.complete
    assert "all answered" in page("Replay", "x", good)
    assert "not as captured" in page("Replay", "x", bad)


def test_what_a_peer_sends_is_no_markup():
    tally = Tally(5)
    evil = "<script>alert(1)</script>\x1b[31m"
    add(tally, 1.0, differences=[Difference(44, evil, "&amp;")])
    report = report_of(tally, faults=[evil], notes={evil: 1})
    text = page(evil, evil, report)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m" in text
    assert "&amp;amp;" in text
    # the elements are closed, too: what is behind the doctype is a document
    body = re.sub(r"<(meta[^>]*|br)>", "", text.partition("\n")[2])
    assert ElementTree.fromstring(body).tag == "html"
