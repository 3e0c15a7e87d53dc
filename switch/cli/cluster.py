"""`switch cluster`."""

import argparse
from typing import TYPE_CHECKING

from switch.cli import exits
from switch.cli.options import Subparsers, add_command, add_json, print_json
from switch.cli.settings import add_data_settings, load_settings

if TYPE_CHECKING:
    from switch.cluster.status import Status

_NUMBERS = frozenset({"shards", "head", "shard", "epoch"})


def add(subparsers: Subparsers) -> None:
    group = subparsers.add_parser(
        "cluster", help="make the cluster of a configuration, look at it"
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = add_command(
        actions,
        "init",
        run_init,
        summary="make what is missing of a cluster: keyspace, tables, key file; may be "
        "done again",
        example="switch cluster init --config node1.toml",
    )
    status = add_command(
        actions,
        "status",
        run_status,
        summary="show a cluster's nodes and shards: owners, epochs, heads of the logs",
        example="switch cluster status --config node1.toml",
    )
    for parser in (init, status):
        add_data_settings(parser)
    add_json(status)


def run_init(arguments: argparse.Namespace) -> int:
    import asyncio

    from switch.cluster_store import init_cluster

    config = load_settings(arguments).config
    is_new_key = asyncio.run(init_cluster(config))
    settings = config.cluster
    print(
        f"cluster {settings.name}: keyspace {settings.cassandra.keyspace}, "
        f"{config.journal.shards} shards"
    )
    if is_new_key:
        print(f"{settings.pan_key_file}: made; copy it to every node, and keep a copy")
    return exits.OK


def run_status(arguments: argparse.Namespace) -> int:
    import asyncio

    import msgspec

    from switch.cluster.status import Status, status
    from switch.cluster_store import open_cluster

    config = load_settings(arguments).config

    async def ask() -> Status:
        async with open_cluster(config) as cluster:
            return await status(
                cluster.store, cluster.etcd, cluster.name, cluster.shard_count
            )

    found = asyncio.run(ask())
    if arguments.json:
        print_json(msgspec.to_builtins(found) | {"whole": found.is_whole})
    else:
        _show(found)
    return exits.OK if found.is_whole else exits.NOT_SO


def _show(found: "Status") -> None:
    from rich.console import Console
    from rich.table import Table

    members = Table(box=None, pad_edge=False)
    for name in ("node", "address", "shards", "head", "lease", "session"):
        members.add_column(name, justify="right" if name in _NUMBERS else "left")
    for each in found.members:
        head = "-" if each.head is None else f"{each.head:,}"
        members.add_row(
            each.node, each.address, str(each.shards), head, each.lease, each.session
        )
    shards = Table(box=None, pad_edge=False)
    for name in ("shard", "owner", "epoch", "state"):
        shards.add_column(name, justify="right" if name in _NUMBERS else "left")
    for shard in found.shards:
        epoch = "-" if shard.epoch is None else str(shard.epoch)
        state = "open" if shard.is_open else "not open"
        shards.add_row(str(shard.shard), shard.owner or "-", epoch, state)
    console = Console(highlight=False)
    console.print(f"cluster {found.cluster}: {len(found.members)} nodes")
    console.print(members)
    console.print()
    console.print(shards)
