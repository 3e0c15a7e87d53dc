"""What `switch notify` counts: served by itself, not by the switch."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from switch.observe.metrics import PREFIX, Definition

OUTCOMES: Final = ("taken", "not_taken")
METRICS: Final = {
    "notify_posts": Definition("counter", "requests sent", ("outcome",)),
    "notify_repeats": Definition("counter", "pushes that were there before"),
    "notify_dead_letters": Definition("counter", "pushes put aside"),
    "notify_seconds": Definition(
        "histogram", "from the decision to the webhook's answer"
    ),
    "notify_nsqd": Definition("gauge", "nsqd that it is connected to"),
}
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)


class Metrics:
    """See `switch.notify.deliveries.Counts`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._posts = self._counter("notify_posts")
        self._repeats = self._counter("notify_repeats")
        self._dead = self._counter("notify_dead_letters")
        self._seconds = Histogram(
            PREFIX + "notify_seconds",
            METRICS["notify_seconds"].help,
            buckets=_BOUNDS,
            registry=self.registry,
        )
        self.nsqd = Gauge(
            PREFIX + "notify_nsqd", METRICS["notify_nsqd"].help, registry=self.registry
        )
        for outcome in OUTCOMES:
            self._posts.labels(outcome)

    def _counter(self, name: str) -> Counter:
        definition = METRICS[name]
        return Counter(
            PREFIX + name, definition.help, definition.labels, registry=self.registry
        )

    def delivered(self, seconds: float | None) -> None:
        self._posts.labels("taken").inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def failed(self) -> None:
        self._posts.labels("not_taken").inc()

    def repeated(self) -> None:
        self._repeats.inc()

    def put_aside(self) -> None:
        self._dead.inc()
