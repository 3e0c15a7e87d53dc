"""What a cluster's nodes have published, and whether it is what they answered."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from switch.publish.jsonlines import event_files
from tests.end_to_end.clustered import ClusterOfNodes
from tests.end_to_end.kafka_topics import records

Event = dict[str, Any]


def kafka_settings(bootstrap: str, prefix: str) -> str:
    return (
        "[publish.kafka]\n"
        f"bootstrap = {json.dumps([bootstrap])}\n"
        f"topic_prefix = {json.dumps(prefix)}\n"
        "partitions = 4\n"
    )


def nsq_settings(nsqd: Sequence[str], topic: str) -> str:
    return f"[publish.nsq]\nnsqd = {json.dumps(nsqd)}\ntopic = {json.dumps(topic)}\n"


def in_kafka(bootstrap: str, prefix: str) -> dict[str, Event]:
    """By id. An account's first occurrences are in order in each topic, whoever sent
    them, and what is there twice has the same content."""
    found: dict[str, Event] = {}
    last: dict[tuple[str, str], int] = defaultdict(int)
    for record in records(bootstrap, prefix):
        event = json.loads(record.value or b"")
        if found.setdefault(event["id"], event) is not event:
            assert found[event["id"]] == event
            continue
        sequence = int(event["id"].partition("-")[2])
        place = record.topic, event["account"]
        assert sequence > last[place], f"{event['id']} comes behind {last[place]}"
        last[place] = sequence
    return found


def in_files(cluster: ClusterOfNodes) -> dict[str, Event]:
    """Those of all nodes, by id. Within a node's files a shard's come in order."""
    found: dict[str, Event] = {}
    for node in cluster.nodes.values():
        last: dict[str, int] = defaultdict(int)
        of_node: set[str] = set()
        for path in event_files(node.data / "events"):
            for event in map(json.loads, path.read_bytes().splitlines()):
                assert found.setdefault(event["id"], event) == event
                shard, _, sequence = event["id"].partition("-")
                if event["id"] not in of_node:
                    assert int(sequence) > last[shard], event["id"]
                    last[shard] = int(sequence)
                of_node.add(event["id"])
    return found


def without_gaps(found: Iterable[str]) -> int:
    """How many entries these are: of each shard, all from the first to the last."""
    sequences: dict[int, set[int]] = defaultdict(set)
    for event_id in found:
        shard, _, sequence = event_id.partition("-")
        sequences[int(shard)].add(int(sequence))
    for number, those in sequences.items():
        assert those == set(range(1, len(those) + 1)), f"shard {number} has a gap"
    return sum(map(len, sequences.values()))


def balances_of(events: Mapping[str, Event]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for event in events.values():
        if event["account"] is not None:
            found[event["account"]] += event.get("balance_change", 0)
    return dict(found)


def published(
    cluster: ClusterOfNodes, config: Path | None = None
) -> dict[str, tuple[int, int]]:
    """By engine: how many entries are out, and how many wait."""
    done = cluster.run("publish", "status", "--json", config=config)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    return {each["engine"]: (each["entries"], each["waiting"]) for each in reports}
