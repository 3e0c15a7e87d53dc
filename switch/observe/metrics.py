"""Metrics: what there is, and how plain counters become it.

Rule 1: nothing on the hot path calls prometheus_client. Whoever counts keeps plain
        integers and hands over a source: a function that reads them at scrape.
Rule 2: every metric stands in METRICS, with its labels. Labels come from small closed
        sets; above SERIES_MAX of one metric the rest is summed up as "other".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

# Some dozens of requests' outcomes for each of some dozens of links.
SERIES_MAX = 2000
PREFIX = "switch_"


class Definition(Struct, frozen=True):
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


class Histogram(Struct, frozen=True):
    """`counts[i]` were at most `bounds[i]`; the last count is of those above all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Sample(Struct, frozen=True):
    name: str
    value: float | Histogram
    labels: tuple[str, ...] = ()


Source = Callable[[], Iterable[Sample]]

# Seconds; powers of two of a microsecond keep the native counters to one instruction.
SECONDS_BOUNDS = tuple((1 << power) / 1e6 for power in range(4, 25))
SIZE_BOUNDS = tuple(float(1 << power) for power in range(17))

LINK = ("link",)
# `events` or `read_model`.
SINK = ("sink",)
# `kafka` or `nsq`.
ENGINE = ("engine",)
# `data` or `events`.
DIRECTORY = ("directory",)
METRICS: dict[str, Definition] = {
    "build_info": Definition("gauge", "always 1; the version runs", ("version",)),
    # -- requests
    "requests": Definition(
        "counter", "requests and advices answered", ("link", "mti", "response_code")
    ),
    "requests_in_flight": Definition(
        "gauge", "requests that wait for their commit", LINK
    ),
    "duplicates": Definition(
        "counter", "repeats that got their first answer again", LINK
    ),
    "reply_seconds": Definition(
        "histogram", "from the read of a request's last byte to the write of its reply",
        LINK,
    ),
    # -- journal
    "commits": Definition("counter", "commits that became durable"),
    "commit_seconds": Definition("histogram", "how long a commit took"),
    "commit_entries": Definition("histogram", "entries in a commit"),
    "commit_in_flight_seconds": Definition(
        "gauge", "how long the commit in flight has been written; 0: there is none"
    ),
    "entries": Definition("counter", "entries written to the journal"),
    "journal_head": Definition("gauge", "number of the last durable commit"),
    "released_head": Definition("gauge", "number of the last commit answered"),
    # -- follower
    "published_head": Definition("gauge", "number of the last commit published"),
    "projected_head": Definition(
        "gauge", "number of the last commit in the read model"
    ),
    "follower_lag_commits": Definition(
        "gauge", "commits answered that a sink does not have", SINK
    ),
    "follower_lag_seconds": Definition(
        "gauge", "how long ago the oldest of these was answered", SINK
    ),
    "follower_faulty": Definition(
        "gauge", "1 while a sink cannot go on and is tried again, else 0", SINK
    ),
    "follower_up": Definition("gauge", "1 while the follower runs, else 0"),
    "follower_restarts": Definition("counter", "times it ended and was started again"),
    # -- publisher
    "publisher_up": Definition("gauge", "1 while the publisher runs, else 0"),
    "publisher_restarts": Definition("counter", "times it ended and was started again"),
    "publish_lag_seconds": Definition(
        "gauge", "how long ago the oldest entry was answered that it does not have",
        ENGINE,
    ),
    "publish_lag_entries": Definition(
        "gauge", "entries answered that an engine has not acknowledged", ENGINE
    ),
    "publish_faulty": Definition(
        "gauge", "1 while an engine cannot go on and is tried again, else 0", ENGINE
    ),
    "publish_events": Definition(
        "counter", "events acknowledged since the publisher began", ENGINE
    ),
    "publish_retries": Definition(
        "counter", "times an engine failed and was opened again", ENGINE
    ),
    "publish_refused": Definition(
        "counter", "events set aside, for the engine will never take them", ENGINE
    ),
    "publish_stale": Definition(
        "counter", "pushes that were too old when their turn came", ENGINE
    ),
    "publish_dropped": Definition(
        "counter", "pushes not sent, for they were too old", ENGINE
    ),
    "publish_copies_owed": Definition(
        "gauge", "second copies of pushes that a server does not have yet", ENGINE
    ),
    "publish_copies_missed": Definition(
        "counter", "second copies of pushes that were given up", ENGINE
    ),
    "publish_servers_down": Definition(
        "gauge", "servers of an engine that it has no connection to", ENGINE
    ),
    # -- cluster
    "cluster_shards": Definition("gauge", "shards that are open on this node"),
    "cluster_sessions_lost": Definition(
        "counter", "sessions that ended before the node was stopped"
    ),
    "cluster_session_up": Definition(
        "gauge", "1 while the node has a session, else 0"
    ),
    "cluster_lease_seconds": Definition(
        "gauge", "how long it may rely on what it owns, if etcd says nothing more"
    ),
    "cluster_members": Definition("gauge", "nodes that are there, this one included"),
    "cluster_shards_unowned": Definition(
        "gauge", "shards that no node has, as far as this one knows"
    ),
    "cluster_shards_taken": Definition("counter", "shards that came to this node"),
    "cluster_shards_given_up": Definition("counter", "shards that it gave away"),
    "cluster_takeover_seconds": Definition(
        "histogram", "how long it took to take some shards, until all of them answer"
    ),
    "cluster_move_seconds": Definition(
        "histogram", "how long it took to give a shard away, once it was to go"
    ),
    "log_append_seconds": Definition(
        "histogram", "how long Cassandra took to acknowledge a commit"
    ),
    "fence_read_seconds": Definition(
        "histogram", "how long it took to see that nobody has taken over"
    ),
    "rows_written": Definition("counter", "rows of accounts written in this session"),
    "rows_lag_entries": Definition("gauge", "entries that these rows do not have"),
    "rows_lag_seconds": Definition(
        "gauge", "how long ago they had all of them; 0: they have"
    ),
    "retention_passes": Definition(
        "counter", "times that this node looked for what may be dropped of the logs"
    ),
    "segments_dropped": Definition("counter", "segments of logs that it dropped"),
    "cluster_nodes_up": Definition(
        "gauge", "other nodes that this one has a connection to"
    ),
    "forwarded_pending": Definition(
        "gauge", "requests for shards of other nodes that wait for their answer"
    ),
    "forwarded_expired": Definition(
        "counter", "requests answered 91 because their shard did not answer in time"
    ),
    "voids_made": Definition("counter", "of these, those made true in the shard"),
    "voids_given_up": Definition("counter", "of these, those that may have a hold"),
    "asked_by_nodes": Definition("counter", "requests and calls of other nodes"),
    "asked_not_mine": Definition("counter", "of these, those for shards elsewhere"),
    "asked_refused": Definition("counter", "of these, those not decided"),
    # -- disks
    "disk_free_bytes": Definition(
        "gauge", "free on the disk of a directory, for us", DIRECTORY
    ),
    "disk_size_bytes": Definition("gauge", "size of that disk", DIRECTORY),
    # -- ledger
    "accounts": Definition("gauge", "accounts in memory"),
    "cards": Definition("gauge", "cards in memory"),
    "transactions_remembered": Definition("gauge", "transactions kept for repeats"),
    "transactions_forgotten_early": Definition(
        "counter", "transactions forgotten within the duplicate window, for room"
    ),
    # -- links
    "link_up": Definition("gauge", "1 while messages can come by it, else 0", LINK),
    "connections": Definition("gauge", "open connections", LINK),
    "connections_signed_on": Definition(
        "gauge", "open connections that are signed on", LINK
    ),
    "connections_opened": Definition("counter", "connections, either way", LINK),
    "connections_refused": Definition(
        "counter", "connections closed at once, above the limit or while draining", LINK
    ),
    "connections_closed": Definition(
        "counter", "connections ended", ("link", "reason")
    ),
    "dials_failed": Definition("counter", "attempts that made no connection", LINK),
    "frames_received": Definition("counter", "frames that were not heartbeats", LINK),
    "requests_forwarded": Definition(
        "counter", "requests whose shard another node has, or nobody yet", LINK
    ),
    "heartbeats_received": Definition("counter", "frames of no body", LINK),
    "bytes_received": Definition("counter", "bytes read from links", LINK),
    "bytes_sent": Definition("counter", "bytes written to links", LINK),
    "frames_malformed": Definition(
        "counter", "frames that could not be read", ("link", "outcome")
    ),
    "approvals_withdrawn": Definition(
        "counter", "approvals that were not durable by their deadline: declined", LINK
    ),
    "faults": Definition("counter", "requests that met an unexpected error", LINK),
    "network_requests_unanswered": Definition(
        "counter", "requests of our own that got no answer in time", LINK
    ),
    "responses_dropped": Definition(
        "counter", "responses thrown away: nobody asked, or the peer is gone",
        ("link", "reason"),
    ),
    "reads_paused": Definition(
        "counter", "times a connection was not read", ("link", "by")
    ),
}  # fmt: skip


