"""Which engines are configured, and how each is fed."""

from collections.abc import Iterator

from switch.publish.settings import KafkaSettings
from switch.publisher.forwarder import Plan

# Enough for a record batch of every partition, and not more than a few megabytes.
KAFKA_ENTRIES_MAX = 8192
# What comes within it is one round of requests.
KAFKA_INTERVAL_SECONDS = 0.05


def names_of(kafka: KafkaSettings) -> tuple[str, ...]:
    return ("kafka",) if kafka.bootstrap else ()


def plans_of(kafka: KafkaSettings) -> Iterator[Plan]:
    if kafka.bootstrap:
        from switch.publish.kafka import KafkaEngine

        yield Plan(
            "kafka",
            lambda: KafkaEngine(kafka),
            entries_max=KAFKA_ENTRIES_MAX,
            interval_seconds=KAFKA_INTERVAL_SECONDS,
        )
