"""Which engines are configured, and how each is fed."""

from collections.abc import Iterator

from switch.publish.settings import KafkaSettings, NsqSettings
from switch.publisher.forwarder import Plan
from switch.publisher.releases import Releases

# Enough for a record batch of every partition, and not more than a few megabytes.
KAFKA_ENTRIES_MAX = 8192
# One is with the brokers, one is ready to be sent when that is acknowledged, and one is
# being read meanwhile.
KAFKA_BATCHES_MAX = 3
# What comes within it is one round of requests.
KAFKA_INTERVAL_SECONDS = 0.05
# A push is to be there at once; what comes while one is on its way is the next batch.
NSQ_ENTRIES_MAX = 1024
NSQ_BATCHES_MAX = 2
NSQ_INTERVAL_SECONDS = 0.0


def names_of(kafka: KafkaSettings, nsq: NsqSettings) -> tuple[str, ...]:
    hosts = {"kafka": kafka.bootstrap, "nsq": nsq.nsqd}
    return tuple(name for name, given in hosts.items() if given)


def plans_of(
    kafka: KafkaSettings, nsq: NsqSettings, *, has_one_log: bool = True
) -> Iterator[Plan]:
    """`has_one_log`: a later commit has a higher number. Otherwise how old a push is
    says its time alone."""
    if kafka.bootstrap:
        from switch.publish.kafka import KafkaEngine

        yield Plan(
            "kafka",
            lambda: KafkaEngine(kafka),
            entries_max=KAFKA_ENTRIES_MAX,
            batches_max=KAFKA_BATCHES_MAX,
            interval_seconds=KAFKA_INTERVAL_SECONDS,
        )
    if nsq.nsqd:
        from switch.publish.nsq import NsqEngine
        from switch.publish.push import never_seen

        counts: dict[str, int] = {}
        releases = Releases()
        yield Plan(
            "nsq",
            lambda: NsqEngine(nsq, counts, releases.age if has_one_log else never_seen),
            entries_max=NSQ_ENTRIES_MAX,
            batches_max=NSQ_BATCHES_MAX,
            interval_seconds=NSQ_INTERVAL_SECONDS,
            counts=counts,
            saw=releases.saw,
        )