class Totals:
    """Samples summed by their series."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[tuple[str, ...], float | Histogram]] = {}

    def add(self, sample: Sample) -> None:
        definition = METRICS.get(sample.name)
        if definition is None:
            raise ValueError(f"metric: expected a defined one, got {sample.name!r}")
        if len(sample.labels) != len(definition.labels):
            raise ValueError(
                f"metric {sample.name}: expected labels {definition.labels}, "
                f"got {sample.labels}"
            )
        _merge(self._by_name.setdefault(sample.name, {}), sample)

    def samples(self) -> Iterator[Sample]:
        for name, series in self._by_name.items():
            for labels, value in series.items():
                yield Sample(name, value, labels)

    def families(self) -> Iterator[Metric]:
        for name, definition in METRICS.items():
            if name in self._by_name:
                yield _family(name, definition, self._by_name[name])


class SwitchCollector(Collector):
    """Reads every source at scrape and hands prometheus_client what they say."""

    def __init__(self) -> None:
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        self._sources.append(source)

    def remove(self, source: Source) -> None:
        self._sources.remove(source)

    def collect(self) -> Iterator[Metric]:
        totals = Totals()
        for source in self._sources:
            for sample in source():
                totals.add(sample)
        yield from totals.families()


def _merge(
    series: dict[tuple[str, ...], float | Histogram], sample: Sample
) -> None:  # fmt: skip
    labels = sample.labels
    if labels not in series and len(series) >= SERIES_MAX:
        labels = ("other",) * len(labels)
    present = series.get(labels)
    if present is None:
        series[labels] = sample.value
    elif isinstance(present, Histogram) and isinstance(sample.value, Histogram):
        assert present.bounds == sample.value.bounds
        pairs = zip(present.counts, sample.value.counts, strict=True)
        series[labels] = Histogram(
            present.bounds,
            tuple(a + b for a, b in pairs),
            present.sum + sample.value.sum,
        )
    else:
        assert not isinstance(present, Histogram)
        assert not isinstance(sample.value, Histogram)
        series[labels] = present + sample.value


def _family(
    name: str,
    definition: Definition,
    series: dict[tuple[str, ...], float | Histogram],
) -> Metric:
    full_name, labels = PREFIX + name, definition.labels
    if definition.kind == "histogram":
        histogram = HistogramMetricFamily(full_name, definition.help, labels=labels)
        for values, value in series.items():
            assert isinstance(value, Histogram)
            histogram.add_metric(values, _buckets(value), value.sum)
        return histogram
    family = (
        CounterMetricFamily(full_name, definition.help, labels=labels)
        if definition.kind == "counter"
        else GaugeMetricFamily(full_name, definition.help, labels=labels)
    )
    for values, value in series.items():
        assert not isinstance(value, Histogram)
        family.add_metric(values, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    edges = [*(repr(bound) for bound in histogram.bounds), "+Inf"]
    for edge, count in zip(edges, histogram.counts, strict=True):
        total += count
        buckets.append((edge, float(total)))
    return buckets


def make_registry(version: str) -> tuple[CollectorRegistry, SwitchCollector]:
    """A registry of our own: nothing that a library registers by itself shows up."""
    registry = CollectorRegistry(auto_describe=False)
    collector = SwitchCollector()
    collector.add(lambda: [Sample("build_info", 1, (version,))])
    registry.register(collector)
    return registry, collector
