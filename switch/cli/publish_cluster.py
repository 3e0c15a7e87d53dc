"""`switch publish` of a cluster: the same commands, for the positions in Cassandra."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from switch.cli import exits
from switch.cli.options import print_json
from switch.cli.progress import progress

if TYPE_CHECKING:
    from switch.config import Config
    from switch.node_publisher.moves import ClusterEngines, EngineReport

T = TypeVar("T")


def run_status(arguments: argparse.Namespace, config: Config) -> int:
    from msgspec import to_builtins

    with progress("journal", 1.0) as advance:

        async def ask(engines: ClusterEngines) -> list[EngineReport]:
            names = await engines.all_names()
            return [await engines.report(name, advance) for name in names]

        reports = _ask(config, ask)
    if arguments.json:
        print_json(to_builtins(reports))
        return exits.OK
    for each in reports:
        words = [f"{each.engine}: {each.entries:,} entries are out"]
        words.append(f"{each.waiting:,} wait")
        if not each.configured:
            words.append(
                "not configured, and logs are kept for it: "
                f"`switch publish forget {each.engine}` ends that"
            )
        print(", ".join(words))
    return exits.OK


def run_move(arguments: argparse.Namespace, config: Config, *, forward: bool) -> int:
    from msgspec import to_builtins

    from switch.publish.port import PublishError

    if arguments.to_commit is not None:
        raise PublishError(
            "expected --to-id or --to-time, got --to-commit: in a cluster each session "
            "numbers its commits"
        )
    time = arguments.to_time
    moment = None if time is None else int(time.timestamp() * 1000)
    with progress("journal", 1.0) as advance:
        moved = _ask(
            config,
            lambda engines: (engines.skip if forward else engines.rewind)(
                arguments.engine, advance, moment=moment, event_id=arguments.to_id
            ),
        )
    if arguments.json:
        print_json(to_builtins(moved))
        return exits.OK
    what = "will not be sent" if forward else "will be sent again"
    print(
        f"{moved.engine}: {moved.entries:,} entries of {moved.shards:,} shards {what}"
    )
    return exits.OK


def run_forget(arguments: argparse.Namespace, config: Config) -> int:
    from msgspec import to_builtins

    forgotten = _ask(config, lambda engines: engines.forget(arguments.engine))
    if arguments.json:
        print_json(to_builtins(forgotten))
        return exits.OK
    print(
        f"{forgotten.engine}: forgotten, with {forgotten.entries:,} entries out; no "
        "log is kept for it any more"
    )
    return exits.OK


def _ask(config: Config, ask: Callable[[ClusterEngines], Awaitable[T]]) -> T:
    from switch.cluster_store import open_cluster
    from switch.journal.cassandra.chains import Moved
    from switch.node_publisher.moves import ClusterEngines
    from switch.node_publisher.process import engines_of
    from switch.publish.port import PublishError

    async def asked() -> T:
        async with open_cluster(config) as cluster:
            names = engines_of(config.publish.kafka, config.publish.nsq)
            engines = ClusterEngines(cluster.store, cluster.shard_count, names)
            try:
                return await ask(engines)
            except Moved:
                raise PublishError(
                    "expected shards and logs to stay where they are, got one that "
                    "moved meanwhile: try again"
                ) from None

    return asyncio.run(asked())
