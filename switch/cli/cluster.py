"""`switch cluster`."""

import argparse

from switch.cli import exits
from switch.cli.options import Subparsers, add_command
from switch.cli.settings import add_data_settings, load_settings


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
    add_data_settings(init)


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
