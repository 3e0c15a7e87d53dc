"""What a consumer finds in Kafka, and whether that is what the journal says."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from switch.publish.topics import TOPICS
from tests.end_to_end.harness import WAIT_SECONDS_MAX, run_switch

Event = dict[str, Any]


def records(
    bootstrap: str, prefix: str = "", **options: Any
) -> list["ConsumerRecord[bytes, bytes]"]:
    """Everything in the topics, each partition in its order."""
    return asyncio.run(_records(bootstrap, prefix, options))


async def _records(
    bootstrap: str, prefix: str, options: Mapping[str, Any]
) -> list["ConsumerRecord[bytes, bytes]"]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", **options
    )
    found: list[ConsumerRecord[bytes, bytes]] = []
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await consumer.start()
        try:
            places = []
            for topic in TOPICS:
                await consumer._client._wait_on_metadata(prefix + topic)
                partitions = consumer.partitions_for_topic(prefix + topic) or ()
                places += [TopicPartition(prefix + topic, each) for each in partitions]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            await consumer.seek_to_beginning(*places)
            while any([await consumer.position(each) < ends[each] for each in places]):
                got = await consumer.getmany(timeout_ms=100)
                for some in got.values():
                    found += some
        finally:
            await consumer.stop()
    return found


def journal_events(data: Path) -> dict[str, Event]:
    """By their id, in the journal's order."""
    done = run_switch("journal", "dump", data, "--json")
    assert done.returncode == 0, done.stderr
    return {event["id"]: event for event in map(json.loads, done.stdout.splitlines())}


def check(
    found: list["ConsumerRecord[bytes, bytes]"],
    wanted: Mapping[str, Event],
    prefix: str = "",
    refused: frozenset[str] = frozenset(),
) -> int:
    """Kafka has what the journal has: all of it but what was `refused`, nothing else,
    an account's first occurrences in order in each topic, and whatever is there twice
    with the same id and content. How many are there more than once."""
    first: dict[str, bytes] = {}
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    last: dict[tuple[str, str | None], int] = {}
    for record in found:
        assert record.value is not None
        event = json.loads(record.value)
        assert dict(record.headers) == {"event-id": event["id"].encode()}
        account = event["account"]
        assert record.key == (None if account is None else account.encode())
        if event["id"] in first:
            assert first[event["id"]] == record.value, event["id"]
            continue
        first[event["id"]] = record.value
        assert event == wanted.get(event["id"]), "not what the journal says"
        shown = record.topic.removeprefix(prefix)
        if account is None:
            continue
        sequence = int(event["id"].partition("-")[2])
        before = last.get((shown, account), 0)
        assert sequence > before, f"{event['id']} comes behind {before} in {shown}"
        last[shown, account] = sequence
        places[account].add((shown, record.partition))
    assert set(first) == set(wanted) - refused
    for account, those in places.items():
        assert len({topic for topic, _ in those}) == len(those), account
    return len(found) - len(first)
