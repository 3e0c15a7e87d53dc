from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from switch.observe.metrics import (
    METRICS,
    SERIES_MAX,
    Histogram,
    Sample,
    make_registry,
)


def scrape(*samples):
    registry, collector = make_registry("1.2")
    collector.add(lambda: samples)
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_and_gauges_show_with_their_labels():
    shown = scrape(
        Sample("requests", 3, ("a", "0100", "00")),
        Sample("requests", 2, ("a", "0100", "51")),
        Sample("connections", 4, ("a",)),
    )
    labels = [("link", "a"), ("mti", "0100")]
    key = "switch_requests_total"
    assert shown[key, *labels, ("response_code", "00")] == 3
    assert shown[key, *labels, ("response_code", "51")] == 2
    assert shown["switch_connections", ("link", "a")] == 4
    assert shown["switch_build_info", ("version", "1.2")] == 1


def test_the_same_series_of_two_sources_is_summed():
    half = Histogram((1.0, 2.0), (1, 2, 3), 9.5)
    shown = scrape(
        Sample("entries", 1),
        Sample("entries", 2),
        Sample("reply_seconds", half, ("a",)),
        Sample("reply_seconds", half, ("a",)),
    )
    assert shown["switch_entries_total",] == 3
    assert shown["switch_reply_seconds_bucket", ("le", "1.0"), ("link", "a")] == 2
    assert shown["switch_reply_seconds_bucket", ("le", "2.0"), ("link", "a")] == 6
    assert shown["switch_reply_seconds_bucket", ("le", "+Inf"), ("link", "a")] == 12
    assert shown["switch_reply_seconds_count", ("link", "a")] == 12
    assert shown["switch_reply_seconds_sum", ("link", "a")] == 19


def test_label_sets_are_bounded():
    shown = scrape(
        *(Sample("requests", 1, ("a", str(i), "00")) for i in range(SERIES_MAX + 10))
    )
    series = {key: value for key, value in shown.items() if "requests" in key[0]}
    assert len(series) == SERIES_MAX + 1
    assert sum(series.values()) == SERIES_MAX + 10


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (Sample("nothing", 1), "expected a defined one, got 'nothing'"),
        (Sample("requests", 1, ("0100",)), "requests: expected labels"),
    ],
)
def test_a_sample_that_is_not_defined_is_a_bug(sample, message):
    with pytest.raises(ValueError, match=message):
        scrape(sample)


def test_definitions_are_usable_as_they_stand():
    for name, definition in METRICS.items():
        assert name.isidentifier()
        assert not name.endswith("_total")
        assert definition.help
